//! From a connection to a grant: the call, and what goes before it where it spends a refresh token.

use std::panic::{AssertUnwindSafe, catch_unwind};

use chrono::{DateTime, Utc};
use freshet_shared::domain::connection::{Grant, LoadedConnection};
use freshet_shared::domain::failure::{Failure, FailureClass};
use freshet_shared::domain::input_fields::InputFields;
use freshet_shared::domain::kept_answer::KeptAnswer;
use freshet_shared::domain::provider::Provider;
use freshet_shared::domain::provider::definition::Rotation;
use freshet_shared::domain::provider::environment::Spending;
use freshet_shared::domain::provider::request_id::request_id;
use freshet_shared::domain::retry::{Again, Course};
use freshet_shared::failpoints::{Guard, Point, is_off, reached};
use freshet_shared::ports::store::{Attempt, StoreError};
use tokio::time::Instant;

use crate::permit::Permit;
use crate::refresh::{DATABASE_PATIENCE, Refresher, until_answered};

/// Why there is no grant.
pub(crate) enum NoGrant {
    /// The call failed, or could not be made.
    Failed {
        /// Why.
        failure: Failure,
        /// Since when nobody knows whether the refresh token is spent.
        unknown_since: Option<DateTime<Utc>>,
        /// Whether the provider said so itself.
        is_answer: bool,
        /// Whether the provider fails for all, so that it says nothing about this connection.
        is_for_all: bool,
    },
    /// Somebody else is at it, or was faster: nothing was sent.
    Overtaken,
    /// The call could not be written down, so it was not sent.
    Unavailable(StoreError),
}

/// What asking came to.
pub(crate) struct Asked {
    /// The grant, or why there is none.
    pub(crate) result: Result<Grant, NoGrant>,
    /// The last answer as it came, where it may hold the only good refresh token.
    pub(crate) answer: Option<KeptAnswer>,
    /// The number under which the call was written down, where it spends a refresh token.
    pub(crate) attempt: Option<String>,
}

/// Asks the provider for a token. What may be spent by that is written down before.
pub(crate) async fn request_grant(
    refresher: &Refresher,
    provider: &Provider,
    connection: &LoadedConnection,
    input: &InputFields,
    permit: Permit,
) -> Asked {
    let attempt = provider.rotation().spends().then(|| format!("{:016x}", refresher.randomness.next()));
    let mut answer = None;
    let result = ask(refresher, provider, connection, input, permit, attempt.as_deref(), &mut answer).await;
    Asked { result, answer, attempt }
}

async fn ask(
    refresher: &Refresher,
    provider: &Provider,
    connection: &LoadedConnection,
    input: &InputFields,
    mut permit: Permit,
    attempt_id: Option<&str>,
    last_answer: &mut Option<KeptAnswer>,
) -> Result<Grant, NoGrant> {
    // Two copies of a message may meet in one process, so the process's name alone is not enough.
    let owner = format!("{}:{:016x}", refresher.holder, refresher.randomness.next());
    let mut secret = 0;
    let mut repeated = 0;
    let mut unknown_since = connection.unknown_since();
    loop {
        let request_id = provider.wants_request_id().then(|| request_id(|| refresher.randomness.next()));
        let spending = Spending {
            refresh_token: connection.refresh_token.as_ref(),
            secret,
            request_id: request_id.as_deref(),
        };
        let request = provider.token_request(input, spending).map_err(|failure| NoGrant::Failed {
            failure,
            unknown_since,
            is_answer: false,
            is_for_all: false,
        })?;
        // A token's life is counted from before the request, so that it never seems longer than it is.
        let sent_at = refresher.clock.now();
        reached(Point::BeforeLease).await;
        if let Some(attempt_id) = attempt_id.filter(|_| !is_off(Guard::Journal)) {
            let attempt = Attempt {
                connection_id: connection.id,
                generation: connection.generation,
                loaded: connection.standing(),
                loaded_grant: connection.stored_grant.clone(),
                loaded_attempt: connection.attempt_id.clone(),
                id: attempt_id.to_owned(),
                owner: owner.clone(),
                is_effect_unknown: unknown_since.is_some(),
                grant: connection.grant_fingerprint(),
                lease: refresher.lease,
                // Who finds a lease and is here all the same was told so by `decide`.
                passes: connection.leased_until.is_some() && connection.unknown_since().is_some(),
            };
            begin(refresher, &attempt, provider.rotation(), unknown_since).await?;
        } else {
            reached(Point::AfterLease).await;
        }
        // What the call before was answered says nothing of the token that this one may spend.
        *last_answer = None;
        let answer = refresher.caller.call(&request).await;
        reached(Point::Zombie).await;
        let is_answer = answer.is_ok();
        let granted = answer.map_err(Failure::from).and_then(|answer| {
            let answer = KeptAnswer {
                connection_id: connection.id,
                generation: connection.generation,
                grant: connection.grant_fingerprint(),
                sent_at,
                answered_at: refresher.clock.now(),
                unknown_since,
                observed: connection.lifetime,
                answer,
            };
            // Kept before it is read: whatever happens from here on, it is there.
            let answer: &KeptAnswer = last_answer.insert(answer);
            read_answer(provider, answer)
        });
        if !provider.rotation().spends() {
            // Another one can be had.
            *last_answer = None;
        }
        let failure = match granted {
            Ok(grant) => {
                permit.succeeded();
                return Ok(grant);
            }
            Err(failure) => failure,
        };
        let secrets_left = provider.secret_choices() - secret - 1;
        // While an app's secret is being replaced, the refusal of the first one says nothing.
        let is_client_shared = provider.is_client_shared() && secrets_left == 0;
        let is_for_all = permit.failed(&failure, is_client_shared);
        if failure.may_have_spent && provider.rotation().spends() {
            unknown_since.get_or_insert(sent_at);
        }
        let course = Course { rotation: provider.rotation(), unknown_since, secrets_left, repeated };
        let again = course.again(&failure, refresher.clock.now());
        let no_grant = NoGrant::Failed { failure, unknown_since, is_answer, is_for_all };
        let Some(again) = again else { return Err(no_grant) };
        // Each call counts in the provider's limits. Who would have to wait for it comes back as a job of its own.
        let Ok(next) = refresher.permits.acquire(provider, provider.limits()).await else {
            return Err(no_grant);
        };
        permit = next;
        match again {
            Again::WithNextSecret => secret += 1,
            Again::InsideLeeway => {
                repeated += 1;
                tracing::warn!(
                    connection_id = connection.id.0,
                    "answer lost: called again inside the provider's leeway"
                );
            }
        }
    }
}

