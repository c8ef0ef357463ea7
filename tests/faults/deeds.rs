//! What is done to the fleet, one deed at a time.

use std::time::Duration;

use anyhow::{Context, Result};
use chrono::TimeDelta;
use freshet_tests::fleet::now;
use tokio::time::sleep;

use crate::arguments::Arguments;
use crate::company::Company;
use crate::events::{Event, What, Whom};
use crate::mischief::Done;
use crate::network::Part;
use crate::proxy::Mode;
use crate::stage::{LONGEST_SILENCE, STATEMENT_TIMEOUT, Stage};

/// Who is hit.
pub(crate) struct Cast {
    pub(crate) workers: Company,
    pub(crate) producers: Company,
}

/// One deed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deed {
    KillWorker,
    TerminateWorker,
    StopWorker,
    KillProducer,
    TerminateProducer,
    StopProducer,
    KillBroker,
    KillDatabase,
    KillRedis,
    Network,
}

impl Deed {
    /// As the table has them.
    pub(crate) const ALL: [Self; 10] = [
        Self::KillWorker,
        Self::TerminateWorker,
        Self::StopWorker,
        Self::KillProducer,
        Self::TerminateProducer,
        Self::StopProducer,
        Self::KillBroker,
        Self::KillDatabase,
        Self::KillRedis,
        Self::Network,
    ];

    /// For the table.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::KillWorker => "worker kills",
            Self::TerminateWorker => "worker SIGTERMs",
            Self::StopWorker => "worker SIGSTOPs",
            Self::KillProducer => "producer kills",
            Self::TerminateProducer => "producer SIGTERMs",
            Self::StopProducer => "producer SIGSTOPs",
            Self::KillBroker => "broker kills",
            Self::KillDatabase => "database kills",
            Self::KillRedis => "Redis kills",
            Self::Network => "network faults",
        }
    }

    /// How often.
    pub(crate) fn ordered(self, arguments: &Arguments) -> u32 {
        match self {
            Self::KillWorker => arguments.worker_kills,
            Self::TerminateWorker => arguments.worker_terms,
            Self::StopWorker => arguments.worker_stops,
            Self::KillProducer => arguments.producer_kills,
            Self::TerminateProducer => arguments.producer_terms,
            Self::StopProducer => arguments.producer_stops,
            Self::KillBroker => arguments.broker_kills,
            Self::KillDatabase => arguments.database_kills,
            Self::KillRedis => arguments.redis_kills,
            Self::Network => arguments.network_faults,
        }
    }

    /// Does it, and notes whom it hit; answers whether it hit anybody, who may have ended by itself before. That a process was
    /// asked to end, or that a producer was killed, is no reason for anything: what was begun had to end, and what was published
    /// is claimed.
    pub(crate) async fn commit(
        self,
        stage: &mut Stage,
        cast: &mut Cast,
        arguments: &Arguments,
        done: &mut Done,
    ) -> Result<bool> {
        let from = now();
        let Cast { workers, producers } = cast;
        let stopped_for = Duration::from_secs(arguments.stop_seconds);
        let (what, whom) = match self {
            Self::KillWorker => match workers.kill_one(stage, done).await? {
                Some(killed) => (What::WorkerKilled, Whom::Worker(killed)),
                None => return Ok(false),
            },
            Self::KillBroker => {
                stage.rabbitmq.restart().await?;
                (What::BrokerAway, Whom::Everyone)
            }
            Self::KillDatabase => {
                stage.mariadb.restart().await?;
                (What::DatabaseAway, Whom::Everyone)
            }
            Self::KillRedis => {
                stage.redis.restart().await?;
                (What::RedisAway, Whom::Everyone)
            }
            Self::KillProducer => return Ok(producers.kill_one(stage, done).await?.is_some()),
            Self::TerminateWorker => return workers.terminate_one(stage, done).await,
            Self::TerminateProducer => return producers.terminate_one(stage, done).await,
            Self::StopWorker => return workers.stop_one(stage, stopped_for, done).await,
            Self::StopProducer => return producers.stop_one(stage, stopped_for, done).await,
            Self::Network => {
                done.events.extend(disturb(stage, cast, arguments).await?);
                return Ok(true);
            }
        };
        done.events.push(Event::since(from, what, whom));
        Ok(true)
    }
}

