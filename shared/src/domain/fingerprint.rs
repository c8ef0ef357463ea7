//! Telling whether a connection's credentials are other ones than before, without keeping them.

use chrono::{DateTime, Utc};
use ring::digest::{Context, SHA256};

use super::connection::ConnectionId;
use super::secret::Secret;

/// Bytes that are kept of the digest: enough to tell two apart, too few to try out guesses at a secret with.
const KEPT: usize = 8;

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
    let digest = context.finish();
    digest.as_ref().iter().take(KEPT).map(|byte| format!("{byte:02x}")).collect()
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
