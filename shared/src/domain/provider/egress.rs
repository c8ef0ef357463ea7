//! Which hosts a request may go to.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;
use thiserror::Error;

/// Where a request may go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Egress {
    /// The URL's host must be one of these.
    pub hosts: Arc<[HostPattern]>,
    /// Whether the operator wrote the host, as he does for a service of his own: it may be called without TLS, and
    /// may be at a private address.
    pub is_named_by_operator: bool,
}

impl Egress {
    /// Whether a URL's host (an IPv6 address with or without its brackets) is among them.
    pub fn allows(&self, host: &str, port: u16) -> bool {
        self.hosts.iter().any(|pattern| pattern.matches(host, port))
    }
}

/// A host, or every host below a domain; at one port, or at any where none is written.
///
/// Written as `api.example.com`, `*.example.com` (one or more labels before, never the domain itself), `platform:8080`,
/// `127.0.0.1`, `::1` or `[::1]:8080`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub struct HostPattern {
    host: Host,
    port: Option<u16>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Host {
    Address(IpAddr),
    Name(String),
    /// Every name that ends with a dot and this.
    Below(String),
}

/// A text that is no host pattern. The text is not repeated: it may be a URL with a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct HostPatternError(&'static str);

const BRACKETS: HostPatternError = HostPatternError("what stands in brackets must be an IPv6 address");

impl HostPattern {
    /// The host of an absolute URL, with its port where it names one.
    ///
    /// # Errors
    /// If there is no host, or one that no pattern could be.
    pub fn of_url(url: &str) -> Result<Self, HostPatternError> {
        let (_, rest) =
            url.split_once("://").ok_or(HostPatternError("must be a URL that begins with https://"))?;
        let end = rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len());
        rest[..end].parse()
    }

    /// Whether it fits this host (an IPv6 address with or without its brackets) at this port.
    pub fn matches(&self, host: &str, port: u16) -> bool {
        if self.port.is_some_and(|own| own != port) {
            return false;
        }
        match &self.host {
            Host::Address(address) => {
                let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
                bare.parse() == Ok(*address)
            }
            Host::Name(name) => host.eq_ignore_ascii_case(name),
            Host::Below(domain) => {
                let host = host.to_ascii_lowercase();
                let labels = host.strip_suffix(domain.as_str()).and_then(|host| host.strip_suffix('.'));
                labels.is_some_and(|labels| labels.split('.').all(|label| !label.is_empty()))
            }
        }
    }

    /// Whether it stands for more than one host.
    pub fn is_wildcard(&self) -> bool {
        matches!(self.host, Host::Below(_))
    }
}

impl FromStr for HostPattern {
    type Err = HostPatternError;

    fn from_str(text: &str) -> Result<Self, HostPatternError> {
        if text.contains(['/', '?', '#', '@', '\\']) {
            return Err(HostPatternError("must be a host alone, without scheme, user or path"));
        }
        let text = text.to_ascii_lowercase();
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Ok(Self { host: Host::Address(address.into()), port: None });
        }
        // The colons of an IPv6 address stand inside its brackets.
        let brackets_end = match text.starts_with('[') {
            true => text.find(']').map(|end| end + 1).ok_or(BRACKETS)?,
            false => 0,
        };
        let (host, port) = match text[brackets_end..].find(':') {
            None => (text.as_str(), None),
            Some(colon) => {
                let (host, port) = text.split_at(brackets_end + colon);
                (host, Some(parse_port(&port[1..])?))
            }
        };
        Ok(Self { host: Host::parse(host)?, port })
    }
}

impl TryFrom<String> for HostPattern {
    type Error = HostPatternError;

    fn try_from(text: String) -> Result<Self, HostPatternError> {
        text.parse()
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(IpAddr::V6(address)) => write!(formatter, "[{address}]"),
            Host::Address(IpAddr::V4(address)) => write!(formatter, "{address}"),
            Host::Name(name) => formatter.write_str(name),
            Host::Below(domain) => write!(formatter, "*.{domain}"),
        }?;
        self.port.map_or(Ok(()), |port| write!(formatter, ":{port}"))
    }
}