/// What a worker and a producer speak to.
const OF_WORKERS: &[Part] = &[Part::Database, Part::Broker, Part::Cache, Part::Provider];
const OF_PRODUCERS: &[Part] = &[Part::Database, Part::Broker];
/// Whoever looks at the clock while it waits gets over a connection on which nothing ever comes again: here that are heartbeats
/// of 2 s with the broker, 4 s without an answer of the cache, 2 s for a call, and 4 s for a statement.
const MODES: [Mode; 5] =
    [Mode::Slow(Duration::from_millis(200)), Mode::Reset, Mode::HalfOpen, Mode::BlackHole, Mode::Gone];

/// A connection to the cache is given up 4 s after the first command that had no answer, each of which is waited for 1 s; and
/// one that was begun before the network was well is waited for 5 s.
const CACHE_GIVEN_UP: TimeDelta = TimeDelta::seconds(5);

/// How much longer it is felt than the network is in this mode. A connection to the database that is gone for good costs a
/// statement its whole time, once; and those that lay idle beside it may cost the next one as much, which asks them one by one
/// whether they are well.
fn felt_longer(part: Part, mode: Mode) -> TimeDelta {
    match (part, mode) {
        (Part::Database, Mode::Gone) => STATEMENT_TIMEOUT * 2,
        (Part::Cache, Mode::Gone) => CACHE_GIVEN_UP,
        _ => TimeDelta::zero(),
    }
}

/// Whether the database does not learn that its sessions have lost their process.
fn forgets_sessions(part: Part, mode: Mode) -> bool {
    (part, mode) == (Part::Database, Mode::Gone)
}

/// Something is wrong for seconds between one process, or all of a kind, and one of those they speak to.
async fn disturb(stage: &Stage, cast: &Cast, arguments: &Arguments) -> Result<Vec<Event>> {
    let from = now();
    let (company, parts) = match stage.draw(4) {
        0 => (&cast.producers, OF_PRODUCERS),
        _ => (&cast.workers, OF_WORKERS),
    };
    let part = stage.one_of(parts)?;
    let mode = stage.one_of(&MODES)?;
    let all = company.troupe.places_without(&[]);
    let places = if stage.draw(2) == 0 { vec![stage.one_of(&all)?] } else { all };
    let mut hit = Vec::new();
    for place in &places {
        hit.push(company.troupe.disturb(*place, part, mode)?.to_owned());
    }
    sleep(Duration::from_secs(2 + stage.draw(4))).await;
    for place in places {
        company.troupe.disturb(place, part, Mode::Open).context("the network cannot be mended")?;
    }
    let (latency, patience) =
        (Duration::from_millis(arguments.latency), Duration::from_secs(arguments.call_seconds));
    let what = What::of_network(part, mode, latency, patience);
    let cut_off = hit
        .iter()
        .cloned()
        .map(|who| Event::since(from, what, company.whom(who)).and_for(felt_longer(part, mode)));
    let forgotten = hit.iter().filter(|_| forgets_sessions(part, mode)).cloned();
    let forgotten = forgotten.map(|who| Event::of_sessions(from, LONGEST_SILENCE, company.whom(who)));
    Ok(cut_off.chain(forgotten).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_gone_is_missed_until_it_is_given_up_and_none_but_the_database_forgets_sessions() {
        assert!(MODES.contains(&Mode::Gone) && MODES.contains(&Mode::BlackHole));
        for part in [Part::Database, Part::Broker, Part::Cache, Part::Provider] {
            for mode in MODES {
                let is_gone = mode == Mode::Gone && matches!(part, Part::Database | Part::Cache);
                assert_eq!(felt_longer(part, mode) > TimeDelta::zero(), is_gone, "{part:?} {mode:?}");
                let forgets = is_gone && part == Part::Database;
                assert_eq!(forgets_sessions(part, mode), forgets, "{part:?} {mode:?}");
            }
        }
        assert!(felt_longer(Part::Database, Mode::Gone) > STATEMENT_TIMEOUT);
        assert_eq!(felt_longer(Part::Cache, Mode::Gone), CACHE_GIVEN_UP);
    }
}
