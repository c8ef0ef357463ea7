//! Settling one delivery.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use lapin::options::{BasicAckOptions, BasicRejectOptions};
use lapin::{Acker, BasicProperties};

use super::dead_letters::DeadLetters;
use super::link::timed;
use super::subscription::{GIVE_BACK, Lifeline};
use crate::domain::message::MessageError;
use crate::ports::queue::{Settle, SettleError};

/// A message in our hands; given back to its queue, as one that failed, when it is dropped.
pub(super) struct Unsettled {
    pub(super) acker: Acker,
    pub(super) queue: Arc<str>,
    pub(super) properties: BasicProperties,
    pub(super) dead_letters: Arc<DeadLetters>,
    pub(super) limit: Duration,
    /// Held until the message is settled.
    pub(super) _lifeline: Arc<Lifeline>,
}

#[async_trait]
impl Settle for Unsettled {
    async fn acknowledge(self: Box<Self>) -> Result<(), SettleError> {
        self.settle("acknowledge a message of", self.acker.ack(BasicAckOptions::default())).await
    }

    async fn requeue(self: Box<Self>) -> Result<(), SettleError> {
        self.settle("give back a message of", self.acker.nack(GIVE_BACK)).await
    }

    async fn dead_letter(self: Box<Self>, body: Vec<u8>, reason: MessageError) -> Result<(), SettleError> {
        match self.dead_letters.put(&self.queue, &self.properties, body, &reason).await {
            Ok(()) => self.acknowledge().await,
            // Given back by being dropped.
            Err(error) => {
                Err(SettleError { problem: format!("it could not be put on the dead-letter queue: {error}") })
            }
        }
    }
}

impl Unsettled {
    async fn settle(
        &self,
        action: &'static str,
        step: impl Future<Output = lapin::Result<bool>>,
    ) -> Result<(), SettleError> {
        match timed(self.limit, action, &self.queue, step).await {
            Ok(true) => Ok(()),
            Ok(false) => {
                let problem =
                    format!("cannot {action} `{}`: the session that it came by is over", self.queue);
                Err(SettleError { problem })
            }
            Err(error) => Err(SettleError { problem: error.to_string() }),
        }
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        // A job that panicked would otherwise hold a place of the prefetch for as long as the session lives. From
        // RabbitMQ 4.3 on a reject counts towards the delivery limit and a nack does not: what makes jobs panic has to
        // become a dead letter one day. The first poll puts the word on its way; nobody is left to hear how it went.
        if self.acker.usable() {
            let _ = self.acker.reject(BasicRejectOptions { requeue: true }).now_or_never();
        }
    }
}
