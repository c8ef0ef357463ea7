//! One run: a world, its processes, its weather, and what came of it.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::TimeDelta;
use freshet_shared::adapters::embedded::queue::InProcessQueue;
use freshet_shared::adapters::embedded::rate_limiter::InProcessRateLimiter;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::deadlines::Judged;
use crate::fleet::{Ledger, marketplace};
use crate::invariants::Invariants;
use crate::merchants::Platform;
use crate::processes::{Kind, Parts, Settings};
use crate::reigns::Reigns;
use crate::shelf::Shelf;
use crate::store::Tables;
use crate::weather::weather;
use crate::world::World;

/// The end of a run is calm for so long, so that whatever a storm left behind shows.
const LAST_CALM: Duration = Duration::from_secs(45 * 60);

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// What tells it from every other.
    pub(crate) digest: (u64, u64),
    /// What must not have happened.
    pub(crate) violations: Vec<String>,
    /// Calls that were sent to providers.
    pub(crate) calls: u64,
    /// Tokens that were stored.
    pub(crate) stored: u64,
    /// Parked answers that another worker took up.
    pub(crate) parked: u64,
    /// Terms of leadership that began after another.
    pub(crate) taken_over: u64,
    /// Times that an emptied cache was filled, where a token had to be in it.
    pub(crate) filled: u64,
    /// Tokens that were looked for then.
    pub(crate) cached_again: u64,
    /// How much of the time a dead token would have been a violation.
    pub(crate) judged: Judged,
}

/// Runs a seed for some virtual time, on tables that nobody else uses.
pub(crate) fn run(seed: u64, length: Duration, is_printing: bool, tables: &Arc<Tables>) -> Result<Report> {
    tables.clear()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(live(seed, length, is_printing, tables.clone()))
}

async fn live(seed: u64, length: Duration, is_printing: bool, tables: Arc<Tables>) -> Result<Report> {
    let world = Arc::new(World::new(seed, is_printing, tables.clone()));
    let (marketplace, providers) = marketplace(&world)?;
    let platform = Arc::new(Platform {
        world: world.clone(),
        tables: tables.clone(),
        marketplace: Arc::new(marketplace),
        ledger: Arc::new(Ledger::default()),
    });
    platform.found()?;
    let (producers, workers) = (1 + number(&world, 2), 1 + number(&world, 3));
    let settings = settings(&world, workers)?;
    world.lease_lasts(TimeDelta::from_std(settings.lease)?);
    world.slots(settings.slots(platform.marketplace.limits.map(|limits| limits.concurrency)));
    world.look()?;
    let parts = Arc::new(Parts {
        world: world.clone(),
        tables,
        shelf: Arc::new(Shelf::new(world.clone())),
        queue: InProcessQueue::new(),
        depot: Arc::default(),
        limiter: Arc::new(InProcessRateLimiter::new(world.clone())),
        marketplace: platform.marketplace.clone(),
        ledger: platform.ledger.clone(),
        reigns: Reigns::new(&world),
        providers,
        settings,
        hosts: Mutex::default(),
    });
    let check_every = TimeDelta::from_std(parts.settings.check_every)?;
    let invariants = invariants(&parts, check_every);
    let mut processes = JoinSet::new();
    for number in 1..=producers {
        processes.spawn(parts.clone().keep_running(Kind::Producer, number));
    }
    for number in 1..=workers {
        processes.spawn(parts.clone().keep_running(Kind::Worker, number));
    }
    let end = Instant::now() + length;
    tokio::select! {
        biased;
        result = weather(&platform, &parts, end - LAST_CALM) => result?,
        result = platform.reconnect_now_and_then() => result?,
        result = invariants.keep_looking() => result?,
        () = sleep_until(end) => {}
    }
    invariants.check()?;
    processes.shutdown().await;
    invariants.check_end();
    let (calls, stored) = parts.ledger.totals();
    let violations = world.state().violations.clone();
    let (parked, taken_over) = (parts.depot.taken_up(), parts.reigns.taken_over());
    let (filled, cached_again) = parts.shelf.filled();
    let judged = world.judged();
    let digest = world.digest();
    Ok(Report { digest, violations, calls, stored, parked, taken_over, filled, cached_again, judged })
}

fn settings(world: &World, workers: u32) -> Result<Settings> {
    let pick = |values: [u64; 3]| values.get(number(world, 3) as usize).copied().unwrap_or(1);
    Ok(Settings {
        early: "*/5 * * * *".parse().context("a cron expression")?,
        urgent: "* * * * *".parse().context("a cron expression")?,
        retry_every: TimeDelta::seconds(i64::from(30 + number(world, 31))),
        lease: Duration::from_secs(pick([60, 240, 480])),
        check_every: Duration::from_secs(pick([15, 30, 60])),
        workers: NonZeroU32::new(workers).unwrap_or(NonZeroU32::MIN),
        concurrency: usize::try_from(pick([4, 8, 16]))?,
    })
}

fn invariants(parts: &Parts, check_every: TimeDelta) -> Invariants {
    Invariants {
        world: parts.world.clone(),
        marketplace: parts.marketplace.clone(),
        ledger: parts.ledger.clone(),
        shelf: parts.shelf.clone(),
        queue: parts.queue.clone(),
        depot: parts.depot.clone(),
        reigns: parts.reigns.clone(),
        check_every,
    }
}

fn number(world: &World, end: u64) -> u32 {
    u32::try_from(world.draw(end)).unwrap_or(0)
}
