//! The raw answer of a provider whose refresh tokens rotate, kept until what it holds is stored.
//!
//! It may hold the only refresh token that is good. So it is written down as it came, and not what was read out of it: a
//! definition that reads it wrongly can be corrected, and then it is read again.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use thiserror::Error;
use zeroize::{Zeroize, Zeroizing};

use super::connection::{ConnectionId, Generation, LoadedConnection};
use super::provider::answer::ProviderAnswer;
use super::sealing::{Place, SecretColumn};
use super::secret::Secret;

/// The form that this build writes and reads.
const VERSION: u32 = 1;

/// An answer, with all that is needed to read and to store it later. Holds secrets, so it has no `Debug`.
#[derive(Clone)]
pub struct KeptAnswer {
    /// Whose.
    pub connection_id: ConnectionId,
    /// The generation that was spent.
    pub generation: Generation,
    /// What tells which refresh token was spent.
    pub grant: String,
    /// When the request was sent: a token's life is counted from here.
    pub sent_at: DateTime<Utc>,
    /// When the answer was complete.
    pub answered_at: DateTime<Utc>,
    /// Since when nobody knows what became of an earlier call with the same refresh token.
    pub unknown_since: Option<DateTime<Utc>>,
    /// How long the token before was said to live.
    pub observed: Option<TimeDelta>,
    /// The answer as it came.
    pub answer: ProviderAnswer,
}

/// A text that is no kept answer. Says nothing of what stands there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the kept answer cannot be read: it was changed, or a newer version wrote it")]
pub struct NotAnAnswer;

#[derive(Serialize, Deserialize)]
struct Written {
    v: u32,
    connection_id: ConnectionId,
    generation: Generation,
    grant: String,
    sent_at: DateTime<Utc>,
    answered_at: DateTime<Utc>,
    // Versions before know nothing of it.
    #[serde(default)]
    unknown_since: Option<DateTime<Utc>>,
    observed_s: Option<i64>,
    status: u16,
    retry_after: Option<String>,
    /// In base64: nobody knows which bytes a provider sends.
    body: String,
}

impl Drop for Written {
    fn drop(&mut self) {
        self.body.zeroize();
    }
}

impl KeptAnswer {
    /// Where it stands, for its sealing: the same in MySQL and in a message, so that it opens in both.
    pub fn place(connection_id: ConnectionId) -> Place<'static> {
        Place::of(SecretColumn::KeptAnswer, connection_id)
    }

    /// Whether the refresh token that was spent for it is the one on the row, at the generation that was spent: then what it
    /// holds is what the connection needs.
    pub fn answers(&self, connection: &LoadedConnection) -> bool {
        self.connection_id == connection.id
            && self.generation == connection.generation
            && self.grant == connection.grant_fingerprint()
    }

    /// As text, to be sealed.
    pub fn write(&self) -> Secret {
        let written = Written {
            v: VERSION,
            connection_id: self.connection_id,
            generation: self.generation,
            grant: self.grant.clone(),
            sent_at: self.sent_at,
            answered_at: self.answered_at,
            unknown_since: self.unknown_since,
            observed_s: self.observed.map(|observed| observed.num_seconds()),
            status: self.answer.status,
            retry_after: self.answer.retry_after.clone(),
            body: STANDARD.encode(self.answer.body.as_slice()),
        };
        // Numbers, dates and texts always have a JSON form. At its full size from the start: growing would leave copies of
        // the text behind.
        let mut text = Zeroizing::new(Vec::with_capacity(written.body.len() + 1_024));
        let _ = serde_json::to_writer(&mut *text, &written);
        Secret::new(String::from_utf8_lossy(&text))
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// If it is none, or of another version.
    pub fn read(text: &Secret) -> Result<Self, NotAnAnswer> {
        let written: Written = serde_json::from_str(text.expose()).map_err(|_| NotAnAnswer)?;
        if written.v != VERSION {
            return Err(NotAnAnswer);
        }
        let body = STANDARD.decode(&written.body).map_err(|_| NotAnAnswer)?;
        Ok(Self {
            connection_id: written.connection_id,
            generation: written.generation,
            grant: written.grant.clone(),
            sent_at: written.sent_at,
            answered_at: written.answered_at,
            unknown_since: written.unknown_since,
            observed: written.observed_s.and_then(TimeDelta::try_seconds),
            answer: ProviderAnswer {
                status: written.status,
                retry_after: written.retry_after.clone(),
                body: Zeroizing::new(body),
            },
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::domain::connection::loaded_connection;

    /// An answer to a call that spent the refresh token of this connection.
    pub(crate) fn kept_answer(connection: &LoadedConnection, body: &[u8]) -> KeptAnswer {
        KeptAnswer {
            connection_id: connection.id,
            generation: connection.generation,
            grant: connection.grant_fingerprint(),
            sent_at: DateTime::UNIX_EPOCH,
            answered_at: DateTime::UNIX_EPOCH + TimeDelta::milliseconds(1_500),
            unknown_since: Some(DateTime::UNIX_EPOCH - TimeDelta::seconds(3)),
            observed: Some(TimeDelta::hours(1)),
            answer: ProviderAnswer {
                status: 200,
                retry_after: Some("7".into()),
                body: Zeroizing::new(body.to_vec()),
            },
        }
    }

    #[test]
    fn what_is_written_reads_back_byte_for_byte() {
        let kept = kept_answer(&loaded_connection(3), b"\xff\x00 not even text");
        let read = KeptAnswer::read(&kept.write()).unwrap();
        assert_eq!(
            (read.connection_id, read.generation, &read.grant),
            (ConnectionId(3), kept.generation, &kept.grant)
        );
        assert_eq!(
            (read.sent_at, read.answered_at, read.unknown_since, read.observed),
            (kept.sent_at, kept.answered_at, kept.unknown_since, kept.observed)
        );
        assert_eq!((read.answer.status, read.answer.retry_after.as_deref()), (200, Some("7")));
        assert_eq!(read.answer.body.as_slice(), b"\xff\x00 not even text");
    }

    #[test]
    fn what_an_older_version_wrote_is_read() {
        let written = kept_answer(&loaded_connection(3), b"{}").write();
        let older = written.expose().replace("\"unknown_since\":\"1969-12-31T23:59:57Z\",", "");
        assert_ne!(older, written.expose());
        assert_eq!(KeptAnswer::read(&Secret::new(older)).unwrap().unknown_since, None);
    }

    #[test]
    fn anything_else_is_refused_and_not_quoted() {
        let newer = kept_answer(&loaded_connection(3), b"{}").write().expose().replace("\"v\":1", "\"v\":2");
        for text in ["", "{}", "s3cret", newer.as_str()] {
            let error = KeptAnswer::read(&Secret::new(text)).map(|_| ()).unwrap_err();
            assert!(!error.to_string().contains("s3cret"));
        }
    }

    #[test]
    fn it_answers_only_the_grant_and_generation_that_were_spent() {
        let connection =
            || LoadedConnection { refresh_token: Some(Secret::new("first")), ..loaded_connection(3) };
        let kept = kept_answer(&connection(), b"{}");
        assert!(kept.answers(&connection()));
        assert!(
            !kept.answers(&LoadedConnection { generation: connection().generation.next(), ..connection() })
        );
        assert!(
            !kept.answers(&LoadedConnection { refresh_token: Some(Secret::new("other")), ..connection() })
        );
        assert!(!kept.answers(&LoadedConnection { id: ConnectionId(4), ..connection() }));
    }
}
