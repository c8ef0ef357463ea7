//! What a failure leaves behind: the row, and not a process, remembers when to try again.

use chrono::{DateTime, Utc};
use freshet_shared::domain::connection::{ConnectionId, ConnectionState, Generation, LoadedConnection};
use freshet_shared::domain::failure::{Failure, FailureClass};
use freshet_shared::domain::kept_answer::KeptAnswer;
use freshet_shared::domain::message::RefreshMessage;
use freshet_shared::domain::outcome::{Failed, Outcome};
use freshet_shared::domain::provider::Provider;
use freshet_shared::domain::provider::definition::Rotation;
use freshet_shared::domain::retry::History;
use freshet_shared::ports::store::{FailureRecord, StoreError};
use freshet_shared::telemetry::propagation::current;

use crate::refresh::{Refresher, patience, until_answered};

/// Stands in the history behind what failed.
const KEPT: &str = "; the answer is kept, and read again every retry.recheck";

/// What a failure is about.
pub(crate) struct Subject<'a> {
    connection_id: ConnectionId,
    generation: Generation,
    history: History,
    /// As it was loaded; `None` where it cannot be read.
    connection: Option<&'a LoadedConnection>,
    /// The definition's revision, where the provider itself said what is wrong: it is not asked again before something is
    /// another.
    answered_at: Option<&'a str>,
    /// The state that the row keeps, with all that explains it.
    kept: Option<ConnectionState>,
    /// What was sent, and what came back.
    sent: Sent<'a>,
}

/// A call that spends a refresh token, as far as it came. Nothing of it for any other.
#[derive(Clone, Copy, Default)]
pub(crate) struct Sent<'a> {
    /// The number under which it was written down.
    pub(crate) attempt: Option<&'a str>,
    /// What the provider answered, where it may hold the only good refresh token.
    pub(crate) answer: Option<&'a KeptAnswer>,
}

impl<'a> Subject<'a> {
    /// `unknown_since`: since when nobody knows whether the refresh token is spent.
    pub(crate) fn of(
        connection: &'a LoadedConnection,
        rotation: Rotation,
        unknown_since: Option<DateTime<Utc>>,
    ) -> Self {
        Self {
            connection_id: connection.id,
            generation: connection.generation,
            history: History {
                failures: connection.failures,
                grant_failures: connection.grant_failures,
                rotation,
                unknown_since,
            },
            connection: Some(connection),
            answered_at: None,
            kept: None,
            sent: Sent::default(),
        }
    }

    /// What a message is about whose row cannot be read, or is not to be: of a call nothing is known.
    fn unread(
        message: &RefreshMessage,
        failures: u32,
        grant_failures: u32,
        kept: Option<ConnectionState>,
    ) -> Self {
        Self {
            connection_id: message.connection_id,
            generation: message.generation,
            history: History { failures, grant_failures, rotation: Rotation::None, unknown_since: None },
            connection: None,
            answered_at: None,
            kept,
            sent: Sent::default(),
        }
    }

    /// What it failed on; an answer is kept, should it hold the only good refresh token.
    pub(crate) fn having_sent(self, sent: Sent<'a>) -> Self {
        Self { sent, ..self }
    }

    /// The calls that this failure may close.
    fn known_attempts(&self) -> Vec<String> {
        let loaded = self.connection.and_then(|connection| connection.attempt_id.as_deref());
        loaded.into_iter().chain(self.sent.attempt).map(str::to_owned).collect()
    }

    /// What tells the refresh token that only our call can have spent, as [`FailureRecord::not_spent`], if `failure` says that it
    /// did not: a strict one is presented by nobody else.
    fn not_spent(&self, failure: &Failure) -> Option<String> {
        let History { rotation, unknown_since, .. } = self.history;
        let is_known = rotation == Rotation::Strict && unknown_since.is_none() && !failure.may_have_spent;
        let connection = self.connection.filter(|_| is_known && self.sent.attempt.is_some())?;
        Some(connection.grant_fingerprint())
    }

    /// The number of the call of which nobody knows what it did: the one that was open when the row was loaded, or ours.
    fn unknown_attempt(&self) -> Option<&str> {
        let open = self.connection.filter(|connection| connection.unknown_since().is_some());
        open.and_then(|connection| connection.attempt_id.as_deref()).or(self.sent.attempt)
    }

    /// The provider itself said what is wrong.
    pub(crate) fn answered(self, provider: &'a Provider) -> Self {
        Self { answered_at: Some(provider.revision()), ..self }
    }

    /// Whether nobody knows when its token dies: a failure does not make it one like the others.
    fn is_unmonitored(&self) -> bool {
        self.connection.is_some_and(|connection| {
            connection.state == ConnectionState::Unmonitored && connection.expires_at.is_none()
        })
    }

