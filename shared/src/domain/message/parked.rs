//! An answer that waits in a queue for the database.

use serde::{Deserialize, Serialize};

use super::{MessageError, VERSION, decode_version};
use crate::domain::connection::{ConnectionId, Generation, IdempotencyKey};

/// A sealed [`KeptAnswer`](crate::domain::kept_answer::KeptAnswer) on its way through the queue. What it holds is shown to
/// nobody without the key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParkedMessage {
    /// Version of this form.
    pub v: u32,
    /// Whose answer.
    pub connection_id: ConnectionId,
    /// The generation that was spent for it.
    pub generation: Generation,
    /// Name of the provider definition that reads it.
    pub provider: String,
    /// The answer, sealed.
    pub sealed: String,
}

impl ParkedMessage {
    /// A sealed answer of this version's.
    pub fn new(
        connection_id: ConnectionId,
        generation: Generation,
        provider: String,
        sealed: String,
    ) -> Self {
        Self { v: VERSION, connection_id, generation, provider, sealed }
    }

    /// What the message is idempotent by; also its AMQP `message_id`.
    pub fn idempotency_key(&self) -> IdempotencyKey {
        IdempotencyKey { connection_id: self.connection_id, generation: self.generation }
    }

    /// As bytes for the queue.
    pub fn encode(&self) -> Vec<u8> {
        // Numbers and texts always have a JSON form, and a Vec takes every byte.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a message from the queue.
    ///
    /// # Errors
    /// Says what is wrong without quoting the message.
    pub fn decode(bytes: &[u8]) -> Result<Self, MessageError> {
        decode_version(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_wire_form_is_fixed() {
        let message =
            ParkedMessage::new(ConnectionId(12), Generation(3), "bol".into(), "freshet:1:k:x".into());
        let text = String::from_utf8(message.encode()).unwrap();
        assert_eq!(
            text,
            r#"{"v":1,"connection_id":12,"generation":3,"provider":"bol","sealed":"freshet:1:k:x"}"#
        );
        assert_eq!(ParkedMessage::decode(text.as_bytes()), Ok(message));
        let newer = text.replace("\"v\":1", "\"v\":2");
        assert_eq!(ParkedMessage::decode(newer.as_bytes()).unwrap_err().reason(), "unsupported_version");
    }
}
