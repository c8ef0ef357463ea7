//! What a failure leaves behind: the row, and not a process, remembers when to try again.

use freshet_shared::domain::connection::{ConnectionId, Generation, LoadedConnection};
use freshet_shared::domain::failure::{Failure, FailureClass};
use freshet_shared::domain::message::RefreshMessage;
use freshet_shared::domain::outcome::{Failed, Outcome};
use freshet_shared::persistence::persist;
use freshet_shared::ports::store::{FailureRecord, StoreError};

use crate::refresh::{DATABASE_PATIENCE, Refresher};

/// What a failure is about.
pub(crate) struct Subject {
    connection_id: ConnectionId,
    generation: Generation,
    /// Failures in a row before this one.
    failures: u32,
}

impl Subject {
    pub(crate) fn of(connection: &LoadedConnection) -> Self {
        Self {
            connection_id: connection.id,
            generation: connection.generation,
            failures: connection.failures,
        }
    }
}

/// Writes the failure down with the next attempt.
pub(crate) async fn failed(refresher: &Refresher, subject: &Subject, failure: Failure) -> Outcome {
    let at = refresher.clock.now();
    let decision = refresher.retry.after(&failure, subject.failures, at, refresher.randomness.next());
    let record = FailureRecord {
        connection_id: subject.connection_id,
        generation: subject.generation,
        failure: failure.clone(),
        at,
        next_attempt_at: decision.next_attempt_at,
        state: decision.state,
    };
    let recorded = persist(
        DATABASE_PATIENCE,
        || refresher.store.record_failure(&record),
        |error| matches!(error, StoreError::Unavailable { .. }),
        |error, wait| tracing::warn!(%error, ?wait, "failure not written down yet"),
    )
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
    Outcome::Failed(Failed { failure, next_attempt_at: decision.next_attempt_at, state: decision.state })
}

/// A row that cannot be read is a failure of its own, found again after its backoff; anything else is the database's.
pub(crate) async fn unusable_row(
    refresher: &Refresher,
    message: &RefreshMessage,
    error: StoreError,
) -> Outcome {
    let (class, problem, failures) = match error {
        StoreError::Unreadable { problem, .. } => (FailureClass::Misconfigured, problem, 0),
        StoreError::UnreadableSecret { problem, failures, .. } => {
            (FailureClass::UnreadableSecret, problem, failures)
        }
        error => return Outcome::Unavailable { detail: error.to_string() },
    };
    let subject = Subject { connection_id: message.connection_id, generation: message.generation, failures };
    failed(refresher, &subject, Failure::new(class, problem)).await
}
