//! One run: a world, its processes, its weather, and what came of it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::TimeDelta;
use freshet_shared::adapters::embedded::queue::InProcessQueue;
use freshet_shared::adapters::embedded::rate_limiter::InProcessRateLimiter;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until};

use crate::fleet::{Ledger, marketplace};
use crate::invariants::Invariants;
use crate::marketplace::Outage;
use crate::merchants::Platform;
use crate::processes::{Kind, Parts};
use crate::shelf::Shelf;
use crate::store::Tables;
use crate::world::World;

/// The end of a run is calm for so long, so that whatever a storm left behind shows.
const LAST_CALM: Duration = Duration::from_secs(75 * 60);

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
}

/// Runs a seed for some virtual hours, on tables that nobody else uses.
pub(crate) fn run(seed: u64, hours: u32, is_printing: bool, tables: &Arc<Tables>) -> Result<Report> {
    tables.clear()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build()?;
    runtime.block_on(live(seed, hours, is_printing, tables.clone()))
}

async fn live(seed: u64, hours: u32, is_printing: bool, tables: Arc<Tables>) -> Result<Report> {
    let world = Arc::new(World::new(seed, is_printing));
    let (marketplace, providers) = marketplace(&world)?;
    let marketplace = Arc::new(marketplace);
    let (ledger, shelf) = (Arc::new(Ledger::default()), Arc::new(Shelf::new(world.clone())));
    let queue = InProcessQueue::new();
    let platform = Arc::new(Platform {
        world: world.clone(),
        tables: tables.clone(),
        marketplace: marketplace.clone(),
        ledger: ledger.clone(),
    });
    platform.found()?;
    let (producers, workers) = (1 + number(&world, 2), 1 + number(&world, 3));
    let parts = Arc::new(Parts {
        world: world.clone(),
        tables: tables.clone(),
        shelf: shelf.clone(),
        queue: queue.clone(),
        limiter: Arc::new(InProcessRateLimiter::new(world.clone())),
        marketplace: marketplace.clone(),
        ledger: ledger.clone(),
        providers,
        early: "*/5 * * * *".parse().context("a cron expression")?,
        urgent: "* * * * *".parse().context("a cron expression")?,
        retry_every: TimeDelta::seconds(i64::from(20 + number(&world, 41))),
        workers: NonZeroU32::new(workers).unwrap_or(NonZeroU32::MIN),
    });
    let invariants = Invariants {
        world: world.clone(),
        tables,
        marketplace,
        ledger: ledger.clone(),
        shelf: shelf.clone(),
        queue,
    };
    let mut processes = JoinSet::new();
    for number in 1..=producers {
        processes.spawn(parts.clone().keep_running(Kind::Producer, number));
    }
    for number in 1..=workers {
        processes.spawn(parts.clone().keep_running(Kind::Worker, number));
    }
    let end = Instant::now() + Duration::from_secs(u64::from(hours) * 3_600);
    let looking = async {
        loop {
            sleep(Duration::from_secs(60)).await;
            invariants.check()?;
        }
    };
    tokio::select! {
        biased;
        result = weather(&platform, &shelf, end - LAST_CALM) => result?,
        result = platform.reconnect_now_and_then() => result?,
        result = looking => { let result: Result<()> = result; result? }
        () = sleep_until(end) => {}
    }
    invariants.check()?;
    processes.shutdown().await;
    invariants.check_end();
    let (calls, stored) = ledger.totals();
    let violations = world.state().violations.clone();
    Ok(Report { digest: world.digest(), violations, calls, stored })
}

fn number(world: &World, end: u64) -> u32 {
    u32::try_from(world.draw(end)).unwrap_or(0)
}

/// Calm and storm by turns, and calm at the end. Never returns but by an error.
async fn weather(platform: &Platform, shelf: &Shelf, last_calm: Instant) -> Result<()> {
    let world = &platform.world;
    let minutes = |shortest: u64, longest: u64| {
        world.between(Duration::from_secs(shortest * 60), Duration::from_secs(longest * 60))
    };
    loop {
        sleep(minutes(5, 70)).await;
        let until = (Instant::now() + minutes(5, 60)).min(last_calm);
        if until <= Instant::now() {
            return std::future::pending().await;
        }
        world.trace("weather", format_args!("a storm begins"));
        world.state().is_stormy = true;
        while Instant::now() < until {
            let disaster = sleep_until((Instant::now() + minutes(1, 15)).min(until));
            strike(platform, shelf, world.draw(9)).await?;
            disaster.await;
            all_is_well(platform)?;
        }
        let now = world.now();
        let mut state = world.state();
        state.is_stormy = false;
        state.calm_since = now;
        drop(state);
        world.trace("weather", format_args!("the storm is over"));
    }
}

/// Something happens to all at once.
async fn strike(platform: &Platform, shelf: &Shelf, which: u64) -> Result<()> {
    let world = &platform.world;
    let victim = &platform.marketplace;
    let name = victim.name;
    match which {
        0 => victim.set_outage(Some(Outage::Unreachable)),
        1 => victim.set_outage(Some(Outage::Refusing)),
        2 => victim.set_outage(Some(Outage::Hanging)),
        3 => world.state().is_store_away = true,
        4 => world.state().is_cache_away = true,
        5 => platform.pause(name, true)?,
        6 => shelf.lose(),
        _ => return Ok(()),
    }
    let what =
        ["unreachable", "refusing", "hanging", "no database", "no cache", "paused", "the cache is empty"];
    let what = usize::try_from(which).ok().and_then(|which| what.get(which)).unwrap_or(&"");
    world.trace("weather", format_args!("{what} ({name})"));
    Ok(())
}

fn all_is_well(platform: &Platform) -> Result<()> {
    platform.marketplace.set_outage(None);
    platform.pause(platform.marketplace.name, false)?;
    let mut state = platform.world.state();
    state.is_store_away = false;
    state.is_cache_away = false;
    Ok(())
}
