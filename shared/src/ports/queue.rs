//! The queue between producer and worker.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use thiserror::Error;

use crate::domain::lane::Lane;
use crate::domain::message::{MessageError, RefreshMessage};

/// Trace context as it travels with a message: W3C `traceparent` and `tracestate`.
pub type TraceContext = BTreeMap<String, String>;

/// The member of a [`TraceContext`] that names trace and span.
pub const TRACEPARENT: &str = "traceparent";

/// A message on its way out.
#[derive(Debug, Clone)]
pub struct Outgoing {
    /// The message.
    pub message: RefreshMessage,
    /// The pool whose queue takes it.
    pub pool: String,
    /// The context of its publish span.
    pub context: TraceContext,
}

/// Publishes messages.
#[async_trait]
pub trait Publisher: Send + Sync {
    /// Publishes all of them, pipelined, and waits for every confirm. One answer per message, in order.
    async fn publish(&self, messages: &[Outgoing]) -> Vec<Result<(), PublishError>>;
}

/// A message that is not known to be in its queue.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PublishError {
    /// The broker refused it, for example because the queue is full.
    #[error("the broker refused the message (nack): look at the queue's length and the broker's alarms")]
    Refused,
    /// No queue is bound for its pool and lane.
    #[error(
        "no queue takes routing key `{routing_key}`: start a worker with the same definitions, or declare it"
    )]
    Unroutable {
        /// The routing key.
        routing_key: String,
    },
    /// It was never sent: the broker could not be reached, or one before it failed.
    #[error("not sent to the broker: {problem}")]
    NotSent {
        /// What the client says.
        problem: String,
    },
    /// No confirm came from its queue, while the broker answers; a message that was sent may or may not be in it.
    #[error("no confirm from its queue: {problem}")]
    QueueSilent {
        /// How long it was waited for, and what to do.
        problem: String,
        /// Not so where another message was waited for in vain before.
        is_sent: bool,
    },
    /// No confirm came; the message may or may not be in the queue.
    #[error("no confirm from the broker: {problem}")]
    Unconfirmed {
        /// What the client says.
        problem: String,
    },
}

impl PublishError {
    /// Whether it is certain that no queue has the message.
    pub fn is_certain(&self) -> bool {
        match self {
            Self::Refused | Self::Unroutable { .. } | Self::NotSent { .. } => true,
            Self::QueueSilent { is_sent, .. } => !is_sent,
            Self::Unconfirmed { .. } => false,
        }
    }

    /// Whether the broker itself did not answer, rather than refuse this message.
    pub fn is_broker_away(&self) -> bool {
        match self {
            Self::NotSent { .. } | Self::Unconfirmed { .. } => true,
            Self::Refused | Self::Unroutable { .. } | Self::QueueSilent { .. } => false,
        }
    }

    /// For labels and traces.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Unroutable { .. } => "unroutable",
            Self::NotSent { .. } => "not_sent",
            Self::QueueSilent { .. } | Self::Unconfirmed { .. } => "unconfirmed",
        }
    }
}

/// Hands out messages, the urgent lane's first.
#[async_trait]
pub trait Consumer: Send {
    /// The next message. Waits for one, and for the broker to come back where it is away.
    ///
    /// # Errors
    /// Only when there is no way to go on, for example a queue that exists with other arguments.
    async fn next(&mut self) -> Result<Delivery, ConsumeError>;

    /// Stops to take messages and gives back those that were not handed out.
    async fn stop(&mut self);

    /// After [`Consumer::stop`], once everything that was handed out is settled: waits until the broker has taken that in, so
    /// that the end of this process undoes none of it.
    async fn finish(&mut self) {}
}

/// Consuming cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("messages cannot be consumed: {problem}")]
pub struct ConsumeError {
    /// What the broker says, and what to do.
    pub problem: String,
}

/// A message that was handed out and has to be settled.
pub struct Delivery {
    /// The body as received.
    pub body: Vec<u8>,
    /// The lane of the queue that it came from.
    pub lane: Lane,
    /// Where it came from, for traces: `exchange:routing key:queue`.
    pub destination: Arc<str>,
    /// Whether it was handed out before, so that whoever had it may have died.
    pub redelivered: bool,
    /// The trace context that came with it.
    pub context: TraceContext,
    /// How to settle it.
    pub settle: Box<dyn Settle>,
}

/// Settles one delivery. Dropping it without settling gives the message back, at the latest with the session's end.
#[async_trait]
pub trait Settle: Send + Sync {
    /// Done with the message.
    async fn acknowledge(self: Box<Self>) -> Result<(), SettleError>;

    /// Gives the message back to its queue.
    async fn requeue(self: Box<Self>) -> Result<(), SettleError>;

    /// Puts the message, with the reason in its headers, on the dead-letter queue, and only then is done with it.
    async fn dead_letter(self: Box<Self>, body: Vec<u8>, reason: MessageError) -> Result<(), SettleError>;
}

/// A message that may be handed out again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the message could not be settled and may come again: {problem}")]
pub struct SettleError {
    /// What the client says.
    pub problem: String,
}

/// Looks at the queues, for whoever watches the fleet.
#[async_trait]
pub trait QueueObserver: Send + Sync {
    /// How many messages wait in each queue, the dead letters' included.
    async fn depths(&self) -> Result<Vec<QueueDepth>, ObserveError>;
}

/// One queue as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueDepth {
    /// Its name.
    pub queue: String,
    /// Messages that no consumer holds.
    pub ready: u32,
    /// Its consumers.
    pub consumers: u32,
}

/// The broker did not say how its queues stand.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the queues cannot be looked at: {problem}")]
pub struct ObserveError {
    /// What the client says.
    pub problem: String,
}
