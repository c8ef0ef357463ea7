//! From our request to reqwest's, byte for byte.

use reqwest::header::{HeaderName, HeaderValue};
use reqwest::{Body, Method, Request, Url};
use zeroize::Zeroizing;

use crate::domain::provider::definition;
use crate::domain::provider::request::ProviderRequest;
use crate::ports::provider::CallError;

pub(super) fn build(request: &ProviderRequest) -> Result<Request, CallError> {
    let unsendable = |problem| CallError::Unsendable { endpoint: request.endpoint.clone(), problem };
    let method = match request.method {
        definition::Method::Get => Method::GET,
        definition::Method::Post => Method::POST,
    };
    let mut outgoing = Request::new(method, parse(request.url.expose()).map_err(unsendable)?);
    for (name, value) in &request.headers {
        let name = HeaderName::from_bytes(name.as_bytes());
        let value = HeaderValue::from_bytes(value.expose().as_bytes());
        let (Ok(name), Ok(mut value)) = (name, value) else {
            return Err(unsendable("a header's name or value holds a character that HTTP does not allow"));
        };
        // Keeps it out of debug output and out of HTTP/2's compression table.
        value.set_sensitive(true);
        outgoing.headers_mut().append(name, value);
    }
    if let Some(body) = &request.body {
        *outgoing.body_mut() = Some(Body::from(body.expose().to_owned()));
    }
    Ok(outgoing)
}

/// The URL, if it goes out as it is written.
fn parse(text: &str) -> Result<Url, &'static str> {
    let url =
        Url::parse(text).map_err(|_| "the URL is not valid: check its template and the values in it")?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err("the URL begins with neither https:// nor http://");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("the URL holds a user or password before its host: use a header");
    }
    if !is_sent_as_written(text, &url) {
        return Err("the URL would not be sent as it is written: percent-encode what a URL does not allow");
    }
    Ok(url)
}

/// The parser mends what it reads: it encodes characters, resolves dots, drops line ends. What was mended is not
/// what the definition says, and a secret that was encoded on the way is another secret.
fn is_sent_as_written(text: &str, url: &Url) -> bool {
    let Some((_, rest)) = text.split_once("://") else { return false };
    let written = rest.find(['/', '?', '#']).and_then(|start| rest.get(start..)).unwrap_or_default();
    let mut sent = Zeroizing::new(String::with_capacity(text.len() + 1));
    sent.push_str(url.path());
    if let Some(query) = url.query() {
        sent.push('?');
        sent.push_str(query);
    }
    // A path of nothing goes out as a slash.
    sent.as_str() == written || !written.starts_with('/') && sent.strip_prefix('/') == Some(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_go_out_as_written_are_taken() {
        for url in [
            "https://api.test",
            "https://api.test/",
            "https://api.test:8443/a/b",
            "HTTPS://API.test/A?b=C",
            "https://api.test?a=b",
            "https://api.test/a%2Fb/c?u=%26%2B+%20&p=a/b?c:d@e~-._!$()*,;",
            "http://127.0.0.1:80/?a=",
            "http://[::1]:8080/a",
        ] {
            assert!(parse(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn urls_that_would_be_mended_are_refused() {
        for (url, part) in [
            ("", "not valid"),
            ("api.test/a", "not valid"),
            ("https://", "not valid"),
            ("https://api.test:99999/", "not valid"),
            ("ftp://api.test/", "neither"),
            ("file:///etc/passwd", "neither"),
            ("https://user@api.test/", "header"),
            ("https://user:s3cret@api.test/", "header"),
            ("https://api.test/a b", "percent-encode"),
            ("https://api.test/?a=ä", "percent-encode"),
            ("https://api.test/?a=\"", "percent-encode"),
            ("https://api.test/?a='", "percent-encode"),
            ("https://api.test/?a=b#s3cret", "percent-encode"),
            ("https://api.test/a/../b", "percent-encode"),
            ("https://api.test/a/%2e%2e/b", "percent-encode"),
            ("https://api.test/?a=\nb", "percent-encode"),
            ("https://api.test\\a", "percent-encode"),
            ("https:api.test/a", "percent-encode"),
            (" https://api.test/a ", "percent-encode"),
        ] {
            let problem = parse(url).err().unwrap_or_else(|| panic!("{url}"));
            assert!(problem.contains(part), "{url}: {problem}");
            assert!(!problem.contains("s3cret"), "{url}: {problem}");
        }
    }
}
