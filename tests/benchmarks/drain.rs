//! One run: a queue full of messages about expired connections, until all of them are fresh.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use freshet_tests::provider_calls::Calls;
use freshet_tests::waiting::eventually;
use tokio::time::{Instant, sleep};

use crate::contestant::Contestant;
use crate::process::{Process, Usage};
use crate::stage::Stage;

/// A contestant that needs longer is not measured but broken.
const PATIENCE: Duration = Duration::from_secs(300);
/// Between two looks at the provider: short against a run, and rare enough to cost nothing.
const LOOK: Duration = Duration::from_millis(20);
const MICROS_PER_SECOND: f64 = 1e6;

/// What a run came to, without its first part, in which a contestant starts and opens its connections.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Drained {
    /// Refreshes per second.
    pub(crate) rate: f64,
    /// Processor time of the contestant's processes per refresh, in microseconds.
    pub(crate) cpu_per_refresh: f64,
    /// The most memory that its processes had, in MiB.
    pub(crate) peak_mib: f64,
}

/// Lets the contestant refresh `count` connections, of which the first `warm_up` are not measured.
///
/// Begin and end of what is measured are calls that the provider got; at the end every token is in the database, every
/// cache entry in Redis and no message in the queue, or the run is an error.
pub(crate) async fn drain(
    stage: &Stage,
    contestant: Contestant,
    count: u64,
    warm_up: u64,
) -> Result<Drained> {
    stage.expire(count).await?;
    contestant.fill(stage, count).await?;
    let mut processes = contestant.start(stage)?;
    let measured = measure(stage, &mut processes, count, warm_up).await;
    let measured = measured.with_context(|| {
        let words: Vec<String> = processes.iter().map(Process::last_words).collect();
        format!("{} did not get through; it says:\n{}", contestant.name(), words.join("\n"))
    })?;
    // The last tokens are stored but not cached.
    eventually("every token is cached", Duration::from_secs(30), async || {
        let cached = stage.cached().await?;
        ensure!(cached >= 2 * count, "{} left {cached} keys for {count} connections", contestant.name());
        Ok(())
    })
    .await?;
    for process in processes {
        process.stop().await?;
    }
    // Whoever ends as it is told to may leave its last acknowledgements unsent; a worker of ours may not.
    let left = stage.empty(contestant.queue()).await?;
    let is_ours = matches!(contestant, Contestant::Freshet { .. });
    ensure!(left == 0 || !is_ours, "{left} messages of finished refreshes came back");
    Ok(measured)
}

async fn measure(stage: &Stage, processes: &mut [Process], count: u64, warm_up: u64) -> Result<Drained> {
    let started = Instant::now();
    let begin = until_called(stage, warm_up, started).await?;
    let used_before = used(processes)?;
    until_called(stage, count, started).await?;
    // The last tokens are granted but not stored.
    while stage.expired().await? > 0 {
        ensure!(started.elapsed() < PATIENCE, "{} connections stay expired", stage.expired().await?);
        used(processes)?;
        sleep(LOOK).await;
    }
    let used_after = used(processes)?;
    let end = stage.calls.calls().await?;
    let refreshes = end.count.checked_sub(begin.count).filter(|refreshes| *refreshes > 0);
    let Some(refreshes) = refreshes else { bail!("all was over before it could be measured") };
    let refreshes = refreshes as f64;
    Ok(Drained {
        rate: refreshes * MICROS_PER_SECOND / (end.last_at - begin.last_at) as f64,
        cpu_per_refresh: (used_after.cpu - used_before.cpu) * MICROS_PER_SECOND / refreshes,
        peak_mib: used_after.peak,
    })
}

async fn until_called(stage: &Stage, count: u64, started: Instant) -> Result<Calls> {
    loop {
        let calls = stage.calls.calls().await?;
        if calls.count as u64 >= count {
            return Ok(calls);
        }
        ensure!(started.elapsed() < PATIENCE, "the provider got {} of {count} calls", calls.count);
        sleep(LOOK).await;
    }
}

/// What the processes have used together; an error if one has ended.
pub(crate) fn used(processes: &mut [Process]) -> Result<Usage> {
    let mut total = Usage::default();
    for process in processes {
        let usage = process.usage()?;
        total.cpu += usage.cpu;
        total.peak += usage.peak;
        total.resident += usage.resident;
    }
    Ok(total)
}
