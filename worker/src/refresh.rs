//! One refresh, top to bottom.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use freshet_shared::domain::connection::{ConnectionId, Generation, Grant, LoadedConnection};
use freshet_shared::domain::decision::{Decision, decide};
use freshet_shared::domain::failure::{Failure, FailureClass};
use freshet_shared::domain::input_fields::InputFields;
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::message::{MessageError, RefreshMessage};
use freshet_shared::domain::outcome::{Cached, Outcome, Refreshed, Skip};
use freshet_shared::domain::provider::Provider;
use freshet_shared::domain::provider::catalogue::Providers;
use freshet_shared::domain::retry::RetryPolicy;
use freshet_shared::domain::window::RefreshWindows;
use freshet_shared::ports::cache::Cache;
use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::events::Events;
use freshet_shared::ports::provider::ProviderCaller;
use freshet_shared::ports::randomness::Randomness;
use freshet_shared::ports::store::{Commit, Committed, RefreshStore, StoreError};

use freshet_shared::persistence::{Patience, persist};

use crate::cache_entries::{repair_cache, write_cache};
use crate::channel_details::renew_details;
use crate::failing::{Subject, failed, unusable_row};
use crate::in_flight::Mark;

/// Longer than a restart of the database takes, shorter than a pod's grace period.
pub(crate) const DATABASE_PATIENCE: Patience = Patience {
    first: Duration::from_millis(100),
    longest: Duration::from_secs(2),
    total: Some(Duration::from_secs(20)),
};

/// What a refresh works with.
pub struct Refresher {
    /// MySQL.
    pub store: Arc<dyn RefreshStore>,
    /// Redis.
    pub cache: Arc<dyn Cache>,
    /// The providers' side.
    pub caller: Arc<dyn ProviderCaller>,
    /// Whoever listens to what refreshes come to.
    pub events: Arc<dyn Events>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for jitter.
    pub randomness: Arc<dyn Randomness>,
    /// The definitions.
    pub providers: Providers,
    /// When a token is due.
    pub windows: RefreshWindows,
    /// How long to wait after a failure.
    pub retry: RetryPolicy,
    /// Names this process in marks that others see.
    pub holder: String,
    /// How long the channels of a connection may take to be renewed at the platform, before the token's turn comes.
    pub details_limit: Duration,
    /// How long a refresh may be in flight: longer than all its calls.
    pub in_flight: Duration,
}

/// Refreshes the connection that `message` names, if it still asks for it. `redelivered`: whoever had the message before
/// may have died with it.
pub async fn refresh(refresher: &Refresher, message: &RefreshMessage, redelivered: bool) -> Outcome {
    let Some(provider) = refresher.providers.get(&message.provider) else {
        return Outcome::Undecodable(unknown_provider(message));
    };
    let loaded =
        refresher.store.load(message.connection_id, provider.name(), provider.integration_type.as_deref());
    let loaded = match loaded.await {
        Ok(loaded) => loaded,
        Err(error) => return unusable_row(refresher, message, error).await,
    };
    let connection = match decide(message, loaded, &refresher.windows, refresher.clock.now()) {
        Decision::Refresh(connection) => connection,
        Decision::Skip(skip, connection) => return skipped(refresher, provider, skip, connection).await,
    };
    let mark = Mark::of(refresher, message);
    if !mark.begin(refresher, redelivered).await {
        return skipped(refresher, provider, Skip::InFlight, Some(connection)).await;
    }
    let outcome = attempt(refresher, provider, message.lane, &connection).await;
    if !matches!(outcome, Outcome::Refreshed(_)) {
        // After a success the generation has moved on, and the mark may expire by itself.
        mark.finish(refresher).await;
    }
    outcome
}

async fn attempt(
    refresher: &Refresher,
    provider: &Provider,
    lane: Lane,
    connection: &LoadedConnection,
) -> Outcome {
    let input = match InputFields::parse(connection.input_fields.as_ref()) {
        Ok(input) => input,
        Err(failure) => return failed(refresher, &Subject::of(connection), failure).await,
    };
    if lane == Lane::Urgent {
        renew_details(refresher, provider, connection, &input).await;
    }
    let outcome = match request_token(refresher, provider, &input).await {
        Ok(grant) => store_token(refresher, provider, connection, &input, grant).await,
        Err(failure) => failed(refresher, &Subject::of(connection), failure).await,
    };
    match &outcome {
        Outcome::Refreshed(_) => {}
        Outcome::Stale => overtaken(refresher, provider, connection.id).await,
        // The cache was cleared on the way; a token that is still good has to be readable again. What was loaded before
        // the call may have been replaced during it.
        _ if lane == Lane::Urgent => {
            restore_cache(refresher, provider, connection.id).await;
        }
        _ => {}
    }
    outcome
}

async fn request_token(
    refresher: &Refresher,
    provider: &Provider,
    input: &InputFields,
) -> Result<Grant, Failure> {
    let request = provider.token_request(input)?;
    // A token's life is counted from before the request, so that it never seems longer than it is.
    let sent_at = refresher.clock.now();
    let answer = refresher.caller.call(&request).await?;
    provider.interpret(&answer, sent_at, refresher.clock.now())
}

