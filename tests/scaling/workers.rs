//! The Deployment: worker processes, started and ended as Kubernetes would.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use freshet_tests::binaries::{Binary, Ended, Process};
use freshet_tests::fleet::now;
use freshet_tests::model_provider::{Did, ModelProvider};
use freshet_tests::monitoring::Watched;
use nix::sys::signal::Signal;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::arguments::Ending;
use crate::scenario::CALL;

/// The producer scans every second; in an outage nobody gets any work.
const NEXT_WORK: Duration = Duration::from_secs(3);
const BETWEEN_LOOKS: Duration = Duration::from_millis(20);

/// The workers.
pub(crate) struct Workers {
    environment: HashMap<String, String>,
    grace: Duration,
    ending: Ending,
    running: Vec<Worker>,
    ended: Vec<Leaving>,
    /// Calls from before it may be those of a worker that is not there any more.
    last_end: Option<DateTime<Utc>>,
}

/// A worker that was not asked to end.
struct Worker {
    process: Process,
    /// Once it was looked at.
    watched: Option<Watched>,
}

/// A worker that was asked to end.
struct Leaving {
    in_hand: f64,
    end: JoinHandle<Result<Ended>>,
}

/// What became of those that were ended.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    /// How many were.
    pub(crate) number: usize,
    /// Those that had refreshes in hand when they were asked to end.
    pub(crate) busy: usize,
    /// Refreshes that they had in hand.
    pub(crate) in_hand: f64,
    /// The longest that one took.
    pub(crate) longest: Duration,
    /// Those that did not end with 0 within their grace period, and what they came to.
    pub(crate) bad: Vec<String>,
}

impl Workers {
    pub(crate) fn new(environment: &HashMap<String, String>, grace: Duration, ending: Ending) -> Self {
        Self {
            environment: environment.clone(),
            grace,
            ending,
            running: Vec::new(),
            ended: Vec::new(),
            last_end: None,
        }
    }

    /// Those that were not asked to end.
    pub(crate) fn count(&self) -> u32 {
        self.running.len() as u32
    }

    /// Starts or ends as many as it takes.
    pub(crate) async fn scale_to(&mut self, count: u32, model: &ModelProvider) -> Result<()> {
        while self.count() < count {
            let worker = Binary::new("worker")?.arguments(["run"]).variables(&self.environment);
            self.running.push(Worker { process: worker.start()?, watched: None });
        }
        while self.count() > count {
            self.end_the_busiest(model).await?;
        }
        Ok(())
    }

    /// The worst that Kubernetes may choose, and at the worst moment: in the middle of calls that the provider has granted.
    /// Work comes in with each scan, and this waits for the next.
    async fn end_the_busiest(&mut self, model: &ModelProvider) -> Result<()> {
        let given_up = Instant::now() + NEXT_WORK;
        let (place, in_hand) = loop {
            let in_calls = in_young_calls(model, self.last_end) as f64;
            let looks = self.in_hand().await?;
            let busiest = looks.iter().copied().enumerate().max_by(|one, other| one.1.total_cmp(&other.1));
            let busiest = busiest.context("there is no worker to end")?;
            // Whichever worker they are of, one of them at least is the busiest one's.
            let in_other_steps = looks.iter().sum::<f64>() - in_calls;
            if busiest.1 > in_other_steps.max(0.0) || Instant::now() >= given_up {
                break busiest;
            }
            sleep(BETWEEN_LOOKS).await;
        };
        let process = self.running.swap_remove(place).process;
        process.signal(match self.ending {
            Ending::Terminate => Signal::SIGTERM,
            Ending::Kill => Signal::SIGKILL,
        })?;
        self.last_end = Some(now());
        self.ended.push(Leaving { in_hand, end: tokio::spawn(process.ended(self.grace)) });
        Ok(())
    }

    /// How many refreshes each has in hand.
    async fn in_hand(&mut self) -> Result<Vec<f64>> {
        let looks = self.running.iter_mut().map(async |worker| {
            let watched = match worker.watched.take() {
                Some(watched) => watched,
                None => Watched::of(&mut worker.process).await?,
            };
            let in_hand = watched.metrics().await?.sum("freshet_in_flight", &[]).unwrap_or(0.0);
            worker.watched = Some(watched);
            anyhow::Ok(in_hand)
        });
        futures_util::future::try_join_all(looks).await
    }

    /// An error if one has ended by itself.
    pub(crate) fn check(&mut self) -> Result<()> {
        for Worker { process, .. } in &mut self.running {
            anyhow::ensure!(process.is_running()?, "a worker gave up; it said:\n{}", process.stderr());
        }
        Ok(())
    }

    /// Waits for all that were ended, and ends the others.
    pub(crate) async fn dismiss(self) -> Result<Departures> {
        let mut departures = Departures::default();
        for leaving in self.ended {
            departures.number += 1;
            departures.busy += usize::from(leaving.in_hand > 0.0);
            departures.in_hand += leaving.in_hand;
            match leaving.end.await? {
                Ok(ended) => {
                    departures.longest = departures.longest.max(ended.took);
                    if ended.code != Some(0) {
                        departures.bad.push(format!("ended with {:?}", ended.code));
                    }
                }
                Err(error) => departures.bad.push(format!("{error:#}")),
            }
        }
        for Worker { process, .. } in self.running {
            let ended = process.terminate(self.grace).await?;
            if ended.code != Some(0) {
                departures.bad.push(format!("ended with {:?} at the end of the play", ended.code));
            }
        }
        Ok(departures)
    }
}

/// Calls after `last_end` that the provider has granted and will answer, but not soon.
fn in_young_calls(model: &ModelProvider, last_end: Option<DateTime<Utc>>) -> usize {
    let young = now() - CALL * 3 / 4;
    let since = last_end.map_or(young, |end| end.max(young));
    let granted = |did: Did| matches!(did, Did::Granted { .. });
    let ledger = model.ledger();
    let newest_first = ledger.iter().rev().take_while(|entry| entry.arrived_at > since);
    newest_first.filter(|entry| granted(entry.did)).count()
}