fn parse_port(text: &str) -> Result<u16, HostPatternError> {
    let port = if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None };
    port.filter(|port| *port > 0).ok_or(HostPatternError("its port must be a number between 1 and 65535"))
}

impl Host {
    fn parse(text: &str) -> Result<Self, HostPatternError> {
        if let Some(address) = text.strip_prefix('[') {
            let address = address.strip_suffix(']').and_then(|address| address.parse::<Ipv6Addr>().ok());
            let address =
                address.ok_or(HostPatternError("what stands in brackets must be an IPv6 address"))?;
            return Ok(Self::Address(address.into()));
        }
        if let Ok(address) = text.parse::<Ipv4Addr>() {
            return Ok(Self::Address(address.into()));
        }
        let Some(domain) = text.strip_prefix("*.") else {
            check_name(text)?;
            return Ok(Self::Name(text.to_owned()));
        };
        check_name(domain)?;
        // All of a top-level domain is nobody's own.
        if !domain.contains('.') {
            return Err(HostPatternError("a * needs a domain of at least two labels, as in *.example.com"));
        }
        Ok(Self::Below(domain.to_owned()))
    }
}

/// A name as URLs have it (RFC 1123, 2.1, and the underscore of service names).
fn check_name(name: &str) -> Result<(), HostPatternError> {
    let problem = if name.is_empty() {
        "must not be empty"
    } else if name.contains('*') {
        "a * may only stand at the beginning, as in *.example.com"
    } else if !name.is_ascii() {
        "an international name must be written in its ASCII form, xn--…"
    } else if name.ends_with('.') {
        "must not end with a dot"
    } else if name.len() > 253 || !name.split('.').all(is_label) {
        "holds a character, or a label, that no host name has"
    } else if name.rsplit('.').next().is_some_and(is_number) {
        "an IPv4 address must be written as four decimal numbers, without leading zeros"
    } else {
        return Ok(());
    };
    Err(HostPatternError(problem))
}

