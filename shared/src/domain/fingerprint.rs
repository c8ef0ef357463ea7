//! Telling whether a connection's credentials are other ones than before, without keeping them.

use chrono::{DateTime, Utc};
use ring::digest::{Context, Digest, SHA256};

use super::connection::ConnectionId;
use super::secret::Secret;

/// Bytes that are kept of the digest: enough to tell two apart, too few to try out guesses at a secret with.
const KEPT: usize = 8;

/// A short digest of a text that holds no secret.
pub(super) fn of_text(text: &str) -> String {
    shortened(ring::digest::digest(&SHA256, text.as_bytes()))
}

/// A whole digest of a token as it stands in its column, sealed or not: `SHA2(…, 256)` of the servers says the same. It is
/// compared and never kept.
pub(crate) fn of_stored_token(text: &Secret) -> String {
    hex(ring::digest::digest(&SHA256, text.expose().as_bytes()).as_ref())
}

/// A short digest of the refresh token alone: tells whether a call that may have spent one was about this one.
pub(super) fn grant_fingerprint(id: ConnectionId, refresh_token: Option<&Secret>) -> String {
    fingerprint(id, None, refresh_token, None)
}

/// A short digest of what a connection is authorised by. The id is part of it, so that equal credentials of two
/// connections do not look equal.
pub(super) fn fingerprint(
    id: ConnectionId,
    expires_at: Option<DateTime<Utc>>,
    refresh_token: Option<&Secret>,
    input_fields: Option<&Secret>,
) -> String {
    let mut context = Context::new(&SHA256);
    context.update(&id.0.to_be_bytes());
    context.update(&expires_at.map_or(0, |at| at.timestamp()).to_be_bytes());
    for secret in [refresh_token, input_fields] {
        let text = secret.map_or("", Secret::expose);
        // With its length, so that no text can move from one field into the other.
        context.update(&(text.len() as u64).to_be_bytes());
        context.update(text.as_bytes());
    }
    shortened(context.finish())
}

fn shortened(digest: Digest) -> String {
    hex(digest.as_ref().get(..KEPT).unwrap_or_default())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        for digit in [byte >> 4, byte & 0x0f] {
            text.push(char::from_digit(digit.into(), 16).unwrap_or('0'));
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(id: i64, expiry: i64, refresh_token: Option<&str>, input: &str) -> String {
        let refresh_token = refresh_token.map(Secret::new);
        let expires_at = DateTime::from_timestamp(expiry, 0);
        fingerprint(ConnectionId(id), expires_at, refresh_token.as_ref(), Some(&Secret::new(input)))
    }

    #[test]
    fn a_stored_tokens_digest_is_what_the_servers_say() {
        // SELECT SHA2('abc', 256)
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of_stored_token(&Secret::new("abc")), expected);
    }

    #[test]
    fn it_changes_with_everything_that_a_person_may_change_and_with_nothing_else() {
        let then = of(1, 5, Some("refresh"), "{}");
        assert_eq!(then, of(1, 5, Some("refresh"), "{}"));
        assert_eq!(then.len(), 2 * KEPT);
        let others = [
            of(2, 5, Some("refresh"), "{}"),
            of(1, 6, Some("refresh"), "{}"),
            of(1, 5, Some("other"), "{}"),
            of(1, 5, None, "{}"),
            of(1, 5, Some("refresh"), "{ }"),
            of(1, 5, Some("refresh{"), "}"),
        ];
        assert!(!others.contains(&then));
    }
}
