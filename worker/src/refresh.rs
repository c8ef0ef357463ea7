//! One refresh, top to bottom.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use freshet_shared::domain::connection::{ConnectionState, LoadedConnection};
use freshet_shared::domain::decision::{Decision, decide};
use freshet_shared::domain::event::Before;
use freshet_shared::domain::failure::{Failure, FailureClass};
use freshet_shared::domain::input_fields::InputFields;
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::message::{MessageError, RefreshMessage};
use freshet_shared::domain::outcome::{Cached, Outcome, Skip};
use freshet_shared::domain::provider::Provider;
use freshet_shared::domain::provider::catalogue::Providers;
use freshet_shared::domain::provider::definition::Rotation;
use freshet_shared::domain::retry::RetryPolicy;
use freshet_shared::domain::window::RefreshWindows;
use freshet_shared::persistence::{Patience, persist_by};
use freshet_shared::ports::cache::Cache;
use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::events::Events;
use freshet_shared::ports::parking::Parking;
use freshet_shared::ports::provider::ProviderCaller;
use freshet_shared::ports::randomness::Randomness;
use freshet_shared::ports::store::{RefreshStore, StoreError};
use tokio_util::sync::CancellationToken;

use crate::channel_details::renew_details;
use crate::events::emit_events;
use crate::failing::{Sent, Subject, failed, unusable_row};
use crate::granting::{NoGrant, request_grant};
use crate::in_flight::Mark;
use crate::parked::store_kept;
use crate::parking::settled_or_parked;
use crate::permit::Permits;
use crate::repairing::{deferred, make_readable, overtaken, plan_cache_repair, restore_cache, skipped};
use crate::storing::store_grant;

/// For what is in nobody's hands but ours: the database is waited for until the process ends.
pub(crate) const TO_THE_END: Patience = Patience::endless(Duration::from_millis(100), Duration::from_secs(2));
/// For what can be had again: longer than a restart of the database takes, shorter than a pod's grace period.
pub(crate) const DATABASE_PATIENCE: Patience =
    Patience { total: Some(Duration::from_secs(20)), ..TO_THE_END };

/// How long the database is waited for, after a call that may have spent something or not.
pub(crate) fn patience(rotation: Rotation) -> Patience {
    if rotation.spends() { TO_THE_END } else { DATABASE_PATIENCE }
}

/// Asks the database until it answers, or patience is at its end.
pub(crate) async fn until_answered<T, F: Future<Output = Result<T, StoreError>>>(
    refresher: &Refresher,
    patience: Patience,
    operation: impl FnMut() -> F,
) -> Result<T, StoreError> {
    persist_by(
        patience,
        refresher.randomness.as_ref(),
        operation,
        |error| matches!(error, StoreError::Unavailable { .. }),
        |error, wait| tracing::warn!(%error, ?wait, "asking the database again"),
    )
    .await
}

/// What a refresh works with.
pub struct Refresher {
    /// MySQL.
    pub store: Arc<dyn RefreshStore>,
    /// Redis.
    pub cache: Arc<dyn Cache>,
    /// The providers' side.
    pub caller: Arc<dyn ProviderCaller>,
    /// Leave to call a provider: its limits, and whether it serves.
    pub permits: Permits,
    /// Whoever listens to what refreshes come to.
    pub events: Arc<dyn Events>,
    /// Where answers wait that cannot be stored before the process ends.
    pub parking: Arc<dyn Parking>,
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
    /// How long a connection is one worker's from before a call that spends its refresh token, by the database's clock: longer
    /// than the call and the commit.
    pub lease: TimeDelta,
    /// Cancelled when the grace period is nearly over: what is not stored by then is parked.
    pub last_call: CancellationToken,
}

impl Refresher {
    /// What this comes to; `None` where the worker's last call came first. For what another worker does as well.
    pub(crate) async fn before_last_call<T>(&self, work: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = work => Some(done),
            () = self.last_call.cancelled() => None,
        }
    }
}

