//! Processes of one kind, and those of them that stand still.

use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, Utc};
use freshet_tests::fleet::now;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep_until};

use crate::events::{Event, What, Whom};
use crate::stage::Stage;
use crate::troupe::{End, Troupe};

/// The processes.
pub(crate) struct Company {
    pub(crate) troupe: Troupe,
    /// What it is called that one of them stood still.
    stood_still: What,
    whom: fn(String) -> Whom,
    /// The longest first.
    frozen: Vec<Frozen>,
}

struct Frozen {
    who: String,
    from: DateTime<Utc>,
    until: Instant,
}

impl Company {
    /// So many workers.
    pub(crate) async fn of_workers(number: usize, stage: &Stage) -> Result<Self> {
        let troupe = Troupe::start("worker", number, stage).await?;
        Ok(Self { troupe, stood_still: What::WorkerStoodStill, whom: Whom::Worker, frozen: Vec::new() })
    }

    /// So many producers.
    pub(crate) async fn of_producers(number: usize, stage: &Stage) -> Result<Self> {
        let troupe = Troupe::start("producer", number, stage).await?;
        Ok(Self { troupe, stood_still: What::ProducerStoodStill, whom: Whom::Producer, frozen: Vec::new() })
    }

    /// The one of this name.
    pub(crate) fn whom(&self, who: String) -> Whom {
        (self.whom)(who)
    }

    /// Kills one, also one that stands still. Answers who it was.
    pub(crate) async fn kill_one(&mut self, stage: &Stage) -> Result<String> {
        let place = stage.one_of(&self.troupe.places_without(&[]))?;
        self.troupe.kill(place).await
    }

    /// Asks one to end that does not stand still.
    pub(crate) async fn terminate_one(&mut self, stage: &Stage) -> Result<End> {
        let place = self.one_awake(stage)?;
        self.troupe.terminate(place).await
    }

    /// Stops one, to go on later; one that stands still already goes on where otherwise too few would work.
    pub(crate) async fn stop_one(&mut self, stage: &Stage, time: Duration) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        while self.frozen.len() * 2 >= self.troupe.len().max(2) {
            events.extend(self.thaw_next().await?);
        }
        let place = self.one_awake(stage)?;
        let (from, until) = (now(), Instant::now() + time);
        let who = self.troupe.signal(place, Signal::SIGSTOP)?;
        self.frozen.push(Frozen { who, from, until });
        Ok(events)
    }

    fn one_awake(&self, stage: &Stage) -> Result<usize> {
        let frozen: Vec<&str> = self.frozen.iter().map(|frozen| frozen.who.as_str()).collect();
        stage.one_of(&self.troupe.places_without(&frozen))
    }

    /// Lets those go on whose time has come.
    pub(crate) fn thaw_due(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        while self.frozen.first().is_some_and(|frozen| frozen.until <= Instant::now()) {
            let Frozen { who, from, .. } = self.frozen.remove(0);
            // It may have been killed meanwhile.
            if let Some(place) = self.troupe.place_of(&who) {
                self.troupe.signal(place, Signal::SIGCONT)?;
            }
            events.push(Event::since(from, self.stood_still, self.whom(who)));
        }
        Ok(events)
    }

    /// Waits until all of them may go on.
    pub(crate) async fn thaw_all(&mut self) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        while !self.frozen.is_empty() {
            events.extend(self.thaw_next().await?);
        }
        Ok(events)
    }

    async fn thaw_next(&mut self) -> Result<Vec<Event>> {
        if let Some(frozen) = self.frozen.first() {
            sleep_until(frozen.until).await;
        }
        self.thaw_due()
    }
}
