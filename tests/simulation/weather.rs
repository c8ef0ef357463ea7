//! Calm and storm by turns. In a storm steps fail by chance, and now and then something befalls all at once.

use std::time::Duration;

use anyhow::Result;
use tokio::time::{Instant, sleep, sleep_until};

use crate::deadlines::Wait;
use crate::marketplace::Outage;
use crate::merchants::Platform;
use crate::processes::Parts;

/// What befalls all at once, or one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Disaster {
    /// The provider fails all.
    Outage(Outage),
    NoDatabase,
    NoCache,
    /// Somebody pauses the provider.
    Paused,
    CacheEmptied,
    /// The producer that leads stands still for longer than its lease.
    LeaderStopped,
    WorkerStopped,
    /// All workers are asked to end, one as the other.
    WorkersEnd,
    None,
}

const DISASTERS: [Disaster; 12] = [
    Disaster::Outage(Outage::Unreachable),
    Disaster::Outage(Outage::Refusing),
    Disaster::Outage(Outage::Hanging),
    Disaster::NoDatabase,
    Disaster::NoCache,
    Disaster::Paused,
    Disaster::CacheEmptied,
    Disaster::LeaderStopped,
    Disaster::WorkerStopped,
    Disaster::WorkersEnd,
    Disaster::None,
    Disaster::None,
];

/// Never returns but by an error. After `last_calm` nothing goes wrong any more.
pub(crate) async fn weather(platform: &Platform, parts: &Parts, last_calm: Instant) -> Result<()> {
    let world = &platform.world;
    let minutes = |shortest: u64, longest: u64| {
        world.between(Duration::from_secs(shortest * 60), Duration::from_secs(longest * 60))
    };
    loop {
        sleep(minutes(2, 35)).await;
        // With nothing else in the way it shows how soon it is filled.
        if world.draw(2) == 0 {
            strike(platform, parts, Disaster::CacheEmptied)?;
        }
        sleep(minutes(3, 35)).await;
        let until = (Instant::now() + minutes(5, 60)).min(last_calm);
        if until <= Instant::now() {
            return std::future::pending().await;
        }
        world.trace("weather", format_args!("a storm begins"));
        world.state().is_stormy = true;
        while Instant::now() < until {
            let over = sleep_until((Instant::now() + minutes(1, 15)).min(until));
            let drawn = usize::try_from(world.draw(DISASTERS.len() as u64)).unwrap_or(0);
            let disaster = DISASTERS.get(drawn).copied().unwrap_or(Disaster::None);
            strike(platform, parts, disaster)?;
            over.await;
            end(platform, disaster)?;
        }
        let now = world.now();
        let mut state = world.state();
        state.is_stormy = false;
        state.calm_since = now;
        drop(state);
        world.trace("weather", format_args!("the storm is over"));
    }
}

fn strike(platform: &Platform, parts: &Parts, disaster: Disaster) -> Result<()> {
    let (world, market) = (&platform.world, &platform.marketplace);
    world.trace("weather", format_args!("{disaster:?} ({})", market.name));
    if disaster.back().is_some() {
        world.excuse(None, Wait::Away);
    }
    let pause = || world.between(Duration::from_secs(20), Duration::from_secs(600));
    match disaster {
        Disaster::Outage(outage) => market.set_outage(Some(outage)),
        Disaster::NoDatabase => world.state().store_away += 1,
        Disaster::NoCache => world.state().is_cache_away = true,
        Disaster::Paused => platform.pause(market.name, true)?,
        Disaster::CacheEmptied => parts.shelf.lose(),
        Disaster::LeaderStopped => {
            let leader = parts.reigns.leader().map(|name| parts.living(&name)).unwrap_or_default();
            leader.iter().for_each(|host| host.stop(pause()));
        }
        Disaster::WorkerStopped => parts.living("worker").iter().take(1).for_each(|host| host.stop(pause())),
        Disaster::WorkersEnd => parts.living("worker").iter().for_each(|host| host.end.cancel()),
        Disaster::None => {}
    }
    Ok(())
}

fn end(platform: &Platform, disaster: Disaster) -> Result<()> {
    let (world, market) = (&platform.world, &platform.marketplace);
    match disaster {
        Disaster::Outage(_) => market.set_outage(None),
        Disaster::NoDatabase => world.state().store_away -= 1,
        Disaster::NoCache => {
            world.state().is_cache_away = false;
            world.disturbed_until(world.now());
        }
        Disaster::Paused => platform.pause(market.name, false)?,
        _ => {}
    }
    if let Some(back) = disaster.back() {
        world.excuse(None, back);
    }
    Ok(())
}

impl Disaster {
    /// Where something that all need is away until it ends: its return. Without the cache tokens are renewed all the same.
    fn back(self) -> Option<Wait> {
        match self {
            Self::Outage(_) => Some(Wait::ProviderBack),
            Self::NoDatabase => Some(Wait::DatabaseBack),
            Self::Paused => Some(Wait::Resumed),
            _ => None,
        }
    }
}
