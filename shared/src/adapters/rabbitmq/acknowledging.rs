//! Acknowledging together: deliveries that follow each other without a gap are acknowledged by one frame.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use lapin::Acker;
use lapin::options::BasicAckOptions;
use lapin::types::DeliveryTag;

use crate::adapters::grouping::Grouping;

/// Frames that a queue's client in the broker sends on before it has heard of any of them.
const FEW: usize = 32;

/// One at a time: all of them go over the same wire.
const FLIGHTS: usize = 1;
const MOST: usize = 1_024;

/// Gathers the acknowledgements of one channel.
pub(super) struct Acknowledgements {
    grouping: Grouping<(DeliveryTag, Acker), lapin::Result<bool>>,
    ledger: Arc<Ledger>,
}

impl Default for Acknowledgements {
    fn default() -> Self {
        let settled = Mutex::new(Settled { lowest: 1, above: BTreeSet::new() });
        let ledger = Ledger { settled, frames: AtomicUsize::new(0) };
        Self { grouping: Grouping::new(FLIGHTS, MOST), ledger: Arc::new(ledger) }
    }
}

impl Acknowledgements {
    /// `false` if the session that the delivery came by is over.
    pub(super) async fn acknowledge(&self, tag: DeliveryTag, acker: Acker) -> lapin::Result<bool> {
        let ledger = self.ledger.clone();
        let fly = move |deliveries: Vec<(DeliveryTag, Acker)>| acknowledge_all(ledger.clone(), deliveries);
        self.grouping.ask((tag, acker), fly).await.unwrap_or(Ok(false))
    }

    /// Notes that a delivery is in nobody's hands any more, once the broker has been told: a frame for many must not overtake
    /// the one that gives back one of them.
    pub(super) fn given_back(&self, tag: DeliveryTag) {
        self.ledger.settle(tag);
        self.ledger.frames.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether so many frames were sent that some of them may be held back inside the broker.
    pub(super) fn were_many(&self) -> bool {
        self.ledger.frames.load(Ordering::Relaxed) > FEW
    }
}

async fn acknowledge_all(
    ledger: Arc<Ledger>,
    deliveries: Vec<(DeliveryTag, Acker)>,
) -> Vec<lapin::Result<bool>> {
    let last_of_row = ledger.settled().last_of_row(deliveries.iter().map(|(tag, _)| *tag));
    let mut answers: Vec<lapin::Result<bool>> = Vec::with_capacity(deliveries.len());
    let mut of_row = Ok(false);
    if let Some((_, acker)) = deliveries.iter().find(|(tag, _)| Some(*tag) == last_of_row) {
        of_row = ledger.acknowledge(acker, true).await;
    }
    for (tag, acker) in deliveries {
        let answer = match last_of_row {
            Some(last) if tag <= last => of_row.clone(),
            _ => ledger.acknowledge(&acker, false).await,
        };
        if answer == Ok(true) {
            ledger.settle(tag);
        }
        answers.push(answer);
    }
    answers
}

/// Which deliveries of a channel are in nobody's hands any more. The broker numbers them from 1.
struct Ledger {
    settled: Mutex<Settled>,
    /// Sent so far.
    frames: AtomicUsize,
}

impl Ledger {
    async fn acknowledge(&self, acker: &Acker, multiple: bool) -> lapin::Result<bool> {
        self.frames.fetch_add(1, Ordering::Relaxed);
        acker.ack(BasicAckOptions { multiple }).await
    }

    fn settle(&self, tag: DeliveryTag) {
        self.settled().settle(tag);
    }

    fn settled(&self) -> MutexGuard<'_, Settled> {
        // No code that holds it can leave it half changed.
        self.settled.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Settled {
    /// All below are settled.
    lowest: DeliveryTag,
    /// Those above that are.
    above: BTreeSet<DeliveryTag>,
}

impl Settled {
    fn settle(&mut self, tag: DeliveryTag) {
        self.above.insert(tag);
        while self.above.remove(&self.lowest) {
            self.lowest += 1;
        }
    }

    /// The last of `tags` up to which everything is settled, or one of them.
    fn last_of_row(&self, tags: impl Iterator<Item = DeliveryTag>) -> Option<DeliveryTag> {
        let tags: BTreeSet<DeliveryTag> = tags.collect();
        let mut next = self.lowest;
        let mut last = None;
        loop {
            if tags.contains(&next) {
                last = Some(next);
            } else if !self.above.contains(&next) {
                return last;
            }
            next += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(tags: &[DeliveryTag]) -> Settled {
        let mut settled = Settled { lowest: 1, above: BTreeSet::new() };
        for tag in tags {
            settled.settle(*tag);
        }
        settled
    }

    #[test]
    fn a_row_ends_before_the_first_that_is_still_in_somebodys_hands() {
        let row =
            |done: &[DeliveryTag], tags: &[DeliveryTag]| settled(done).last_of_row(tags.iter().copied());
        assert_eq!(row(&[], &[1, 2, 3]), Some(3));
        assert_eq!(row(&[], &[3, 1, 2, 5]), Some(3));
        assert_eq!(row(&[], &[2, 3]), None, "the first is at work");
        assert_eq!(row(&[2, 4], &[1, 3]), Some(3), "what was settled before closes the gaps");
        assert_eq!(row(&[2, 4], &[1]), Some(1), "and is not named again");
        assert_eq!(row(&[1, 2, 3], &[5]), None);
    }

    #[test]
    fn what_is_settled_in_a_row_is_forgotten() {
        let settled = settled(&[3, 2, 5, 1]);
        assert_eq!((settled.lowest, settled.above.into_iter().collect()), (4, vec![5]));
    }
}
