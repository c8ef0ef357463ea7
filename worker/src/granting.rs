//! From a connection to a grant: the call, and what goes before it where it spends a refresh token.

use chrono::{DateTime, Utc};
use freshet_shared::domain::connection::{Grant, LoadedConnection};
use freshet_shared::domain::failure::{Failure, FailureClass};
use freshet_shared::domain::input_fields::InputFields;
use freshet_shared::domain::provider::Provider;
use freshet_shared::domain::provider::environment::Spending;
use freshet_shared::persistence::persist;
use freshet_shared::ports::store::{Attempt, StoreError};

use crate::permit::Permit;
use crate::refresh::{DATABASE_PATIENCE, Refresher};

/// Calls that are made at once after one whose answer was lost, inside the provider's leeway. More would hold the slot for
/// long; what comes later is a job of its own.
const REPEATED_AT_ONCE: u32 = 1;

/// Why there is no grant.
pub(crate) enum NoGrant {
    /// The call failed, or could not be made.
    Failed {
        /// Why.
        failure: Failure,
        /// Since when nobody knows whether the refresh token is spent.
        unknown_since: Option<DateTime<Utc>>,
        /// Whether the provider fails for all, so that it says nothing about this connection.
        is_for_all: bool,
    },
    /// Somebody else is at it, or was faster: nothing was sent.
    Overtaken,
    /// The call could not be written down, so it was not sent.
    Unavailable(StoreError),
}

/// Asks the provider for a token. What may be spent by that is written down before.
pub(crate) async fn request_grant(
    refresher: &Refresher,
    provider: &Provider,
    connection: &LoadedConnection,
    input: &InputFields,
    mut permit: Permit,
) -> Result<Grant, NoGrant> {
    // Two copies of a message may meet in one process, so the process's name alone is not enough.
    let owner = format!("{}:{:016x}", refresher.holder, refresher.randomness.next());
    let mut secret = 0;
    let mut repeated = 0;
    let mut unknown_since = connection.unknown_since();
    let attempt_id = format!("{:016x}", refresher.randomness.next());
    loop {
        let spending = Spending { refresh_token: connection.refresh_token.as_ref(), secret };
        let request = provider.token_request(input, spending).map_err(|failure| NoGrant::Failed {
            failure,
            unknown_since,
            is_for_all: false,
        })?;
        // A token's life is counted from before the request, so that it never seems longer than it is.
        let sent_at = refresher.clock.now();
        if provider.rotation().spends() {
            let attempt = Attempt {
                connection_id: connection.id,
                generation: connection.generation,
                loaded_state: connection.state,
                loaded_attempt: connection.attempt_id.clone(),
                id: attempt_id.clone(),
                owner: owner.clone(),
                now: sent_at,
                sent_at: unknown_since.unwrap_or(sent_at),
                grant: connection.grant_fingerprint(),
                lease_until: sent_at + refresher.in_flight,
            };
            journal(refresher, &attempt).await?;
        }
        let answer = match refresher.caller.call(&request).await {
            Ok(answer) => provider.interpret(&answer, sent_at, refresher.clock.now(), connection.lifetime),
            Err(error) => Err(error.into()),
        };
        let failure = match answer {
            Ok(grant) => {
                permit.succeeded();
                return Ok(grant);
            }
            Err(failure) => failure,
        };
        let is_for_all = permit.failed(failure.class, failure.retry_after);
        let may_be_spent = failure.may_have_spent && provider.rotation().spends();
        if may_be_spent {
            unknown_since.get_or_insert(sent_at);
        }
        // An app's secret is being replaced: a client that is refused has spent nothing.
        let is_for_next_secret =
            failure.class == FailureClass::InvalidClient && secret + 1 < provider.secret_choices();
        let is_repeated = may_be_spent
            && repeated < REPEATED_AT_ONCE
            && unknown_since
                .is_some_and(|since| provider.rotation().may_repeat(since, refresher.clock.now()));
        let no_grant = NoGrant::Failed { failure, unknown_since, is_for_all };
        if !is_for_next_secret && !is_repeated {
            return Err(no_grant);
        }
        // Each call counts in the provider's limits. Who would have to wait for it comes back as a job of its own.
        let Ok(next) = refresher.permits.acquire(provider, provider.limits()).await else {
            return Err(no_grant);
        };
        permit = next;
        if is_for_next_secret {
            secret += 1;
        } else {
            repeated += 1;
            tracing::warn!(
                connection_id = connection.id.0,
                "answer lost: called again inside the provider's leeway"
            );
        }
    }
}

/// Fails closed: what is not written down is not sent. A database whose reply was lost is asked again, which changes nothing.
async fn journal(refresher: &Refresher, attempt: &Attempt) -> Result<(), NoGrant> {
    let begun = persist(
        DATABASE_PATIENCE,
        || refresher.store.begin_attempt(attempt),
        |error| matches!(error, StoreError::Unavailable { .. }),
        |error, wait| tracing::warn!(%error, ?wait, "call not written down yet"),
    )
    .await;
    match begun {
        Ok(true) => Ok(()),
        Ok(false) => Err(NoGrant::Overtaken),
        Err(error) => Err(NoGrant::Unavailable(error)),
    }
}