/// Refreshes the connection that `message` names, if it still asks for it. `redelivered`: whoever had the message before
/// may have died with it.
pub async fn refresh(refresher: &Refresher, message: &RefreshMessage, redelivered: bool) -> Outcome {
    let Some(provider) = refresher.providers.get(&message.provider) else {
        return Outcome::Undecodable(unknown_provider(message));
    };
    let loaded = match refresher.load(provider, message.connection_id).await {
        Ok(loaded) => loaded,
        Err(error) => return unusable_row(refresher, message, error).await,
    };
    let before = loaded.as_ref().map(|connection| Before::of(provider.name(), connection));
    let outcome = work(refresher, provider, message, redelivered, loaded).await;
    if let Some(before) = before {
        emit_events(refresher, &before, &outcome);
    }
    outcome
}

async fn work(
    refresher: &Refresher,
    provider: &Provider,
    message: &RefreshMessage,
    redelivered: bool,
    loaded: Option<LoadedConnection>,
) -> Outcome {
    let now = refresher.clock.now();
    let asked = (provider.rotation(), provider.revision());
    let connection = match decide(message, loaded, &refresher.windows, asked, redelivered, now) {
        Decision::Refresh(connection) => connection,
        Decision::Lost(connection) => return lost(refresher, provider, &connection).await,
        Decision::Skip(Skip::Waiting(ConnectionState::Quarantined), Some(connection)) => {
            // Should the process end before, the answer is still on the row.
            let storing = refresher.before_last_call(store_kept(refresher, provider, &connection));
            return match storing.await.unwrap_or_else(|| Some(not_written())) {
                Some(outcome) => outcome,
                None => {
                    let skip = Skip::Waiting(connection.state);
                    skipped(refresher, provider, skip, Some(&connection)).await
                }
            };
        }
        Decision::Skip(skip, connection) => {
            if let (Skip::NotYet | Skip::InFlight, Some(connection)) = (skip, &connection) {
                make_readable(refresher, provider, connection).await;
            }
            return skipped(refresher, provider, skip, connection.as_ref()).await;
        }
    };
    // A call that spends is written down in the database, which knows better: the mark of a worker that died would outlive
    // the leeway inside which the call may be repeated.
    let mark = (!provider.rotation().spends()).then(|| Mark::of(refresher, message));
    if let Some(mark) = &mark
        && !mark.begin(refresher, redelivered).await
    {
        make_readable(refresher, provider, &connection).await;
        return skipped(refresher, provider, Skip::InFlight, Some(&connection)).await;
    }
    let outcome = attempt(refresher, provider, message.lane, redelivered, &connection).await;
    if let Some(mark) = mark
        && !matches!(outcome, Outcome::Refreshed(_))
    {
        // After a success the generation has moved on, and the mark may expire by itself.
        mark.finish(refresher).await;
    }
    outcome
}

async fn attempt(
    refresher: &Refresher,
    provider: &Provider,
    lane: Lane,
    redelivered: bool,
    connection: &LoadedConnection,
) -> Outcome {
    let input = match InputFields::parse(connection.input_fields.as_ref()) {
        Ok(input) => input,
        Err(failure) => {
            let subject = Subject::of(connection, provider.rotation(), connection.unknown_since());
            let writing = failed(refresher, &subject, failure, true);
            return refresher.before_last_call(writing).await.unwrap_or_else(not_written);
        }
    };
    // Before anything is touched: who has to come back later leaves the cache as it is.
    let permit = match refresher.permits.acquire(provider, provider.limits()).await {
        Ok(permit) => permit,
        Err(deferral) => {
            // By the refresh that failed before, or by whoever died with the message.
            let may_be_cleared = lane == Lane::Urgent && (redelivered || connection.failure_class.is_some());
            return deferred(refresher, provider, may_be_cleared, connection, deferral).await;
        }
    };
    if lane == Lane::Urgent {
        renew_details(refresher, provider, connection, &input).await;
    }
    let asked = request_grant(refresher, provider, connection, &input, permit).await;
    let answer = asked.answer.as_ref();
    let sent = Sent { attempt: asked.attempt.as_deref(), answer };
    let settling = async {
        match asked.result {
            Ok(grant) => store_grant(refresher, provider, connection, &input, grant, sent).await,
            Err(no_grant) => without_grant(refresher, provider, connection, no_grant, sent).await,
        }
    };
    let outcome = match answer {
        Some(answer) => settled_or_parked(refresher, provider, answer, settling).await,
        None => refresher.before_last_call(settling).await.unwrap_or_else(not_written),
    };
    match &outcome {
        // Whoever takes up a parked answer writes the cache, too.
        Outcome::Refreshed(_) | Outcome::Parked => {}
        Outcome::Stale => return overtaken(refresher, provider, connection.id).await,
        // The cache was cleared on the way; a token that is still good has to be readable again. What was loaded before
        // the call may have been replaced during it.
        _ if lane == Lane::Urgent => {
            // Where it cannot be, the next attempt does it; of which there is none where somebody else has stored a token.
            let restoring = until_answered(refresher, DATABASE_PATIENCE, || {
                restore_cache(refresher, provider, connection.id)
            });
            if let Some(Ok(Some((now, Cached::Failed)))) = refresher.before_last_call(restoring).await
                && now.generation != connection.generation
            {
                plan_cache_repair(refresher, &now, now.generation).await;
            }
        }
        _ => {}
    }
    outcome
}

