//! Bringing the cache to what MySQL holds, now or later, and ending the claim of a job that calls nobody.

use chrono::{DateTime, Utc};
use freshet_shared::domain::connection::{ConnectionId, ConnectionState, Generation, LoadedConnection};
use freshet_shared::domain::failure::{Failure, FailureClass};
use freshet_shared::domain::outcome::{Cached, Outcome, Skip};
use freshet_shared::domain::provider::Provider;
use freshet_shared::domain::provider::definition::Rotation;
use freshet_shared::domain::retry::History;
use freshet_shared::ports::store::{Recovered, Release, StoreError};
use freshet_shared::telemetry::propagation::current;

use crate::cache_entries::repair_cache;
use crate::permit::Deferral;
use crate::refresh::{Refresher, TO_THE_END, until_answered};

impl Refresher {
    /// The connection as MySQL holds it, its times by our clock.
    pub(crate) async fn load(
        &self,
        provider: &Provider,
        connection_id: ConnectionId,
    ) -> Result<Option<LoadedConnection>, StoreError> {
        let asked_at = self.clock.now();
        let loaded =
            self.store.load(connection_id, provider.name(), provider.integration_type.as_deref()).await?;
        Ok(loaded.map(|loaded| loaded.by_clock_of(asked_at)))
    }
}

/// Somebody else stored a token first, or we did and the database's answer was lost: what stands there is what the cache
/// has to hold.
pub(crate) async fn overtaken(
    refresher: &Refresher,
    provider: &Provider,
    connection_id: ConnectionId,
) -> Outcome {
    match restore_cache(refresher, provider, connection_id).await {
        Ok(Some((connection, Cached::Failed))) => {
            match plan_cache_repair(refresher, &connection, connection.generation).await {
                Cached::Unplanned => {
                    Outcome::Unavailable { detail: "no repair of the cache is planned".into() }
                }
                _ => Outcome::Stale,
            }
        }
        Ok(_) => Outcome::Stale,
        // Nobody else would look at it before the next refresh.
        Err(error @ StoreError::Unavailable { .. }) => Outcome::Unavailable { detail: error.to_string() },
        Err(_) => Outcome::Stale,
    }
}

/// Writes what MySQL holds by now to the cache.
///
/// # Errors
/// If that cannot be read.
pub(crate) async fn restore_cache(
    refresher: &Refresher,
    provider: &Provider,
    connection_id: ConnectionId,
) -> Result<Option<(LoadedConnection, Cached)>, StoreError> {
    let Some(connection) = refresher.load(provider, connection_id).await? else { return Ok(None) };
    let cached = repair_cache(refresher, provider, &connection).await;
    Ok(Some((connection, cached)))
}

/// Makes a token readable that is still good, as it was loaded just now: whoever cleared the cache before a call may have died
/// before. The next attempt does it where it cannot be now.
pub(crate) async fn make_readable(refresher: &Refresher, provider: &Provider, connection: &LoadedConnection) {
    let now = refresher.clock.now();
    if connection.expires_at.is_none_or(|expires_at| expires_at > now) {
        repair_cache(refresher, provider, connection).await;
    }
}

