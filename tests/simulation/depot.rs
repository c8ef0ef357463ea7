//! The queue of parked answers: what no worker could store before it ended, and any other may store. Durable, so that no answer
//! is lost that was confirmed; but a confirm may be lost, and a settlement too, and then an answer comes again.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use freshet_shared::domain::kept_answer::KeptAnswer;
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::message::{MessageError, ParkedMessage};
use freshet_shared::ports::parking::{ParkError, Parking};
use freshet_shared::ports::queue::{ConsumeError, Consumer, Delivery, Settle, SettleError};
use tokio::sync::Notify;

use crate::fleet::Ledger;
use crate::host::Host;
use crate::store::Tables;

/// The queue itself.
#[derive(Default)]
pub(crate) struct Depot {
    inner: Mutex<Inner>,
    arrivals: Notify,
}

#[derive(Default)]
struct Inner {
    answers: Vec<KeptAnswer>,
    /// Places of answers, with the provider's name, and whether it was handed out before.
    ready: VecDeque<(usize, String, bool)>,
    handed_out: usize,
    stored: u64,
}

impl Depot {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers that wait, or that somebody has in hand.
    pub(crate) fn depth(&self) -> usize {
        let inner = self.inner();
        inner.ready.len() + inner.handed_out
    }

    /// How many were taken up.
    pub(crate) fn taken_up(&self) -> u64 {
        self.inner().stored
    }

    fn put(&self, answer: &KeptAnswer, provider: &str) {
        let mut inner = self.inner();
        let place = inner.answers.len();
        inner.answers.push(answer.clone());
        inner.ready.push_back((place, provider.to_owned(), false));
        drop(inner);
        self.arrivals.notify_waiters();
    }

    fn take(&self) -> Option<(usize, String, bool, KeptAnswer)> {
        let mut inner = self.inner();
        let (place, provider, is_again) = inner.ready.pop_front()?;
        let answer = inner.answers.get(place)?.clone();
        inner.handed_out += 1;
        Some((place, provider, is_again, answer))
    }

    fn put_back(&self, place: usize, provider: &str) {
        let mut inner = self.inner();
        inner.handed_out -= 1;
        inner.ready.push_front((place, provider.to_owned(), true));
        drop(inner);
        self.arrivals.notify_waiters();
    }
}

/// How a process parks, and takes up what was parked.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) host: Arc<Host>,
    pub(crate) depot: Arc<Depot>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) ledger: Arc<Ledger>,
}

#[async_trait]
impl Parking for Gate {
    async fn park(&self, answer: &KeptAnswer, provider: &str) -> Result<(), ParkError> {
        let world = &self.host.world;
        self.host.step("before an answer is parked", Some(answer.connection_id.0)).await;
        let is_unconfirmed = world.strikes(|faults| faults.message_unconfirmed);
        if !is_unconfirmed || world.draw(2) == 0 {
            self.depot.put(answer, provider);
        }
        let (id, generation) = (answer.connection_id, answer.generation);
        self.host.trace(format_args!("{id}:{generation} is parked, confirmed: {}", !is_unconfirmed));
        self.host.step("after an answer was parked", Some(id.0)).await;
        match is_unconfirmed {
            true => Err(ParkError::NotTaken { problem: "the connection broke".into() }),
            false => Ok(()),
        }
    }

    fn open(&self, message: &ParkedMessage) -> Result<KeptAnswer, MessageError> {
        let place: usize = message.sealed.parse().map_err(|_| MessageError::NotAnAnswer)?;
        self.depot.inner().answers.get(place).cloned().ok_or(MessageError::NotAnAnswer)
    }
}

#[async_trait]
impl Consumer for Gate {
    async fn next(&mut self) -> Result<Delivery, ConsumeError> {
        loop {
            let arrival = self.depot.arrivals.notified();
            if let Some((place, provider, redelivered, answer)) = self.depot.take() {
                let (id, generation) = (answer.connection_id, answer.generation);
                self.host.trace(format_args!("takes the parked answer of {id}:{generation}"));
                self.host.takes(id.0);
                let body = ParkedMessage::new(id, generation, provider.clone(), place.to_string()).encode();
                let settle = Box::new(Parked { gate: self.clone(), place: Some(place), provider, answer });
                return Ok(Delivery {
                    body,
                    lane: Lane::Urgent,
                    destination: "freshet.parked".into(),
                    redelivered,
                    context: Default::default(),
                    settle,
                });
            }
            arrival.await;
        }
    }

    async fn stop(&mut self) {}
}

/// An answer in somebody's hands; back in the queue when it is dropped.
struct Parked {
    gate: Gate,
    place: Option<usize>,
    provider: String,
    answer: KeptAnswer,
}

impl Parked {
    /// Whoever is done with a grant has stored it, or found another that counts.
    fn is_not_lost(&self) {
        // What grants nothing is a failure, and written down as one.
        if self.answer.answer.status != 200 {
            return;
        }
        let (id, generation) = (self.answer.connection_id.0, self.answer.generation.0);
        let world = &self.gate.host.world;
        let standing = match self.gate.tables.generation(id) {
            Ok(standing) => standing,
            Err(error) => return world.violated(format!("the generation of {id} cannot be read: {error}")),
        };
        let was_replaced =
            self.gate.ledger.reconnected_at(id).is_some_and(|at| at >= self.answer.sent_at - CLOCKS);
        if standing == Some(generation) && !was_replaced {
            world.violated(format!("connection {id}: the parked answer of generation {generation} is lost"));
        }
    }
}

/// Clocks of processes differ by so much from the true time.
pub(crate) const CLOCKS: chrono::TimeDelta = chrono::TimeDelta::seconds(4);

#[async_trait]
impl Settle for Parked {
    async fn acknowledge(mut self: Box<Self>) -> Result<(), SettleError> {
        self.is_not_lost();
        let id = self.answer.connection_id.0;
        self.gate.host.step("before a settlement", Some(id)).await;
        if self.gate.host.world.strikes(|faults| faults.settlement_lost) {
            return Err(SettleError { problem: "the session ended".into() });
        }
        self.place = None;
        let mut inner = self.gate.depot.inner();
        inner.handed_out -= 1;
        inner.stored += 1;
        Ok(())
    }

    async fn requeue(self: Box<Self>) -> Result<(), SettleError> {
        Ok(())
    }

    async fn dead_letter(self: Box<Self>, _: Vec<u8>, reason: MessageError) -> Result<(), SettleError> {
        self.gate.host.world.violated(format!("a parked answer became a dead letter: {reason}"));
        Ok(())
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        self.gate.host.lets_go(self.answer.connection_id.0);
        if let Some(place) = self.place.take() {
            self.gate.depot.put_back(place, &self.provider);
        }
    }
}