async fn without_grant(
    refresher: &Refresher,
    provider: &Provider,
    connection: &LoadedConnection,
    no_grant: NoGrant,
    sent: Sent<'_>,
) -> Outcome {
    let (failure, unknown_since, is_answer, is_counted) = match no_grant {
        NoGrant::Failed { failure, unknown_since, is_answer, is_for_all } => {
            (failure, unknown_since, is_answer, !is_for_all)
        }
        NoGrant::Overtaken => return skipped(refresher, provider, Skip::InFlight, Some(connection)).await,
        NoGrant::Unavailable(error) => return Outcome::Unavailable { detail: error.to_string() },
    };
    if failure.class == FailureClass::InvalidGrant {
        match was_replaced(refresher, provider, connection).await {
            Ok(true) => return Outcome::Stale,
            Ok(false) => {}
            Err(error) => return Outcome::Unavailable { detail: error.to_string() },
        }
    }
    let mut subject = Subject::of(connection, provider.rotation(), unknown_since);
    // The last call's: an earlier answer says nothing of a call that was lost after it.
    subject = subject.having_sent(Sent { answer: sent.answer.filter(|_| is_answer), ..sent });
    if is_answer {
        subject = subject.answered(provider);
    }
    failed(refresher, &subject, failure, is_counted).await
}

/// A refused grant may have been refused because somebody else has a newer one: another worker, or the merchant who
/// authorised again. Then nothing is wrong with the connection.
async fn was_replaced(
    refresher: &Refresher,
    provider: &Provider,
    connection: &LoadedConnection,
) -> Result<bool, StoreError> {
    let loaded =
        until_answered(refresher, patience(provider.rotation()), || refresher.load(provider, connection.id))
            .await?;
    Ok(loaded.is_some_and(|now| {
        now.generation != connection.generation
            || now.access_token != connection.access_token
            || now.fingerprint() != connection.fingerprint()
    }))
}

/// Whoever sent the last call died with its answer, and by now the refresh token must not be presented again.
async fn lost(refresher: &Refresher, provider: &Provider, connection: &LoadedConnection) -> Outcome {
    let failure = Failure::of_unknown_effect(
        FailureClass::AnswerLost,
        "a call that spent the refresh token was sent, and its answer was never stored",
    );
    let subject = Subject::of(connection, provider.rotation(), connection.unknown_since());
    let writing = async {
        let outcome = failed(refresher, &subject, failure, true).await;
        // The access token has nothing to do with it.
        make_readable(refresher, provider, connection).await;
        outcome
    };
    refresher.before_last_call(writing).await.unwrap_or_else(not_written)
}

/// Whoever takes the message next asks again where that is allowed, or finds the failure out by itself: what a call may have
/// spent stands in the journal.
fn not_written() -> Outcome {
    Outcome::Unavailable { detail: "the process ends before what the refresh came to is written down".into() }
}

fn unknown_provider(message: &RefreshMessage) -> MessageError {
    MessageError::UnknownProvider { name: message.provider.chars().take(64).collect() }
}
