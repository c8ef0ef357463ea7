//! Processes of one kind, and those of them that stand still.

use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, Utc};
use freshet_tests::fleet::now;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep_until};

use crate::events::{Event, What, Whom};
use crate::mischief::Done;
use crate::stage::Stage;
use crate::troupe::Troupe;

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

    /// Kills one that does not stand still, or many kills would leave nobody who goes on when its time has come. Answers who it
    /// was, if it had not ended by itself before.
    pub(crate) async fn kill_one(&mut self, stage: &Stage, done: &mut Done) -> Result<Option<String>> {
        self.until_one_is_awake(done).await?;
        let place = self.one_awake(stage)?;
        if self.is_gone(place, done).await? {
            return Ok(None);
        }
        match self.troupe.kill(place).await? {
            Ok(who) => Ok(Some(who)),
            Err(gone) => {
                done.gave_up.push(gone);
                Ok(None)
            }
        }
    }

    /// Where all stand still, the first of them goes on when its time has come.
    async fn until_one_is_awake(&mut self, done: &mut Done) -> Result<()> {
        while self.frozen.len() >= self.troupe.len() {
            done.events.extend(self.thaw_next().await?);
        }
        Ok(())
    }

    /// Asks one to end that does not stand still. Answers whether it was there.
    pub(crate) async fn terminate_one(&mut self, stage: &Stage, done: &mut Done) -> Result<bool> {
        self.until_one_is_awake(done).await?;
        let place = self.one_awake(stage)?;
        if self.is_gone(place, done).await? {
            return Ok(false);
        }
        done.ends.push(self.troupe.terminate(place).await?);
        Ok(true)
    }

    /// Stops one, to go on later; one that stands still already goes on where otherwise too few would work. Answers whether it
    /// was there.
    pub(crate) async fn stop_one(&mut self, stage: &Stage, time: Duration, done: &mut Done) -> Result<bool> {
        while self.frozen.len() * 2 >= self.troupe.len().max(2) {
            done.events.extend(self.thaw_next().await?);
        }
        let place = self.one_awake(stage)?;
        if self.is_gone(place, done).await? {
            return Ok(false);
        }
        let (from, until) = (now(), Instant::now() + time);
        let who = self.troupe.signal(place, Signal::SIGSTOP)?;
        self.frozen.push(Frozen { who, from, until });
        Ok(true)
    }

    /// Whether the one in this place had ended by itself, and nothing can be done to it.
    async fn is_gone(&mut self, place: usize, done: &mut Done) -> Result<bool> {
        let gone = self.troupe.revive_in(place).await?;
        let is_gone = gone.is_some();
        done.gave_up.extend(gone);
        Ok(is_gone)
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