    /// What has to change before it is tried again, if it is left in `state`.
    fn fingerprint(&self, state: ConnectionState) -> Option<String> {
        let connection = self.connection?;
        match state {
            ConnectionState::Quarantined | ConnectionState::NeedsReauth => {
                Some(connection.fingerprint_for(state, ""))
            }
            ConnectionState::Misconfigured => Some(connection.fingerprint_for(state, self.answered_at?)),
            ConnectionState::Active | ConnectionState::Unmonitored => None,
        }
    }
}

/// Writes the failure down with the next attempt. Not counted is one of the provider's that hits all its connections.
pub(crate) async fn failed(
    refresher: &Refresher,
    subject: &Subject<'_>,
    mut failure: Failure,
    is_counted: bool,
) -> Outcome {
    // What refused without doing anything holds nothing.
    let is_worth_keeping = failure.may_have_spent && subject.history.rotation.spends();
    let kept_answer = subject.sent.answer.filter(|_| is_worth_keeping && refresher.store.keeps_answers());
    if kept_answer.is_some() {
        failure.detail.push_str(KEPT);
    }
    let at = refresher.clock.now();
    let decision = refresher.retry.after(&failure, &subject.history, at, refresher.randomness.next());
    if decision.state == ConnectionState::Quarantined {
        let what_to_do = match kept_answer {
            Some(_) => {
                "quarantined: the answer to a call that spent the refresh token could not be used; it is kept on the row, and \
                 is used without another call once the definition reads it, or the column takes it; otherwise the merchant has \
                 to authorise again"
            }
            None => {
                "quarantined: the answer to a call that spent the refresh token is lost, or could not be used and no key is configured \
                 to keep it with; presenting the token again may revoke the grant; the merchant has to authorise again"
            }
        };
        let unknown_since = subject.history.unknown_since.map(tracing::field::display);
        let attempt = subject.unknown_attempt();
        tracing::error!(connection_id = subject.connection_id.0, unknown_since, attempt, "{what_to_do}");
    }
    let state = match (subject.kept, decision.state) {
        (Some(kept), _) => kept,
        (None, ConnectionState::Active) if subject.is_unmonitored() => ConnectionState::Unmonitored,
        (None, decided) => decided,
    };
    let record = FailureRecord {
        connection_id: subject.connection_id,
        generation: subject.generation,
        failure: failure.clone(),
        at,
        next_attempt_at: decision.next_attempt_at,
        loaded: subject.connection.map(LoadedConnection::standing),
        not_spent: subject.not_spent(&failure),
        state,
        is_standing_kept: subject.kept.is_some(),
        grant_failures: decision.grant_failures,
        is_counted,
        is_attempt_open: decision.is_attempt_open,
        fingerprint: subject.fingerprint(state),
        trace: current(),
        known_attempts: subject.known_attempts(),
        kept_answer: kept_answer.cloned(),
    };
    let recorded = until_answered(refresher, patience(subject.history.rotation), || {
        refresher.store.record_failure(&record)
    })
    .await;
    match recorded {
        Ok(false) => return Outcome::Stale,
        Ok(true) => {}
        Err(StoreError::Unavailable { problem, .. }) => {
            return Outcome::Unavailable {
                detail: format!("{problem}; the failure to be written was {failure}"),
            };
        }
        // Asking the provider again would not help; the claim runs out, and the connection is found again.
        Err(error) => tracing::error!(%error, "failure not written down"),
    }
    Outcome::Failed(Failed { failure, next_attempt_at: decision.next_attempt_at, state })
}

/// A row that cannot be read is a failure of its own, found again after its backoff; anything else is the database's.
pub(crate) async fn unusable_row(
    refresher: &Refresher,
    message: &RefreshMessage,
    error: StoreError,
) -> Outcome {
    let (class, problem, failures, kept) = match error {
        // What its other columns say of grant, state and open call still holds.
        StoreError::Unreadable { problem, .. } => {
            (FailureClass::Misconfigured, problem, 0, Some(ConnectionState::Misconfigured))
        }
        StoreError::UnreadableSecret { problem, failures, state, .. } => {
            (FailureClass::UnreadableSecret, problem, failures, Some(state))
        }
        error => return Outcome::Unavailable { detail: error.to_string() },
    };
    let subject = Subject::unread(message, failures, 0, kept);
    failed(refresher, &subject, Failure::new(class, problem), true).await
}

/// A refresh that panicked waits like one that failed. What it left behind says what it had done by then, so state and open
/// call stay as they are. Answers whether the row knows.
pub(crate) async fn put_off(refresher: &Refresher, message: &RefreshMessage) -> bool {
    let Some(provider) = refresher.providers.get(&message.provider) else { return false };
    let Ok(Some(connection)) = refresher.load(provider, message.connection_id).await else { return false };
    let (failures, grant_failures) = (connection.failures, connection.grant_failures);
    let subject = Subject::unread(message, failures, grant_failures, Some(connection.state));
    let failure = Failure::new(FailureClass::Panicked, "a fault of ours: the worker's log tells where");
    // Stale: it panicked after its commit, or somebody else was faster.
    matches!(failed(refresher, &subject, failure, true).await, Outcome::Failed(_) | Outcome::Stale)
}
