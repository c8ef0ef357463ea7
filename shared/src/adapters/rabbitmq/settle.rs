//! Settling one delivery.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use lapin::options::BasicRejectOptions;
use lapin::types::DeliveryTag;
use lapin::{Acker, BasicProperties};
use tokio::runtime::Handle;

use super::dead_letters::DeadLetters;
use super::lifeline::Lifeline;
use super::link::timed;
use super::subscription::GIVE_BACK;
use crate::domain::message::MessageError;
use crate::ports::queue::{Settle, SettleError};

/// A message in our hands; given back to its queue, as one that failed, when it is dropped.
pub(super) struct Unsettled {
    pub(super) acker: Acker,
    pub(super) tag: DeliveryTag,
    /// Whether the broker was told what becomes of it, or is being told.
    pub(super) is_settled: bool,
    pub(super) queue: Arc<str>,
    pub(super) properties: BasicProperties,
    pub(super) dead_letters: Arc<DeadLetters>,
    pub(super) limit: Duration,
    /// Held until the message is settled.
    pub(super) lifeline: Arc<Lifeline>,
}

#[async_trait]
impl Settle for Unsettled {
    async fn acknowledge(mut self: Box<Self>) -> Result<(), SettleError> {
        self.is_settled = true;
        let acknowledge = self.lifeline.acknowledgements.acknowledge(self.tag, self.acker.clone());
        self.settle("acknowledge a message of", acknowledge).await
    }

    async fn requeue(mut self: Box<Self>) -> Result<(), SettleError> {
        self.is_settled = true;
        self.settle("give back a message of", self.acker.nack(GIVE_BACK)).await?;
        self.lifeline.acknowledgements.given_back(self.tag);
        Ok(())
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
        // become a dead letter one day.
        if self.is_settled || !self.acker.usable() {
            return;
        }
        let (acker, tag, lifeline) = (self.acker.clone(), self.tag, Arc::clone(&self.lifeline));
        let reject = async move {
            if acker.reject(BasicRejectOptions { requeue: true }).await == Ok(true) {
                lifeline.acknowledgements.given_back(tag);
            }
        };
        match Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn(reject)),
            // The first poll puts the word on its way; nobody is left to hear how it went.
            Err(_) => drop(reject.now_or_never()),
        }
    }
}
