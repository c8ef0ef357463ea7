//! What a failure leaves behind: the row, and not a process, remembers when to try again.

use chrono::{DateTime, Utc};
use freshet_shared::domain::connection::{ConnectionId, ConnectionState, Generation, LoadedConnection};
use freshet_shared::domain::failure::{Failure, FailureClass};
use freshet_shared::domain::message::RefreshMessage;
use freshet_shared::domain::outcome::{Failed, Outcome};
use freshet_shared::domain::provider::Provider;
use freshet_shared::domain::provider::definition::Rotation;
use freshet_shared::domain::retry::History;
use freshet_shared::ports::store::{FailureRecord, StoreError};

use crate::refresh::{Refresher, patience, until_answered};

/// What a failure is about.
pub(crate) struct Subject {
    connection_id: ConnectionId,
    generation: Generation,
    history: History,
    /// What tells whether somebody gave the connection another refresh token, and other credentials, since.
    fingerprints: Option<(String, String)>,
    /// What tells whether the credentials or the definition are other ones than those that the provider knew nothing of.
    misconfigured_as: Option<String>,
    /// The state that the row keeps, with all that explains it.
    kept: Option<ConnectionState>,
    /// Whether nobody knows when its token dies, so that a failure does not make it one like the others.
    is_unmonitored: bool,
}

impl Subject {
    /// `unknown_since`: since when nobody knows whether the refresh token is spent.
    pub(crate) fn of(
        connection: &LoadedConnection,
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
            fingerprints: Some((connection.grant_fingerprint(), connection.fingerprint())),
            misconfigured_as: None,
            kept: None,
            is_unmonitored: connection.state == ConnectionState::Unmonitored
                && connection.expires_at.is_none(),
        }
    }

    /// The provider itself said what is wrong: it is not asked again before something is another.
    pub(crate) fn answered(&mut self, connection: &LoadedConnection, provider: &Provider) {
        let state = ConnectionState::Misconfigured;
        self.misconfigured_as = Some(connection.fingerprint_for(state, provider.revision()));
    }
}

/// Writes the failure down with the next attempt. Not counted is one of the provider's that hits all its connections.
pub(crate) async fn failed(
    refresher: &Refresher,
    subject: &Subject,
    failure: Failure,
    is_counted: bool,
) -> Outcome {
    let at = refresher.clock.now();
    let decision = refresher.retry.after(&failure, &subject.history, at, refresher.randomness.next());
    if decision.state == ConnectionState::Quarantined {
        tracing::error!(
            connection_id = subject.connection_id.0,
            "quarantined: the answer to a call that spent the refresh token is lost, and presenting it again may \
             revoke the grant; the merchant has to authorise again"
        );
    }
    let state = match (subject.kept, decision.state) {
        (Some(kept), _) => kept,
        (None, ConnectionState::Active) if subject.is_unmonitored => ConnectionState::Unmonitored,
        (None, decided) => decided,
    };
    let fingerprint = subject.fingerprints.clone().and_then(|(of_grant, of_all)| match state {
        ConnectionState::Quarantined => Some(of_grant),
        ConnectionState::NeedsReauth => Some(of_all),
        ConnectionState::Misconfigured => subject.misconfigured_as.clone(),
        ConnectionState::Active | ConnectionState::Unmonitored => None,
    });
    let record = FailureRecord {
        connection_id: subject.connection_id,
        generation: subject.generation,
        failure: failure.clone(),
        at,
        next_attempt_at: decision.next_attempt_at,
        state,
        is_standing_kept: subject.kept.is_some(),
        grant_failures: decision.grant_failures,
        is_counted,
        is_attempt_open: decision.is_attempt_open,
        fingerprint,
    };
    let recorded =
        until_answered(patience(subject.history.rotation), || refresher.store.record_failure(&record)).await;
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
    let history = History { failures, grant_failures: 0, rotation: Rotation::None, unknown_since: None };
    let subject = Subject {
        connection_id: message.connection_id,
        generation: message.generation,
        history,
        fingerprints: None,
        misconfigured_as: None,
        is_unmonitored: false,
        kept,
    };
    failed(refresher, &subject, Failure::new(class, problem), true).await
}
