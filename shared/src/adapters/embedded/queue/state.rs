//! What the queue holds.

use std::collections::VecDeque;

use crate::domain::lane::Lane;
use crate::ports::queue::{Outgoing, TraceContext};

/// As `x-delivery-limit` of the RabbitMQ queues: a message that ends its worker again and again has to go.
const DELIVERY_LIMIT: u32 = 50;

/// Dead letters are kept to be looked at, not for good.
const DEAD_LETTERS_KEPT: usize = 1_000;

/// One message, in the queue or in somebody's hands.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) body: Vec<u8>,
    pub(super) lane: Lane,
    pub(super) context: TraceContext,
    returns: u32,
}

impl Message {
    pub(super) fn new(outgoing: &Outgoing) -> Self {
        Self {
            body: outgoing.message.encode(),
            lane: outgoing.message.lane,
            context: outgoing.context.clone(),
            returns: 0,
        }
    }

    pub(super) fn redelivered(&self) -> bool {
        self.returns > 0
    }
}

/// A message that was put aside for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The body as received.
    pub body: Vec<u8>,
    /// The lane that it came from.
    pub lane: Lane,
    /// A short word: that of [`MessageError::reason`](crate::domain::message::MessageError::reason), or
    /// `delivery_limit`.
    pub reason: &'static str,
    /// What is wrong with it, in words.
    pub detail: String,
}

/// How many messages a queue holds, and where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct QueueDepth {
    /// Waiting for a consumer.
    pub ready: usize,
    /// Handed out and not settled.
    pub unacknowledged: usize,
    /// Put aside for a person, ever.
    pub dead: u64,
}

#[derive(Debug, Default)]
pub(super) struct State {
    urgent: VecDeque<Message>,
    early: VecDeque<Message>,
    unacknowledged: usize,
    dead: VecDeque<DeadLetter>,
    dead_count: u64,
}

impl State {
    pub(super) fn put(&mut self, messages: Vec<Message>) {
        for message in messages {
            self.lane(message.lane).push_back(message);
        }
    }

    /// Hands out the next message.
    pub(super) fn take(&mut self) -> Option<Message> {
        let message = self.urgent.pop_front().or_else(|| self.early.pop_front())?;
        self.unacknowledged += 1;
        Some(message)
    }

    /// A message that was handed out is done with.
    pub(super) fn forget(&mut self) {
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
    }

    /// Takes back a message that was handed out; whether it is to be had again.
    pub(super) fn put_back(&mut self, mut message: Message) -> bool {
        if message.returns >= DELIVERY_LIMIT {
            let detail =
                format!("it was handed out {} times and never settled", message.returns.saturating_add(1));
            self.bury(DeadLetter {
                body: message.body,
                lane: message.lane,
                reason: "delivery_limit",
                detail,
            });
            return false;
        }
        self.forget();
        message.returns += 1;
        self.lane(message.lane).push_front(message);
        true
    }

    /// Puts aside what was handed out.
    pub(super) fn bury(&mut self, letter: DeadLetter) {
        self.forget();
        self.dead_count += 1;
        if self.dead.len() == DEAD_LETTERS_KEPT {
            self.dead.pop_front();
        }
        self.dead.push_back(letter);
    }

    pub(super) fn depth(&self) -> QueueDepth {
        QueueDepth {
            ready: self.urgent.len() + self.early.len(),
            unacknowledged: self.unacknowledged,
            dead: self.dead_count,
        }
    }

    pub(super) fn dead_letters(&self) -> Vec<DeadLetter> {
        self.dead.iter().cloned().collect()
    }

    fn lane(&mut self, lane: Lane) -> &mut VecDeque<Message> {
        match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Early => &mut self.early,
        }
    }
}
