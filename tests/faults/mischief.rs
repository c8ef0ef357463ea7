//! What happens to the fleet while it works: kills, stops, restarts and networks, each kind at its own pace, until all
//! that was ordered has happened; then calm, and time to recover.

use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use freshet_tests::fleet::now;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep};

use crate::arguments::Arguments;
use crate::proxy::Mode;
use crate::stage::Stage;
use crate::troupe::Troupe;

/// Connections that are added together.
const WAVE: i64 = 200;
/// Producers: one scans, and another stands by.
const PRODUCERS: usize = 2;

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Kinds of mischief, and how often each happened.
    pub(crate) counts: Vec<(&'static str, u32)>,
    /// Times in which something was not as it should be.
    pub(crate) disturbances: Vec<(DateTime<Utc>, DateTime<Utc>)>,
    /// Workers that did not end in good order when they were asked to.
    pub(crate) bad_ends: u32,
    /// Processes that ended by themselves.
    pub(crate) gave_up: u32,
    /// How long the fleet took to recover at the end; `None` if it did not.
    pub(crate) recovered_in: Option<Duration>,
}

/// One deed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    KillWorker,
    TerminateWorker,
    StopWorker,
    KillProducer,
    KillBroker,
    KillDatabase,
    KillRedis,
    Network,
}

impl Deed {
    const ALL: [Self; 8] = [
        Self::KillWorker,
        Self::TerminateWorker,
        Self::StopWorker,
        Self::KillProducer,
        Self::KillBroker,
        Self::KillDatabase,
        Self::KillRedis,
        Self::Network,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::KillWorker => "worker kills",
            Self::TerminateWorker => "worker SIGTERMs",
            Self::StopWorker => "worker SIGSTOPs",
            Self::KillProducer => "producer kills",
            Self::KillBroker => "broker kills",
            Self::KillDatabase => "database kills",
            Self::KillRedis => "Redis kills",
            Self::Network => "network faults",
        }
    }

    fn ordered(self, arguments: &Arguments) -> u32 {
        match self {
            Self::KillWorker => arguments.worker_kills,
            Self::TerminateWorker => arguments.worker_terms,
            Self::StopWorker => arguments.worker_stops,
            Self::KillProducer => arguments.producer_kills,
            Self::KillBroker => arguments.broker_kills,
            Self::KillDatabase => arguments.database_kills,
            Self::KillRedis => arguments.redis_kills,
            Self::Network => arguments.network_faults,
        }
    }
}

/// Lets the fleet work through all of it.
pub(crate) async fn play(stage: &mut Stage, arguments: &Arguments) -> Result<Done> {
    let mut producers = Troupe::start("producer", PRODUCERS, &stage.environment)?;
    let mut workers = Troupe::start("worker", arguments.workers, &stage.environment)?;
    let mut done = Done::default();
    let mut deeds: Vec<Deed> = Deed::ALL
        .into_iter()
        .flat_map(|deed| std::iter::repeat_n(deed, deed.ordered(arguments) as usize))
        .collect();
    shuffle(&mut deeds, stage);
    let all = deeds.len();
    let mut added = 1;
    for (number, deed) in deeds.into_iter().enumerate() {
        // Work comes in as long as there is mischief left, so that none of it hits an idle fleet.
        let share = i64::try_from((number + 1) * usize::try_from(arguments.jobs)? / all)?;
        add_until(stage, &mut added, share.max(WAVE.min(arguments.jobs)), arguments).await?;
        sleep(Duration::from_millis(100 + stage.draw(700))).await;
        let begun = now();
        commit(deed, stage, &mut workers, &mut producers, arguments, &mut done).await?;
        done.disturbances.push((begun, now() + TimeDelta::seconds(5)));
        done.gave_up += workers.revive()? + producers.revive()?;
    }
    add_until(stage, &mut added, arguments.jobs, arguments).await?;
    for deed in Deed::ALL {
        done.counts.push((deed.name(), deed.ordered(arguments)));
    }
    done.recovered_in = recover(stage, arguments, &mut workers, &mut producers, &mut done.gave_up).await?;
    done.bad_ends += workers.dismiss().await? + producers.dismiss().await?;
    Ok(done)
}

