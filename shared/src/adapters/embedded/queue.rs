//! The queue inside one process: what RabbitMQ does for a fleet, without a server and without outliving us.
//!
//! Pools share it, which is why a slow marketplace can hold the others back here and not with RabbitMQ.

mod consumer;
mod state;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

pub use self::consumer::InProcessConsumer;
pub use self::state::{DeadLetter, QueueDepth};
use self::state::{Message, State};
use crate::ports::queue::{Outgoing, PublishError, Publisher};

/// A queue of two lanes, the urgent one first.
#[derive(Default)]
pub struct InProcessQueue {
    state: Mutex<State>,
    arrivals: Notify,
}

impl InProcessQueue {
    /// An empty queue.
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    /// One more consumer. Each message goes to one of them.
    pub fn consumer(self: &Arc<Self>) -> InProcessConsumer {
        InProcessConsumer::new(Arc::clone(self))
    }

    /// How many messages it holds, and where.
    pub fn depth(&self) -> QueueDepth {
        self.state().depth()
    }

    /// The latest dead letters, the oldest first.
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.state().dead_letters()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No code that holds it can leave it half changed.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn requeue(&self, message: Message) {
        if self.state().put_back(message) {
            self.arrivals.notify_waiters();
        }
    }
}

#[async_trait]
impl Publisher for InProcessQueue {
    async fn publish(&self, messages: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        let incoming: Vec<Message> = messages.iter().map(Message::new).collect();
        self.state().put(incoming);
        self.arrivals.notify_waiters();
        messages.iter().map(|_| Ok(())).collect()
    }
}

#[cfg(test)]
mod tests;