fn is_label(label: &str) -> bool {
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    (1..=63).contains(&label.len())
        && label.bytes().all(is_letter)
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// URL parsers take a host whose last label is a number for an IPv4 address, in any of its old spellings.
fn is_number(label: &str) -> bool {
    let hexadecimal = label.strip_prefix("0x");
    label.bytes().all(|byte| byte.is_ascii_digit())
        || hexadecimal.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pattern(text: &str) -> HostPattern {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// A pattern, hosts and ports that it fits, and others.
    type Case = (&'static str, &'static [(&'static str, u16)], &'static [(&'static str, u16)]);

    #[test]
    fn a_pattern_fits_its_hosts_and_no_others() {
        let cases: [Case; 9] = [
            (
                "api.example.com",
                &[("api.example.com", 443), ("api.example.com", 8443), ("API.Example.COM", 443)],
                &[
                    ("example.com", 443),
                    ("x.api.example.com", 443),
                    ("api.example.com.", 443),
                    ("api.example.com.evil.test", 443),
                    ("xapi.example.com", 443),
                    ("", 443),
                ],
            ),
            ("API.Example.com", &[("api.example.com", 443)], &[]),
            (
                "*.example.com",
                &[("a.example.com", 443), ("a.b.example.com", 80), ("A.EXAMPLE.com", 443)],
                &[
                    ("example.com", 443),
                    (".example.com", 443),
                    ("a..example.com", 443),
                    (".a.example.com", 443),
                    ("evilexample.com", 443),
                    ("a.example.com.", 443),
                    ("a.example.com.evil.test", 443),
                    ("a.example.org", 443),
                ],
            ),
            ("*.example.com:8443", &[("a.example.com", 8443)], &[("a.example.com", 443)]),
            ("platform:8080", &[("platform", 8080)], &[("platform", 80), ("platform.evil.test", 8080)]),
            ("my_service", &[("my_service", 80)], &[]),
            (
                "127.0.0.1",
                &[("127.0.0.1", 1)],
                &[("127.0.0.2", 1), ("::ffff:127.0.0.1", 1), ("localhost", 1)],
            ),
            ("::1", &[("[::1]", 1), ("::1", 2), ("[0:0::1]", 3)], &[("[::2]", 1), ("127.0.0.1", 1)]),
            ("[::1]:8080", &[("[::1]", 8080)], &[("[::1]", 80)]),
        ];
        for (text, fitting, others) in cases {
            let pattern = pattern(text);
            for (host, port) in fitting {
                assert!(pattern.matches(host, *port), "{text} must fit {host}:{port}");
            }
            for (host, port) in others {
                assert!(!pattern.matches(host, *port), "{text} must not fit {host}:{port}");
            }
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_its_reason_and_not_repeated() {
        let cases = [
            ("", "empty"),
            ("https://s3cret@api.example.com/a", "a host alone"),
            ("user:s3cret@api.example.com", "a host alone"),
            ("api.example.com/s3cret", "a host alone"),
            ("api.example.com?s3cret", "a host alone"),
            ("api.example.com:", "port"),
            ("api.example.com:0", "port"),
            ("api.example.com:+80", "port"),
            ("api.example.com:65536", "port"),
            ("api.example.com:s3cret", "port"),
            ("api.example.com:80:80", "port"),
            (":80", "empty"),
            ("*", "only stand at the beginning"),
            ("*.*.example.com", "only stand at the beginning"),
            ("api.*.com", "only stand at the beginning"),
            ("*.com", "two labels"),
            ("*.", "empty"),
            ("*.127.0.0.1", "decimal"),
            ("127.1", "decimal"),
            ("0177.0.0.1", "decimal"),
            ("0x7f000001", "decimal"),
            ("2130706433", "decimal"),
            ("1.2.3.256", "decimal"),
            ("[::1", "brackets"),
            ("[127.0.0.1]", "brackets"),
            ("[fe80::1%eth0]", "brackets"),
            ("api.example.com.", "end with a dot"),
            ("api..example.com", "no host name"),
            ("-api.example.com", "no host name"),
            ("api-.example.com", "no host name"),
            ("s3cret api.example.com", "no host name"),
            ("{input.shop}.example.com", "no host name"),
            ("bücher.example", "xn--"),
        ];
        for (text, part) in cases {
            let error = text.parse::<HostPattern>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
            assert!(!error.contains("s3cret"), "{text}: {error}");
        }
        let long = format!("{}.example.com", "a".repeat(64));
        assert!(long.parse::<HostPattern>().is_err());
        assert!(["a"; 127].join(".").parse::<HostPattern>().is_ok());
        assert!(["a"; 128].join(".").parse::<HostPattern>().is_err());
    }

    #[test]
    fn the_host_of_a_url() {
        for (url, host) in [
            ("https://api.example.com", "api.example.com"),
            ("HTTPS://API.example.com/a@b?c", "api.example.com"),
            ("https://api.example.com:8443?a", "api.example.com:8443"),
            ("http://[::1]:8080/a", "[::1]:8080"),
        ] {
            assert_eq!(HostPattern::of_url(url).unwrap(), pattern(host), "{url}");
        }
        for url in
            ["api.example.com", "https://", "https:///a", "https://user@host/", "https://{input.shop}/"]
        {
            assert!(HostPattern::of_url(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_request_may_go_to_any_of_its_hosts() {
        let hosts = [pattern("api.example.com"), pattern("*.example.org")];
        let egress = Egress { hosts: hosts.into(), is_named_by_operator: false };
        assert!(egress.allows("api.example.com", 443) && egress.allows("a.example.org", 443));
        assert!(!egress.allows("example.org", 443));
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = text.parse::<HostPattern>();
        }

        #[test]
        fn what_is_shown_is_read_back_as_the_same(
            text in r"(\*\.)?[a-z][a-z0-9]{0,9}\.[a-z]{1,9}(:[1-9][0-9]{0,3})?|([0-9]{1,2}\.){3}[0-9]|\[::[a-f]\](:1)?"
        ) {
            if let Ok(pattern) = text.parse::<HostPattern>() {
                prop_assert_eq!(pattern.to_string().parse::<HostPattern>(), Ok(pattern));
            }
        }
    }
}
