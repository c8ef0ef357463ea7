//! Workers that stand still while the fleet goes on.

use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, Utc};
use freshet_tests::fleet::now;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep_until};

use crate::events::{Event, What, Whom};
use crate::troupe::Troupe;

/// Who stands still, the longest first.
#[derive(Default)]
pub(crate) struct Freezer {
    frozen: Vec<Frozen>,
}

struct Frozen {
    who: String,
    from: DateTime<Utc>,
    until: Instant,
}

impl Freezer {
    /// Their names.
    pub(crate) fn names(&self) -> Vec<&str> {
        self.frozen.iter().map(|frozen| frozen.who.as_str()).collect()
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.frozen.len()
    }

    /// Stops the one in this place, to go on later.
    pub(crate) fn freeze(&mut self, workers: &Troupe, place: usize, time: Duration) -> Result<()> {
        let (from, until) = (now(), Instant::now() + time);
        let who = workers.signal(place, Signal::SIGSTOP)?;
        self.frozen.push(Frozen { who, from, until });
        Ok(())
    }

    /// Lets those go on whose time has come.
    pub(crate) fn thaw_due(&mut self, workers: &Troupe) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        while self.frozen.first().is_some_and(|frozen| frozen.until <= Instant::now()) {
            let Frozen { who, from, .. } = self.frozen.remove(0);
            // It may have been killed meanwhile.
            if let Some(place) = workers.place_of(&who) {
                workers.signal(place, Signal::SIGCONT)?;
            }
            events.push(Event::since(from, What::WorkerStoodStill, Whom::Worker(who)));
        }
        Ok(events)
    }

    /// Waits until the next one may go on, if there is one, and lets it.
    pub(crate) async fn thaw_next(&mut self, workers: &Troupe) -> Result<Vec<Event>> {
        if let Some(frozen) = self.frozen.first() {
            sleep_until(frozen.until).await;
        }
        self.thaw_due(workers)
    }
}
