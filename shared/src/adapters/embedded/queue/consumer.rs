//! Taking messages out of the queue and settling them.

use std::sync::Arc;

use async_trait::async_trait;

use super::InProcessQueue;
use super::state::{DeadLetter, Message};
use crate::domain::lane::Lane;
use crate::domain::message::MessageError;
use crate::ports::queue::{ConsumeError, Consumer, Delivery, Settle, SettleError};

/// One consumer of an [`InProcessQueue`].
pub struct InProcessConsumer {
    queue: Arc<InProcessQueue>,
    stopped: bool,
}

impl InProcessConsumer {
    pub(super) fn new(queue: Arc<InProcessQueue>) -> Self {
        Self { queue, stopped: false }
    }
}

#[async_trait]
impl Consumer for InProcessConsumer {
    async fn next(&mut self) -> Result<Delivery, ConsumeError> {
        if self.stopped {
            return Err(ConsumeError { problem: "this consumer was stopped".into() });
        }
        loop {
            // Made before looking, so that no arrival between the look and the wait is missed.
            let arrival = self.queue.arrivals.notified();
            let taken = self.queue.state().take();
            if let Some(message) = taken {
                return Ok(delivery(&self.queue, message));
            }
            arrival.await;
        }
    }

    async fn stop(&mut self) {
        // Nothing is taken out before it is asked for, so there is nothing to give back.
        self.stopped = true;
    }
}

fn delivery(queue: &Arc<InProcessQueue>, message: Message) -> Delivery {
    Delivery {
        body: message.body.clone(),
        lane: message.lane,
        destination: match message.lane {
            Lane::Urgent => "freshet.refresh:urgent",
            Lane::Early => "freshet.refresh:early",
        }
        .into(),
        redelivered: message.redelivered(),
        context: message.context.clone(),
        settle: Box::new(Unsettled { queue: Arc::clone(queue), message: Some(message) }),
    }
}

/// A message in somebody's hands; back in the queue when it is dropped.
struct Unsettled {
    queue: Arc<InProcessQueue>,
    /// `None` once it is settled.
    message: Option<Message>,
}

#[async_trait]
impl Settle for Unsettled {
    async fn acknowledge(mut self: Box<Self>) -> Result<(), SettleError> {
        if self.message.take().is_some() {
            self.queue.state().forget();
        }
        Ok(())
    }

    async fn requeue(self: Box<Self>) -> Result<(), SettleError> {
        drop(self);
        Ok(())
    }

    async fn dead_letter(
        mut self: Box<Self>,
        body: Vec<u8>,
        reason: MessageError,
    ) -> Result<(), SettleError> {
        if let Some(message) = self.message.take() {
            let letter =
                DeadLetter { body, lane: message.lane, reason: reason.reason(), detail: reason.to_string() };
            self.queue.state().bury(letter);
        }
        Ok(())
    }
}

impl Drop for Unsettled {
    fn drop(&mut self) {
        if let Some(message) = self.message.take() {
            self.queue.requeue(message);
        }
    }
}
