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

    /// Kills one, also one that stands still, which is over by that. Answers who it was.
    pub(crate) async fn kill_one(&mut self, stage: &Stage) -> Result<(String, Option<Event>)> {
        let place = stage.one_of(&self.troupe.places_without(&[]))?;
        let who = self.troupe.kill(place).await?;
        let frozen = self.frozen.iter().position(|frozen| frozen.who == who);
        let event = frozen.map(|place| self.over(place));
        Ok((who, event))
    }

    /// Asks one to end that does not stand still; where all do, the first of them goes on.
    pub(crate) async fn terminate_one(&mut self, stage: &Stage) -> Result<(End, Vec<Event>)> {
        let mut events = Vec::new();
        while self.frozen.len() >= self.troupe.len() {
            events.extend(self.thaw_next().await?);
        }
        let place = self.one_awake(stage)?;
        Ok((self.troupe.terminate(place).await?, events))
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
            // It may have ended meanwhile.
            let place = self.frozen.first().and_then(|frozen| self.troupe.place_of(&frozen.who));
            if let Some(place) = place {
                self.troupe.signal(place, Signal::SIGCONT)?;
            }
            events.push(self.over(0));
        }
        Ok(events)
    }

    fn over(&mut self, place: usize) -> Event {
        let Frozen { who, from, .. } = self.frozen.remove(place);
        Event::since(from, self.stood_still, self.whom(who))
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
