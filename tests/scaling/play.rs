//! The play itself: load as the scenario says, and workers as the autoscaler says.

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use freshet_tests::binaries::Binary;
use freshet_tests::fleet::{PATIENCE, now};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::arguments::Ending;
use crate::autoscaler::Autoscaler;
use crate::manifests::Manifests;
use crate::scenario::{Provider, Scenario};
use crate::stage::Stage;
use crate::workers::{Departures, Workers};

/// Between the rows being written and the first connection coming due.
const RISE: TimeDelta = TimeDelta::seconds(3);
/// In seconds.
const MINUTE: f64 = 60.0;

/// What was seen at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen {
    /// In minutes of the manifests' time.
    pub(crate) minute: f64,
    /// Messages in the queues that KEDA watches.
    pub(crate) depth: f64,
    /// Workers that were not asked to end.
    pub(crate) replicas: u32,
    /// Minutes of the manifests' time until the first token expires.
    pub(crate) soonest: f64,
    /// How many of a hundred tokens are good.
    pub(crate) valid: f64,
}

/// What was played.
pub(crate) struct Played {
    pub(crate) seen: Vec<Seen>,
    pub(crate) departures: Departures,
    /// When the token of each connection would have expired, by id from 1.
    pub(crate) expiries: Vec<DateTime<Utc>>,
    /// Messages for each replica.
    pub(crate) target: f64,
}

/// Plays it to its end, and until nothing is left to do.
pub(crate) async fn play(
    stage: &Stage,
    manifests: &Manifests,
    scenario: &Scenario,
    ending: Ending,
) -> Result<Played> {
    let mut autoscaler = Autoscaler::new(manifests.scaling.clone(), stage.load)?;
    let mut workers = Workers::new(&stage.environment, manifests.grace, ending);
    workers.scale_to(manifests.scaling.min_replica_count, &stage.model).await?;
    let mut producers = Vec::new();
    for _ in 0..manifests.producers {
        let producer = Binary::new("producer")?.arguments(["run"]).variables(&stage.environment);
        producers.push(producer.start()?);
    }
    let due = scenario.due();
    let first = now() + RISE;
    let due: Vec<DateTime<Utc>> = due.into_iter().map(|after| first + after).collect();
    stage.add(&due).await?;
    sleep((first - now()).to_std().unwrap_or_default()).await;

    let started = Instant::now();
    let mut ticks = interval(scenario.fast(manifests.scaling.polling()));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = Vec::new();
    let mut behaviour = Provider::Serves;
    loop {
        ticks.tick().await;
        let time = started.elapsed().mul_f64(scenario.speed);
        let phase = scenario.at(time.as_secs_f64() / MINUTE);
        let provider = phase.map_or(Provider::Serves, |phase| phase.provider);
        if provider != behaviour {
            stage.let_provider(provider);
            behaviour = provider;
        }
        workers.check()?;
        let mut depths = Vec::new();
        for trigger in &manifests.scaling.triggers {
            depths.push(stage.depth(&trigger.metadata.queue_name).await);
        }
        workers.scale_to(autoscaler.decide(time, workers.count(), &depths), &stage.model).await?;
        let freshness = stage.freshness().await?;
        seen.push(Seen {
            minute: time.as_secs_f64() / MINUTE,
            depth: depths.iter().flatten().sum(),
            replicas: workers.count(),
            soonest: freshness.soonest * scenario.speed / MINUTE,
            valid: freshness.valid,
        });
        let is_over = phase.is_none();
        let is_late = time > scenario.length() + PATIENCE.mul_f64(scenario.speed);
        if is_over && (is_late || stage.is_done().await?) {
            break;
        }
    }
    for producer in producers {
        let _ended = producer.terminate(PATIENCE).await?.with_code(0)?;
    }
    let departures = workers.dismiss().await?;
    let expiries = due.iter().map(|due| *due + stage.early_window).collect();
    Ok(Played { seen, departures, expiries, target: autoscaler.target() })
}
