//! Reading an answer's body, which holds a token, up to a limit.

use reqwest::Response;
use zeroize::Zeroizing;

use crate::ports::provider::CallError;

use super::lost;

/// Room for an answer of unknown length; most hold one token.
const USUAL_BYTES: usize = 8 * 1024;

pub(super) async fn read(
    mut response: Response,
    limit: usize,
    endpoint: &str,
) -> Result<Zeroizing<Vec<u8>>, CallError> {
    let too_large = || CallError::TooLarge { endpoint: endpoint.to_owned(), limit };
    let announced = match response.content_length().map(usize::try_from) {
        Some(Ok(length)) if length <= limit => length,
        Some(_) => return Err(too_large()),
        None => USUAL_BYTES.min(limit),
    };
    let mut body = Zeroizing::new(Vec::with_capacity(announced));
    loop {
        let chunk = response.chunk().await;
        let chunk =
            chunk.map_err(|error| lost(&error, endpoint, "the connection ended within the answer"))?;
        let Some(chunk) = chunk else { return Ok(body) };
        if chunk.len() > limit - body.len() {
            return Err(too_large());
        }
        append(&mut body, &chunk);
    }
}

/// A vector that grows by itself leaves its old content behind in memory; this one zeroes it.
fn append(body: &mut Zeroizing<Vec<u8>>, chunk: &[u8]) {
    let length = body.len() + chunk.len();
    if length > body.capacity() {
        let mut larger = Zeroizing::new(Vec::with_capacity(length.max(2 * body.capacity())));
        larger.extend_from_slice(body);
        *body = larger;
    }
    body.extend_from_slice(chunk);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_in_order() {
        let mut body = Zeroizing::new(Vec::with_capacity(1));
        for chunk in [&b"a"[..], b"", b"bcd", b"e", b"fghijklmnop"] {
            append(&mut body, chunk);
        }
        assert_eq!(body.as_slice(), b"abcdefghijklmnop");
    }
}
