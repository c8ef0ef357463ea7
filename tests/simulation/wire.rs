//! The queue between the processes: confirms and settlements may be lost, messages too, and some come twice.

use std::sync::Arc;

use async_trait::async_trait;
use freshet_shared::adapters::embedded::queue::InProcessQueue;
use freshet_shared::domain::message::{MessageError, RefreshMessage};
use freshet_shared::ports::queue::{
    ConsumeError, Consumer, Delivery, Outgoing, PublishError, Publisher, Settle, SettleError,
};

use crate::deadlines::Wait;
use crate::host::Host;

/// How a process publishes.
pub(crate) struct Sender {
    pub(crate) host: Arc<Host>,
    pub(crate) queue: Arc<InProcessQueue>,
}

#[async_trait]
impl Publisher for Sender {
    async fn publish(&self, messages: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        self.host.step("before a publish", None).await;
        let world = &self.host.world;
        let mut answers = Vec::with_capacity(messages.len());
        for outgoing in messages {
            let unconfirmed = world.strikes(|faults| faults.message_unconfirmed);
            let lost = world.strikes(|faults| faults.message_lost);
            let copies = if lost { 0 } else { 1 + usize::from(world.strikes(|faults| faults.message_twice)) };
            for _ in 0..copies {
                self.queue.publish(std::slice::from_ref(outgoing)).await;
            }
            let id = Some(outgoing.message.connection_id.0);
            if lost || unconfirmed {
                world.excuse(id, Wait::MessageLost);
            } else if copies > 1 {
                world.excuse(id, Wait::MessageTwice);
            }
            if unconfirmed {
                // Who is told that the broker is away ends its scan.
                world.excuse(None, Wait::StoreFailed);
            }
            let key = outgoing.message.idempotency_key();
            let lane = outgoing.message.lane;
            self.host.trace(format_args!(
                "published {key} {lane}, {copies} in the queue, confirmed: {}",
                !unconfirmed
            ));
            self.host.lets_go(outgoing.message.connection_id.0);
            answers.push(match unconfirmed {
                true => Err(PublishError::Unconfirmed { problem: "the connection broke".into() }),
                false => Ok(()),
            });
        }
        self.host.step("after a publish", None).await;
        answers
    }
}

/// How a process consumes.
pub(crate) struct Receiver<C> {
    pub(crate) host: Arc<Host>,
    pub(crate) inner: C,
}

#[async_trait]
impl<C: Consumer> Consumer for Receiver<C> {
    async fn next(&mut self) -> Result<Delivery, ConsumeError> {
        let mut delivery = self.inner.next().await?;
        let mut connection = None;
        if let Ok(message) = RefreshMessage::decode(&delivery.body) {
            connection = Some(message.connection_id.0);
            let (key, again) = (message.idempotency_key(), delivery.redelivered);
            self.host.trace(format_args!("takes {key} {}, again: {again}", message.lane));
        }
        let (host, inner) = (self.host.clone(), delivery.settle);
        let hands = Hands::take(&host, connection);
        delivery.settle = Box::new(Settling { host, connection, inner, _hands: hands });
        Ok(delivery)
    }

    async fn stop(&mut self) {
        self.inner.stop().await;
    }
}

struct Settling {
    host: Arc<Host>,
    /// Whose message it is.
    connection: Option<i64>,
    inner: Box<dyn Settle>,
    /// Until it is settled, and what became of that known.
    _hands: Hands,
}

/// A message in the hands of a process.
struct Hands(Arc<Host>, Option<i64>);

impl Hands {
    fn take(host: &Arc<Host>, connection: Option<i64>) -> Self {
        connection.into_iter().for_each(|id| host.takes(id));
        Self(host.clone(), connection)
    }
}

impl Drop for Hands {
    fn drop(&mut self) {
        self.1.into_iter().for_each(|id| self.0.lets_go(id));
    }
}

impl Settling {
    /// Whether it gets through.
    async fn gets_through(&self) -> bool {
        self.host.step("before a settlement", self.connection).await;
        let is_lost = self.host.world.strikes(|faults| faults.settlement_lost);
        if is_lost {
            self.host.world.excuse(self.connection, Wait::MessageTwice);
        }
        !is_lost
    }
}

fn lost() -> SettleError {
    SettleError { problem: "the session ended".into() }
}

#[async_trait]
impl Settle for Settling {
    async fn acknowledge(self: Box<Self>) -> Result<(), SettleError> {
        if self.gets_through().await { self.inner.acknowledge().await } else { Err(lost()) }
    }

    async fn requeue(self: Box<Self>) -> Result<(), SettleError> {
        self.inner.requeue().await
    }

    async fn dead_letter(self: Box<Self>, body: Vec<u8>, reason: MessageError) -> Result<(), SettleError> {
        self.host.world.violated(format!("a message of our own became a dead letter: {reason}"));
        self.inner.dead_letter(body, reason).await
    }
}
