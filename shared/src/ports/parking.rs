//! Where the answer of a provider waits that the database is not there to take.

use async_trait::async_trait;
use thiserror::Error;

use crate::domain::kept_answer::KeptAnswer;
use crate::domain::message::{MessageError, ParkedMessage};

/// Parks answers, sealed, where they outlive this process and any worker finds them.
#[async_trait]
pub trait Parking: Send + Sync {
    /// Returns once the answer is known to be safe there. `provider` names the definition that reads it.
    async fn park(&self, answer: &KeptAnswer, provider: &str) -> Result<(), ParkError>;

    /// Opens an answer that was parked.
    ///
    /// # Errors
    /// Why it goes to the dead letters.
    fn open(&self, message: &ParkedMessage) -> Result<KeptAnswer, MessageError>;
}

/// An answer is not parked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ParkError {
    /// Nothing secret leaves this process unsealed.
    #[error("there is no key to seal it with: set encryption.key_file, whose primary key seals")]
    NoKey,
    /// It is not known to be there; the same again may succeed.
    #[error("the queue did not take it: {problem}")]
    NotTaken {
        /// What the broker or the client says.
        problem: String,
    },
}
