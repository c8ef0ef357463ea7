//! The message: a hint that a connection is due. It never carries a token.

mod parked;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::connection::{ConnectionId, Generation, IdempotencyKey};
use super::lane::Lane;
use super::sealing::SealError;

pub use parked::ParkedMessage;

/// The version that this build writes and reads.
pub const VERSION: u32 = 1;

/// One connection that is due, as it travels through the queue.
///
/// Members that are not known are passed over, so that a newer producer may add some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshMessage {
    /// Version of this form.
    pub v: u32,
    /// What to refresh.
    pub connection_id: ConnectionId,
    /// The generation that the scan saw; a refresh that finds another one has nothing to do.
    pub generation: Generation,
    /// Name of the provider definition.
    pub provider: String,
    /// Which scan found it.
    pub lane: Lane,
    /// Since when it is due.
    pub due_at: DateTime<Utc>,
}

impl RefreshMessage {
    /// What the message is idempotent by; also its AMQP `message_id`.
    pub fn idempotency_key(&self) -> IdempotencyKey {
        IdempotencyKey { connection_id: self.connection_id, generation: self.generation }
    }

    /// As bytes for the queue.
    pub fn encode(&self) -> Vec<u8> {
        // A struct of numbers, a string and a date always has a JSON form, and a Vec takes every byte.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a message from the queue.
    ///
    /// # Errors
    /// Says what is wrong without quoting the message: it may come from anywhere.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        decode_version(bytes)
    }
}

/// Reads a message of this version's.
fn decode_version<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, MessageError> {
    let value: serde_json::Value = serde_json::from_slice(bytes)
        .map_err(|error| MessageError::NotJson { line: error.line(), column: error.column() })?;
    let version = value.get("v").ok_or_else(|| MessageError::Field { path: "v".into() })?;
    if version.as_u64() != Some(u64::from(VERSION)) {
        let found = version.as_i64().map_or_else(|| "not a number".into(), |number| number.to_string());
        return Err(MessageError::UnsupportedVersion { found });
    }
    serde_path_to_error::deserialize(value)
        .map_err(|error| MessageError::Field { path: error.path().to_string() })
}

/// Why a message cannot be read. It goes to the dead-letter queue with [`MessageError::reason`].
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MessageError {
    /// Not JSON at all.
    #[error("the message is not JSON (line {line}, column {column})")]
    NotJson {
        /// Line of the first fault.
        line: usize,
        /// Column of the first fault.
        column: usize,
    },
    /// Of a version that this build does not read.
    #[error(
        "message version {found} is not supported, this build reads version {VERSION}: upgrade the workers before the producer"
    )]
    UnsupportedVersion {
        /// The version that it names.
        found: String,
    },
    /// A member is missing or of the wrong type.
    #[error("the message's member `{path}` is missing or of the wrong type")]
    Field {
        /// Which one; `.` stands for the whole message, where a member is missing.
        path: String,
    },
    /// No definition of that name is loaded here.
    #[error(
        "no provider definition is named `{name}` here: deploy it to the workers, or remove the producer's"
    )]
    UnknownProvider {
        /// The name, cut to what a name may be.
        name: String,
    },
    /// A parked answer that no key here opens.
    #[error(
        "{0}; with the right key in encryption.key_file, move the message back to the queue that it came from: the answer in \
         it may hold the connection's only good refresh token"
    )]
    Sealed(SealError),
    /// A parked answer that opens and is none.
    #[error(
        "the parked answer cannot be read: a newer version wrote it, so upgrade the workers and move it back"
    )]
    NotAnAnswer,
}

impl MessageError {
    /// A short word for the dead letter's reason header and for counting.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotJson { .. } => "not_json",
            Self::UnsupportedVersion { .. } => "unsupported_version",
            Self::Field { .. } => "invalid_field",
            Self::UnknownProvider { .. } => "unknown_provider",
            Self::Sealed(_) => "unreadable_secret",
            Self::NotAnAnswer => "not_an_answer",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message() -> RefreshMessage {
        RefreshMessage {
            v: VERSION,
            connection_id: ConnectionId(12),
            generation: Generation(3),
            provider: "fynd".into(),
            lane: Lane::Urgent,
            due_at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn the_wire_form_is_fixed() {
        let text = String::from_utf8(message().encode()).unwrap();
        assert_eq!(
            text,
            r#"{"v":1,"connection_id":12,"generation":3,"provider":"fynd","lane":"urgent","due_at":"1970-01-01T00:00:00Z"}"#
        );
        assert_eq!(RefreshMessage::decode(text.as_bytes()), Ok(message()));
    }

    #[test]
    fn members_of_a_newer_producer_are_passed_over() {
        let mut value = serde_json::to_value(message()).unwrap();
        value["added_later"] = "x".into();
        assert_eq!(RefreshMessage::decode(value.to_string().as_bytes()), Ok(message()));
    }

    #[test]
    fn what_cannot_be_read_is_named_and_not_quoted() {
        let cases: [(&str, &str, &str); 6] = [
            ("", "not_json", "line 1"),
            ("{\"v\":1,", "not_json", "column"),
            ("{}", "invalid_field", "`v`"),
            ("{\"v\":2}", "unsupported_version", "version 2"),
            ("{\"v\":\"s3cret\"}", "unsupported_version", "not a number"),
            (
                r#"{"v":1,"connection_id":"s3cret","generation":3,"provider":"fynd","lane":"early","due_at":"1970-01-01T00:00:00Z"}"#,
                "invalid_field",
                "`connection_id`",
            ),
        ];
        for (text, reason, part) in cases {
            let error = RefreshMessage::decode(text.as_bytes()).unwrap_err();
            assert_eq!(error.reason(), reason, "{text}");
            assert!(error.to_string().contains(part), "{error}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }
}