/// Reads an answer. A fault of ours in reading is a failure like any other, for the answer must not be lost by it.
pub(crate) fn read_answer(provider: &Provider, kept: &KeptAnswer) -> Result<Grant, Failure> {
    let read = || provider.interpret(&kept.answer, kept.sent_at, kept.answered_at, kept.observed);
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| {
        let detail = "reading the answer panicked: report this".to_owned();
        Err(Failure::of_unknown_effect(FailureClass::MalformedAnswer, detail))
    })
}

/// Written down, and looked at again where that is long ago by now. `unknown_since`: as for [`NoGrant::Failed`].
async fn begin(
    refresher: &Refresher,
    attempt: &Attempt,
    rotation: Rotation,
    unknown_since: Option<DateTime<Utc>>,
) -> Result<(), NoGrant> {
    // Who stands still time and again in this very place has other troubles.
    const LOOKS: u32 = 10;
    for look in 1..=LOOKS {
        // From before the question, for its reply may be old when it is read.
        let (asked_at, began_at) = (Instant::now(), refresher.clock.now());
        // It was decided when the connection was loaded, which may be long ago by now.
        if unknown_since.is_some_and(|since| !rotation.may_repeat(since, began_at)) {
            let detail = "a call that spent the refresh token was sent, its answer was never stored, and it is too late to call \
                 again";
            let failure = Failure::of_unknown_effect(FailureClass::AnswerLost, detail);
            return Err(NoGrant::Failed { failure, unknown_since, is_answer: false, is_for_all: false });
        }
        journal(refresher, attempt).await?;
        reached(Point::AfterLease).await;
        let since = unknown_since.unwrap_or(began_at);
        if rotation.may_be_sent(look, asked_at.elapsed(), since, refresher.clock.now()) {
            return Ok(());
        }
    }
    // Nothing was sent, which only this process knows: the call must not stay written down as if it were.
    let detail = "not called: each time the call was written down, the database's answer came too late to send it within the \
         provider's leeway; see how long its statements take";
    let failure = Failure::new(FailureClass::Network, detail);
    Err(NoGrant::Failed { failure, unknown_since, is_answer: false, is_for_all: true })
}

/// Fails closed: what is not written down is not sent. A database whose reply was lost is asked again, which changes nothing.
async fn journal(refresher: &Refresher, attempt: &Attempt) -> Result<(), NoGrant> {
    // Before it is: whoever dies right after has said whose call it is.
    tracing::debug!(attempt = attempt.id, "writing a call down");
    let begun = until_answered(refresher, DATABASE_PATIENCE, || refresher.store.begin_attempt(attempt)).await;
    match begun {
        Ok(true) => {
            tracing::debug!(attempt = attempt.id, "call written down");
            Ok(())
        }
        Ok(false) => Err(NoGrant::Overtaken),
        Err(error) => Err(NoGrant::Unavailable(error)),
    }
}