async fn store_token(
    refresher: &Refresher,
    provider: &Provider,
    connection: &LoadedConnection,
    input: &InputFields,
    grant: Grant,
) -> Outcome {
    let now = refresher.clock.now();
    let commit = Commit {
        connection_id: connection.id,
        spent: connection.generation,
        loaded_expiry: connection.expires_at,
        access_token: grant.access_token.clone(),
        generated_at: now,
        expires_at: grant.expires_at,
        lifetime: grant.lifetime,
        refresh_at: refresher.windows.refresh_at(grant.expires_at, grant.lifetime),
    };
    match commit_patiently(refresher, &commit).await {
        Ok(Committed::Applied(generation)) => {
            let cached = write_cache(
                refresher,
                provider,
                connection.id,
                generation,
                &grant.access_token,
                grant.expires_at,
                input,
            )
            .await;
            if cached == Cached::Failed {
                plan_cache_repair(refresher, connection, generation).await;
            }
            Outcome::Refreshed(Refreshed {
                generation,
                expires_at: grant.expires_at,
                stored_at: now,
                lead: connection.expires_at.map(|expires_at| expires_at - now),
                cached,
            })
        }
        Ok(Committed::Stale) => Outcome::Stale,
        Err(StoreError::Refused { problem, .. }) => {
            let characters = grant.access_token.characters();
            let detail = format!("the database refused the new token ({characters} characters): {problem}");
            failed(refresher, &Subject::of(connection), Failure::new(FailureClass::UnstorableToken, detail))
                .await
        }
        Err(error) => Outcome::Unavailable { detail: error.to_string() },
    }
}

/// A granted token is worth waiting for the database, within limits.
async fn commit_patiently(refresher: &Refresher, commit: &Commit) -> Result<Committed, StoreError> {
    persist(
        DATABASE_PATIENCE,
        || refresher.store.commit(commit),
        |error| matches!(error, StoreError::Unavailable { .. }),
        |error, wait| tracing::warn!(connection_id = commit.connection_id.0, %error, ?wait, "token not stored yet"),
    )
    .await
}

/// Somebody else stored a token first, or we did and the database's answer was lost: what stands there is what the cache
/// has to hold.
async fn overtaken(refresher: &Refresher, provider: &Provider, connection_id: ConnectionId) {
    if let Some((connection, Cached::Failed)) = restore_cache(refresher, provider, connection_id).await {
        plan_cache_repair(refresher, &connection, connection.generation).await;
    }
}

/// Writes what MySQL holds by now to the cache; nothing where that cannot be read.
async fn restore_cache(
    refresher: &Refresher,
    provider: &Provider,
    connection_id: ConnectionId,
) -> Option<(LoadedConnection, Cached)> {
    let loaded =
        refresher.store.load(connection_id, provider.name(), provider.integration_type.as_deref()).await;
    let connection = loaded.ok().flatten()?;
    let cached = repair_cache(refresher, provider, &connection).await;
    Some((connection, cached))
}

/// Nothing is called; what a worker that died in the middle may have left undone is done, and the claim ends where nobody
/// else will end it.
async fn skipped(
    refresher: &Refresher,
    provider: &Provider,
    skip: Skip,
    connection: Option<LoadedConnection>,
) -> Outcome {
    let Some(connection) = connection else { return Outcome::Skipped(skip) };
    let next_attempt_at = match skip {
        Skip::NotYet => connection.next_attempt_at,
        // Should the other one have died, somebody has to look again.
        Skip::InFlight => Some(refresher.clock.now() + refresher.in_flight),
        _ => match repair_cache(refresher, provider, &connection).await {
            Cached::Failed => Some(next_repair(refresher)),
            Cached::Written | Cached::Newer => None,
        },
    };
    // After the generation moved on, the claim is the next message's.
    if skip != Skip::GenerationMovedOn || next_attempt_at.is_some() {
        let released = refresher.store.release(connection.id, connection.generation, next_attempt_at).await;
        if let Err(error) = released {
            return Outcome::Unavailable { detail: error.to_string() };
        }
    }
    Outcome::Skipped(skip)
}

/// When a cache entry is written again after the cache did not answer: spread over about a minute, because a cache that is
/// away is away for the whole fleet.
fn next_repair(refresher: &Refresher) -> DateTime<Utc> {
    const AS_AFTER_FAILURES: u32 = 4;
    let failure = Failure::new(FailureClass::Network, "");
    let (now, random) = (refresher.clock.now(), refresher.randomness.next());
    refresher.retry.after(&failure, AS_AFTER_FAILURES, now, random).next_attempt_at
}

/// The retry scan finds the row, and the message that it publishes writes the cache again.
async fn plan_cache_repair(refresher: &Refresher, connection: &LoadedConnection, generation: Generation) {
    if let Err(error) = refresher.store.release(connection.id, generation, Some(next_repair(refresher))).await
    {
        tracing::error!(connection_id = connection.id.0, %error, "cache repair not planned; the next refresh writes the cache");
    }
}

fn unknown_provider(message: &RefreshMessage) -> MessageError {
    MessageError::UnknownProvider { name: message.provider.chars().take(64).collect() }
}
