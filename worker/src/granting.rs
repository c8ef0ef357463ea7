//! From a connection to a grant: the call, and what goes before it where it spends a refresh token.

use chrono::{DateTime, Utc};
use freshet_shared::domain::connection::{Grant, LoadedConnection};
use freshet_shared::domain::failure::{Failure, FailureClass};
use freshet_shared::domain::input_fields::InputFields;
use freshet_shared::domain::provider::Provider;
use freshet_shared::domain::provider::environment::Spending;
use freshet_shared::ports::store::{Attempt, StoreError};

use crate::refresh::Refresher;

/// Calls that are made at once after one whose answer was lost, inside the provider's leeway. More would hold the slot for
/// long; what comes later is a job of its own.
const REPEATED_AT_ONCE: u32 = 1;

/// Why there is no grant.
pub(crate) enum NoGrant {
    /// The call failed, or could not be made.
    Failed {
        /// Why.
        failure: Failure,
        /// When a call that may have spent the refresh token was sent first.
        sent_at: Option<DateTime<Utc>>,
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
) -> Result<Grant, NoGrant> {
    let mut secret = 0;
    let mut repeated = 0;
    let mut first_sent = connection.attempt_sent_at;
    loop {
        let spending = Spending { refresh_token: connection.refresh_token.as_ref(), secret };
        let failed = |failure, sent_at| NoGrant::Failed { failure, sent_at };
        let request =
            provider.token_request(input, spending).map_err(|failure| failed(failure, first_sent))?;
        // A token's life is counted from before the request, so that it never seems longer than it is.
        let sent_at = refresher.clock.now();
        if provider.rotation().spends() {
            journal(refresher, connection, sent_at).await?;
            first_sent.get_or_insert(sent_at);
        }
        let answer = match refresher.caller.call(&request).await {
            Ok(answer) => provider.interpret(&answer, sent_at, refresher.clock.now(), connection.lifetime),
            Err(error) => Err(error.into()),
        };
        let failure = match answer {
            Ok(grant) => return Ok(grant),
            Err(failure) => failure,
        };
        let may_repeat =
            first_sent.is_some_and(|at| provider.rotation().may_repeat(at, refresher.clock.now()));
        if failure.class == FailureClass::InvalidClient && secret + 1 < provider.secret_choices() {
            // An app's secret is being replaced: a client that is refused has spent nothing.
            secret += 1;
        } else if failure.may_have_spent
            && provider.rotation().spends()
            && may_repeat
            && repeated < REPEATED_AT_ONCE
        {
            repeated += 1;
            tracing::warn!(connection_id = connection.id.0, %failure, "called again inside the provider's leeway");
        } else {
            return Err(failed(failure, first_sent));
        }
    }
}

/// Fails closed: what is not written down is not sent.
async fn journal(
    refresher: &Refresher,
    connection: &LoadedConnection,
    sent_at: DateTime<Utc>,
) -> Result<(), NoGrant> {
    let attempt = Attempt {
        connection_id: connection.id,
        generation: connection.generation,
        id: format!("{:016x}", refresher.randomness.next()),
        owner: refresher.holder.clone(),
        sent_at,
        lease_until: sent_at + refresher.in_flight,
    };
    match refresher.store.begin_attempt(&attempt).await {
        Ok(true) => Ok(()),
        Ok(false) => Err(NoGrant::Overtaken),
        Err(error) => Err(NoGrant::Unavailable(error)),
    }
}
