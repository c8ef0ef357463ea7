//! Parking inside one process: for tests and simulation. It outlives no process, so `freshet dev` parks nothing.

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use crate::domain::kept_answer::KeptAnswer;
use crate::domain::message::{MessageError, ParkedMessage};
use crate::ports::parking::{ParkError, Parking};

/// Keeps answers in memory, or refuses all of them.
#[derive(Default)]
pub struct InProcessParking {
    parked: Option<Mutex<Vec<(String, KeptAnswer)>>>,
}

impl InProcessParking {
    /// One that takes what it is given. The default one takes nothing.
    pub fn open() -> Self {
        Self { parked: Some(Mutex::default()) }
    }

    /// The parked answers with their providers, the oldest first.
    pub fn parked(&self) -> Vec<(String, KeptAnswer)> {
        self.parked.as_ref().map(|parked| locked(parked).clone()).unwrap_or_default()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No code that holds it can leave it half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Parking for InProcessParking {
    async fn park(&self, answer: &KeptAnswer, provider: &str) -> Result<(), ParkError> {
        let parked = self.parked.as_ref().ok_or(ParkError::NoKey)?;
        locked(parked).push((provider.to_owned(), answer.clone()));
        Ok(())
    }

    /// By connection and generation; nothing is sealed here.
    fn open(&self, message: &ParkedMessage) -> Result<KeptAnswer, MessageError> {
        let is_meant = |answer: &KeptAnswer| {
            answer.connection_id == message.connection_id && answer.generation == message.generation
        };
        let found = self.parked().into_iter().find(|(_, answer)| is_meant(answer));
        found.map(|(_, answer)| answer).ok_or(MessageError::NotAnAnswer)
    }
}
