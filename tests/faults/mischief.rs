//! What happens to the fleet while it works: kills, stops, restarts and networks, each kind at its own pace, until all
//! that was ordered has happened; then calm, and time to recover.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use freshet_tests::fleet::now;
use freshet_tests::waiting::eventually;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::arguments::Arguments;
use crate::company::Company;
use crate::deeds::{Cast, Deed};
use crate::events::{Event, What, Whom};
use crate::said::Said;
use crate::stage::Stage;
use crate::supply::Supply;
use crate::troupe::{End, GaveUp};

/// A fleet that has not called by then does not come back by itself.
const RESUMES_WITHIN: Duration = Duration::from_secs(120);
/// Producers: one scans, and another stands by.
const PRODUCERS: usize = 2;

/// What was done.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// Connections that came due.
    pub(crate) jobs: i64,
    /// From which connection on they were added, and when.
    pub(crate) waves: Vec<(i64, DateTime<Utc>)>,
    /// Kinds of mischief, and how often each hit somebody.
    pub(crate) counts: Vec<(&'static str, u32)>,
    /// All that hit somebody.
    pub(crate) events: Vec<Event>,
    /// Processes that were asked to end.
    pub(crate) ends: Vec<End>,
    /// By the workers.
    pub(crate) said: Said,
    /// Messages that were put aside while the broker was killed, and are in no queue.
    pub(crate) lost_dead_letters: Vec<String>,
    /// How long after the broker's return the first refresh was made, each time.
    pub(crate) resumed_in: Vec<Duration>,
    /// How long after it every worker consumed again, each time.
    pub(crate) all_resumed_in: Vec<Duration>,
    /// Processes that ended by themselves.
    pub(crate) gave_up: Vec<GaveUp>,
    /// How long the fleet took to recover at the end; `None` if it did not.
    pub(crate) recovered_in: Option<Duration>,
}

impl Done {
    /// Since when a connection is there.
    pub(crate) fn added(&self, connection_id: i64) -> Option<DateTime<Utc>> {
        self.waves.iter().rfind(|(first, _)| *first <= connection_id).map(|(_, at)| *at)
    }

    fn count(&mut self, deed: Deed, has_hit: bool) {
        let counted = self.counts.iter_mut().filter(|(name, _)| *name == deed.name());
        counted.for_each(|(_, count)| *count += u32::from(has_hit));
    }

    /// Those to whom something was done, and nobody in particular at the end.
    pub(crate) fn workers(&self) -> impl Iterator<Item = &str> {
        let named: BTreeSet<_> = self.events.iter().filter_map(|event| event.whom.worker()).collect();
        named.into_iter().chain([""])
    }
}

/// Lets the fleet work through all of it.
pub(crate) async fn play(stage: &mut Stage, arguments: &Arguments) -> Result<Done> {
    let mut cast = Cast {
        producers: Company::of_producers(PRODUCERS, stage).await?,
        workers: Company::of_workers(arguments.workers, stage).await?,
    };
    let counts = Deed::ALL.map(|deed| (deed.name(), 0)).into();
    let mut done = Done { counts, ..Done::default() };
    let mut deeds: Vec<Deed> = Deed::ALL
        .into_iter()
        .flat_map(|deed| std::iter::repeat_n(deed, deed.ordered(arguments) as usize))
        .collect();
    shuffle(&mut deeds, stage);
    let all = deeds.len();
    if arguments.broker_kills > 0 {
        stage.queues_are_on_disk().await?;
    }
    let mut supply = Supply::new(arguments.jobs, arguments.first_failures);
    supply.share(stage, 0, 1).await?;
    // Whoever is killed while it starts has nothing to lose.
    called(stage, DateTime::UNIX_EPOCH).await?;
    for (number, deed) in deeds.into_iter().enumerate() {
        // Work comes in as long as there is mischief left, so that none of it hits an idle fleet.
        supply.share(stage, number + 1, all).await?;
        let has_hit = if deed == Deed::KillBroker && arguments.broker_seconds > 0 {
            be_without_broker(stage, &mut supply, arguments, &mut done).await?;
            true
        } else {
            sleep(Duration::from_millis(100 + stage.draw(arguments.pace.max(1)))).await;
            deed.commit(stage, &mut cast, arguments, &mut done).await?
        };
        done.count(deed, has_hit);
        done.events.extend(cast.workers.thaw_due()?);
        done.events.extend(cast.producers.thaw_due()?);
        revive(&mut cast, &mut done).await?;
    }
    supply.share(stage, 1, 1).await?;
    done.events.extend(cast.workers.thaw_all().await?);
    done.events.extend(cast.producers.thaw_all().await?);
    done.jobs = supply.added();
    done.waves = supply.into_waves();
    done.recovered_in = recover(stage, arguments, &mut cast, &mut done).await?;
    // Who waits for a person is looked at again and again; the last look has to find a worker.
    done.ends.extend(cast.producers.troupe.dismiss().await);
    if done.recovered_in.is_some() {
        done.recovered_in = recover(stage, arguments, &mut cast, &mut done).await?.and(done.recovered_in);
    }
    let mut workers = cast.workers.troupe;
    done.ends.extend(workers.dismiss().await);
    done.said = workers.said;
    Ok(done)
}