/// Nothing is called; what a worker that died in the middle may have left undone is done, and the claim ends where nobody
/// else will end it.
pub(crate) async fn skipped(
    refresher: &Refresher,
    provider: &Provider,
    skip: Skip,
    connection: Option<&LoadedConnection>,
) -> Outcome {
    let Some(connection) = connection else { return Outcome::Skipped(skip) };
    let now = refresher.clock.now();
    let next_attempt_at = match skip {
        Skip::NotYet => connection.next_attempt_at,
        // Should the other one have died, somebody has to look again, in time for a leeway.
        Skip::InFlight => {
            let rotation = provider.rotation();
            Some(rotation.in_time(connection.unknown_since(), now + refresher.in_flight, now))
        }
        // Its token may be good for hours yet.
        Skip::Waiting(state) => match repair_cache(refresher, provider, connection).await {
            Cached::Failed | Cached::Unplanned => Some(next_repair(refresher)),
            Cached::Written | Cached::Newer if state == ConnectionState::Unmonitored => None,
            Cached::Written | Cached::Newer => {
                Some(refresher.retry.recheck_at(now, refresher.randomness.next()))
            }
        },
        _ => match repair_cache(refresher, provider, connection).await {
            Cached::Failed | Cached::Unplanned => Some(next_repair(refresher)),
            Cached::Written | Cached::Newer => None,
        },
    };
    // After the generation moved on, the claim is the next message's.
    if skip != Skip::GenerationMovedOn || next_attempt_at.is_some() {
        // Who finds a good token that this fleet did not store finds that somebody helped; but an access token alone says
        // nothing of a refresh token that may be spent.
        let is_recovered = skip == Skip::AlreadyFresh
            && connection.is_troubled()
            && (connection.unknown_since().is_none() || !provider.rotation().spends());
        let recovered = is_recovered.then(|| Recovered {
            loaded: connection.standing(),
            loaded_attempt: connection.attempt_id.clone(),
        });
        let release = Release { recovered, ..Release::of(connection, next_attempt_at, current()) };
        if let Err(error) = refresher.store.release(&release).await {
            return Outcome::Unavailable { detail: error.to_string() };
        }
    }
    Outcome::Skipped(skip)
}

/// The provider may not be called now. The row remembers until when, so no slot is held for it. `may_be_cleared`: the cache, by
/// a refresh before.
pub(crate) async fn deferred(
    refresher: &Refresher,
    provider: &Provider,
    may_be_cleared: bool,
    connection: &LoadedConnection,
    deferral: Deferral,
) -> Outcome {
    let Deferral { until, reason } = deferral;
    let now = refresher.clock.now();
    // In time for a leeway, and for the token that is in use.
    let until = provider.rotation().in_time(connection.unknown_since(), until, now);
    let until = match connection.expires_at {
        Some(expires_at) if expires_at > now => until.min(now + (expires_at - now) / 2),
        _ => until,
    };
    let release = Release::of(connection, Some(until), current());
    match refresher.store.release(&release).await {
        Ok(()) => {
            if may_be_cleared {
                make_readable(refresher, provider, connection).await;
            }
            Outcome::Deferred { until, reason: reason.as_str() }
        }
        Err(error) => Outcome::Unavailable { detail: error.to_string() },
    }
}

/// When a cache entry is written again after the cache did not answer: spread over about a minute, because a cache that is
/// away is away for the whole fleet.
fn next_repair(refresher: &Refresher) -> DateTime<Utc> {
    const AS_AFTER_FAILURES: u32 = 4;
    let failure = Failure::new(FailureClass::Network, "");
    let history = History {
        failures: AS_AFTER_FAILURES,
        grant_failures: 0,
        rotation: Rotation::None,
        unknown_since: None,
    };
    refresher
        .retry
        .after(&failure, &history, refresher.clock.now(), refresher.randomness.next())
        .next_attempt_at
}

/// The retry scan finds the row, and the message that it publishes writes the cache again. `generation`: of the token that the
/// cache did not take, where it was stored since the connection was loaded.
///
/// Nobody else knows that the cache holds another token than the database, so the database is waited for to the worker's last
/// call. What is not planned by then has to be done by whoever takes the message next.
pub(crate) async fn plan_cache_repair(
    refresher: &Refresher,
    connection: &LoadedConnection,
    generation: Generation,
) -> Cached {
    let release = Release { generation, ..Release::of(connection, Some(next_repair(refresher)), current()) };
    let planning = until_answered(refresher, TO_THE_END, || refresher.store.release(&release));
    let connection_id = connection.id.0;
    match refresher.before_last_call(planning).await {
        Some(Ok(())) => Cached::Failed,
        Some(Err(error)) => {
            tracing::error!(connection_id, %error, "cache repair not planned; the next refresh writes the cache");
            Cached::Failed
        }
        None => {
            tracing::error!(
                connection_id,
                "cache repair not planned, for the database is away and this process ends: the message goes back, and whoever takes \
                 it writes the cache"
            );
            Cached::Unplanned
        }
    }
}