async fn add_until(stage: &mut Stage, added: &mut i64, until: i64, arguments: &Arguments) -> Result<()> {
    while *added <= until {
        let end = (*added + WAVE).min(arguments.jobs + 1);
        stage.add(*added..end, arguments.first_failures).await?;
        *added = end;
        if *added > arguments.jobs {
            break;
        }
    }
    Ok(())
}

fn shuffle(deeds: &mut [Deed], stage: &Stage) {
    for place in (1..deeds.len()).rev() {
        let other = usize::try_from(stage.draw(place as u64 + 1)).unwrap_or(0);
        deeds.swap(place, other);
    }
}

async fn commit(
    deed: Deed,
    stage: &mut Stage,
    workers: &mut Troupe,
    producers: &mut Troupe,
    arguments: &Arguments,
    done: &mut Done,
) -> Result<()> {
    let place =
        |stage: &Stage, troupe: &Troupe| usize::try_from(stage.draw(troupe.len() as u64)).unwrap_or(0);
    match deed {
        Deed::KillWorker => workers.kill(place(stage, workers)).await,
        Deed::TerminateWorker => {
            done.bad_ends += u32::from(!workers.terminate(place(stage, workers)).await?);
            Ok(())
        }
        Deed::StopWorker => {
            let place = place(stage, workers);
            workers.signal(place, Signal::SIGSTOP)?;
            sleep(Duration::from_secs(arguments.stop_seconds)).await;
            workers.signal(place, Signal::SIGCONT)
        }
        Deed::KillProducer => producers.kill(place(stage, producers)).await,
        Deed::KillBroker => stage.rabbitmq.restart().await,
        Deed::KillDatabase => stage.mariadb.restart().await,
        Deed::KillRedis => stage.redis.restart().await,
        Deed::Network => {
            let mode = [Mode::Slow(Duration::from_millis(200)), Mode::Reset, Mode::HalfOpen, Mode::BlackHole];
            let mode = usize::try_from(stage.draw(mode.len() as u64)).ok().and_then(|drawn| mode.get(drawn));
            let victim = usize::try_from(stage.draw(stage.proxies.len() as u64)).unwrap_or(0);
            if let (Some(mode), Some(proxy)) = (mode, stage.proxies.get(victim)) {
                proxy.set(*mode);
                sleep(Duration::from_secs(2 + stage.draw(4))).await;
                proxy.set(Mode::Open);
            }
            Ok(())
        }
    }
}

/// Waits until nobody has anything left to do.
async fn recover(
    stage: &Stage,
    arguments: &Arguments,
    workers: &mut Troupe,
    producers: &mut Troupe,
    gave_up: &mut u32,
) -> Result<Option<Duration>> {
    const LEFT: &str = "SELECT COUNT(*) FROM ie_appinstall_connection k LEFT JOIN token_refresh r \
        ON r.connection_id = k.id WHERE r.connection_id IS NULL OR r.queued_until IS NOT NULL \
        OR (r.state = 'active' AND (r.generation = 0 OR r.next_attempt_at IS NOT NULL))";
    // The broker's statistics are up to seconds late.
    const IN_A_ROW: u32 = 8;
    let (begun, mut well) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(arguments.patience) {
        *gave_up += workers.revive()? + producers.revive()?;
        let left = stage.number(LEFT).await?;
        well = if left == 0 && stage.is_drained().await? { well + 1 } else { 0 };
        if well == IN_A_ROW {
            return Ok(Some(begun.elapsed()));
        }
        sleep(Duration::from_millis(500)).await;
    }
    Ok(None)
}
