//! All connections of a platform expired at once.

use anyhow::{Context, Result, ensure};
use freshet_shared::adapters::system::SystemClock;
use freshet_shared::ports::clock::Clock;
use tokio::time::{Duration, Instant, sleep};

use super::Scale;
use crate::figures::Figure;
use crate::process::Process;
use crate::results::{Curve, Measured};
use crate::stage::{Setting, Stage};
use crate::table::number;

const MICROS_PER_SECOND: f64 = 1e6;
const LOOK: Duration = Duration::from_millis(50);
/// Points of a curve.
const POINTS: usize = 200;

const METHOD: &str = "\
All tokens have expired, as after a long outage. One worker waits at an empty queue; the clock starts with the producer's urgent \
scan, its start included, and stops when every token in the database is fresh.";

/// Seconds until all is fresh without a limit.
pub(super) async fn measure(scale: &Scale) -> Result<Measured> {
    let count = scale.pick(100_000, 10_000);
    let stage = Stage::set(scale, Setting::default()).await?;
    stage.add_connections(count).await?;
    let (mut took, mut curve) = (Vec::new(), Vec::new());
    for _ in 0..scale.runs {
        let storm = storm(&stage, count, 1).await?;
        took.push(storm.seconds);
        curve = storm.curve();
    }
    let name = format!("{} expired connections until all are fresh", number(count as f64));
    let figure = Figure::new(name, "s", took);
    Ok(Measured {
        method: METHOD.to_owned(),
        figures: vec![figure.clone()],
        bars: vec![figure.at_most(20.0)],
        curves: vec![Curve { name: "without a limit".to_owned(), points: curve }],
    })
}

/// What it came to.
pub(super) struct Storm {
    /// From the scan's start until all was fresh.
    pub(super) seconds: f64,
    /// When the calls came, in seconds from the scan's start, sorted.
    pub(super) calls: Vec<f64>,
}

impl Storm {
    /// How many connections were refreshed by then.
    pub(super) fn curve(&self) -> Vec<(f64, f64)> {
        let step = (self.calls.len() / POINTS).max(1);
        let points = self.calls.iter().enumerate().skip(step - 1).step_by(step);
        let mut points: Vec<_> = points.map(|(index, at)| (*at, index as f64 + 1.0)).collect();
        points.insert(0, (0.0, 0.0));
        points
    }
}

/// Lets all expire and waits until all are fresh, beside a producer that also looks for what was put off.
pub(super) async fn storm(stage: &Stage, count: u64, workers: usize) -> Result<Storm> {
    stage.expire(0).await?;
    let folder = stage.folder.path();
    let mut processes: Vec<Process> = Vec::new();
    for _ in 0..workers {
        processes.push(stage.worker()?.start(folder)?);
    }
    processes.push(stage.producer(&["run"])?.start(folder)?);
    stage.until_consumed_by(workers).await?;
    stage.expire(count).await?;
    let started = SystemClock.now().timestamp_micros();
    let scanning = stage.producer(&["once", "--lane", "urgent"])?.run();
    let refreshing = until_fresh(stage, count, &mut processes);
    tokio::try_join!(scanning, refreshing).with_context(|| {
        let words: Vec<String> = processes.iter().map(Process::last_words).collect();
        format!("the storm does not end; the processes say:\n{}", words.join("\n"))
    })?;
    let seconds = |at: i64| (at - started) as f64 / MICROS_PER_SECOND;
    let ended = seconds(SystemClock.now().timestamp_micros());
    let mut calls: Vec<f64> = stage.calls.times().await?.into_iter().map(seconds).collect();
    calls.sort_by(f64::total_cmp);
    for process in processes {
        process.stop().await?;
    }
    Ok(Storm { seconds: ended, calls })
}

async fn until_fresh(stage: &Stage, count: u64, processes: &mut [Process]) -> Result<()> {
    let started = Instant::now();
    // Far longer than the slowest limit that is measured takes.
    let patience = Duration::from_secs(60 + count / 100);
    while stage.calls.calls().await?.count < usize::try_from(count)? || stage.expired().await? > 0 {
        crate::drain::used(processes)?;
        ensure!(started.elapsed() < patience, "{} are still expired", stage.expired().await?);
        sleep(LOOK).await;
    }
    Ok(())
}