/// Keeps the broker away for as long as was ordered, and times how long the fleet takes to work again. What comes due
/// meanwhile shows when it does.
async fn be_without_broker(
    stage: &mut Stage,
    supply: &mut Supply,
    arguments: &Arguments,
    done: &mut Done,
) -> Result<()> {
    let from = now();
    stage.rabbitmq.kill()?;
    sleep(Duration::from_secs(arguments.broker_seconds)).await;
    supply.wave(stage).await?;
    let returned = broker_returns(stage).await?;
    done.events.push(Event::since(from, What::BrokerAway, Whom::Everyone));
    done.resumed_in.push(resumed(stage, returned).await?);
    // Another absence before that would be one long absence to whoever has not come back.
    eventually("every worker consumes again", RESUMES_WITHIN, async || {
        let consumers = stage.consumers().await?;
        ensure!(consumers >= arguments.workers, "only {consumers} of {} do", arguments.workers);
        Ok(())
    })
    .await?;
    done.all_resumed_in.push((now() - returned).to_std().unwrap_or_default());
    Ok(())
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
    let called = called(stage, returned).await?;
    Ok((called - returned).to_std().unwrap_or_default())
}

/// Waits until the provider has been called after this moment; answers when.
async fn called(stage: &Stage, moment: DateTime<Utc>) -> Result<DateTime<Utc>> {
    eventually("somebody calls a provider", RESUMES_WITHIN, async || {
        stage.called_after(moment).context("nobody does")
    })
    .await
}

/// Others take the places of those that ended by themselves.
async fn revive(cast: &mut Cast, done: &mut Done) -> Result<()> {
    done.gave_up.extend(cast.workers.troupe.revive().await?);
    done.gave_up.extend(cast.producers.troupe.revive().await?);
    Ok(())
}

fn shuffle(deeds: &mut [Deed], stage: &Stage) {
    for place in (1..deeds.len()).rev() {
        let other = usize::try_from(stage.draw(place as u64 + 1)).unwrap_or(0);
        deeds.swap(place, other);
    }
}

/// Waits until nobody has anything left to do.
async fn recover(
    stage: &Stage,
    arguments: &Arguments,
    cast: &mut Cast,
    done: &mut Done,
) -> Result<Option<Duration>> {
    const LEFT: &str = "SELECT COUNT(*) FROM ie_appinstall_connection k LEFT JOIN token_refresh r \
        ON r.connection_id = k.id WHERE r.connection_id IS NULL OR r.queued_until IS NOT NULL \
        OR (r.state = 'active' AND (r.generation = 0 OR r.next_attempt_at IS NOT NULL))";
    // The broker's statistics are up to seconds late.
    const IN_A_ROW: u32 = 8;
    let (begun, mut well) = (Instant::now(), 0);
    while begun.elapsed() < Duration::from_secs(arguments.patience) {
        revive(cast, done).await?;
        let left = stage.number(LEFT).await?;
        let is_well = left == 0 && stage.is_drained().await && stage.is_cache_warm().await?;
        well = if is_well { well + 1 } else { 0 };
        if well == IN_A_ROW {
            return Ok(Some(begun.elapsed()));
        }
        sleep(Duration::from_millis(500)).await;
    }
    Ok(None)
}
