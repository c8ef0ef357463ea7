//! What happens to the fleet while it works: kills, stops, restarts and networks, each kind at its own pace, until all
//! that was ordered has happened; then calm, and time to recover.

use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use freshet_tests::fleet::now;
use freshet_tests::waiting::eventually;
use nix::sys::signal::Signal;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::arguments::Arguments;
use crate::events::{Event, Whom};
use crate::proxy::Mode;
use crate::stage::Stage;
use crate::troupe::Troupe;

/// Connections that are added together.
const WAVE: i64 = 200;
/// A fleet that has not called by then does not come back by itself.
const RESUMES_WITHIN: Duration = Duration::from_secs(120);
/// Producers: one scans, and another stands by.
const PRODUCERS: usize = 2;

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Kinds of mischief, and how often each happened.
    pub(crate) counts: Vec<(&'static str, u32)>,
    /// All that hit somebody.
    pub(crate) events: Vec<Event>,
    /// Processes that did not end in good order when they were asked to, or gave back what they had begun.
    pub(crate) bad_ends: Vec<String>,
    /// How long after the broker's return the first refresh was made, each time.
    pub(crate) resumed_in: Vec<Duration>,
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
    let mut producers = Troupe::start("producer", PRODUCERS, stage)?;
    let mut workers = Troupe::start("worker", arguments.workers, stage)?;
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
        let share = share.max(WAVE.min(arguments.jobs));
        // What comes due while the broker is away shows when work goes on.
        let is_long = deed == Deed::KillBroker && arguments.broker_seconds > 0;
        if is_long {
            let from = now();
            stage.rabbitmq.kill()?;
            sleep(Duration::from_secs(arguments.broker_seconds)).await;
            add_until(stage, &mut added, share, arguments).await?;
            let returned = broker_returns(stage).await?;
            done.events.push(Event::since(from, "broker away", Whom::Everyone));
            done.resumed_in.push(resumed(stage, returned).await?);
        } else {
            add_until(stage, &mut added, share, arguments).await?;
            sleep(Duration::from_millis(100 + stage.draw(700))).await;
            commit(deed, stage, &mut workers, &mut producers, arguments, &mut done).await?;
        }
        revive(&mut workers, &mut producers, &mut done)?;
    }
    add_until(stage, &mut added, arguments.jobs, arguments).await?;
    for deed in Deed::ALL {
        done.counts.push((deed.name(), deed.ordered(arguments)));
    }
    let recovered_in = recover(stage, arguments, &mut workers, &mut producers, &mut done).await?;
    done.recovered_in = recovered_in;
    done.bad_ends.extend(workers.dismiss().await);
    done.bad_ends.extend(producers.dismiss().await);
    Ok(done)
}

/// Starts the broker again; answers when it took the first connection.
async fn broker_returns(stage: &mut Stage) -> Result<DateTime<Utc>> {
    let address = stage.broker_address()?;
    let listening = async {
        while TcpStream::connect(address).await.is_err() {
            sleep(Duration::from_millis(20)).await;
        }
        now()
    };
    let (returned, started) = tokio::join!(listening, stage.rabbitmq.restart());
    started.map(|()| returned)
}

/// How long after the broker's return the provider was called again.
async fn resumed(stage: &Stage, returned: DateTime<Utc>) -> Result<Duration> {
    let called = eventually("somebody calls a provider again", RESUMES_WITHIN, async || {
        stage.called_after(returned).context("nobody does")
    })
    .await?;
    Ok((called - returned).to_std().unwrap_or_default())
}

/// Whoever ended by itself takes what it had with it.
fn revive(workers: &mut Troupe, producers: &mut Troupe, done: &mut Done) -> Result<()> {
    let ended = workers.revive()?;
    done.gave_up += u32::try_from(ended.len() + producers.revive()?.len())?;
    // When is not known; it was looked at after the last deed.
    let since = now() - TimeDelta::seconds(10);
    done.events.extend(ended.into_iter().map(|who| Event::since(since, "worker gave up", Whom::Worker(who))));
    Ok(())
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
    let from = now();
    let (what, whom) = match deed {
        Deed::KillWorker => {
            let place = place(stage, workers);
            ("worker killed", Whom::Worker(workers.kill(place).await?))
        }
        Deed::TerminateWorker => {
            // No reason for a second call: what it had begun it had to end.
            let place = place(stage, workers);
            done.bad_ends.extend(workers.terminate(place).await?);
            return Ok(());
        }
        Deed::StopWorker => {
            let place = place(stage, workers);
            let who = workers.signal(place, Signal::SIGSTOP)?;
            sleep(Duration::from_secs(arguments.stop_seconds)).await;
            workers.signal(place, Signal::SIGCONT)?;
            ("worker stood still", Whom::Worker(who))
        }
        Deed::KillProducer => {
            // No reason either: what it has published is claimed.
            let place = place(stage, producers);
            producers.kill(place).await?;
            return Ok(());
        }
        Deed::KillBroker => {
            stage.rabbitmq.restart().await?;
            ("broker away", Whom::Everyone)
        }
        Deed::KillDatabase => {
            stage.mariadb.restart().await?;
            ("database away", Whom::Everyone)
        }
        Deed::KillRedis => {
            stage.redis.restart().await?;
            ("Redis away", Whom::Everyone)
        }
        Deed::Network => {
            let mode = [Mode::Slow(Duration::from_millis(200)), Mode::Reset, Mode::HalfOpen, Mode::BlackHole];
            let mode = usize::try_from(stage.draw(mode.len() as u64)).ok().and_then(|drawn| mode.get(drawn));
            let victim = usize::try_from(stage.draw(stage.proxies.len() as u64)).unwrap_or(0);
            if let (Some(mode), Some(proxy)) = (mode, stage.proxies.get(victim)) {
                proxy.set(*mode);
                sleep(Duration::from_secs(2 + stage.draw(4))).await;
                proxy.set(Mode::Open);
            }
            ("network failing", Whom::Everyone)
        }
    };
    done.events.push(Event::since(from, what, whom));
    Ok(())
}

/// Waits until nobody has anything left to do.
async fn recover(
    stage: &Stage,
    arguments: &Arguments,
    workers: &mut Troupe,
    producers: &mut Troupe,
    done: &mut Done,
) -> Result<Option<Duration>> {
    const LEFT: &str = "SELECT COUNT(*) FROM ie_appinstall_connection k LEFT JOIN token_refresh r \
        ON r.connection_id = k.id WHERE r.connection_id IS NULL OR r.queued_until IS NOT NULL \
        OR (r.state = 'active' AND (r.generation = 0 OR r.next_attempt_at IS NOT NULL))";
    // The broker's statistics are up to seconds late.
    const IN_A_ROW: u32 = 8;
    let (begun, mut well) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(arguments.patience) {
        revive(workers, producers, done)?;
        let left = stage.number(LEFT).await?;
        well = if left == 0 && stage.is_drained().await? { well + 1 } else { 0 };
        if well == IN_A_ROW {
            return Ok(Some(begun.elapsed()));
        }
        sleep(Duration::from_millis(500)).await;
    }
    Ok(None)
}
