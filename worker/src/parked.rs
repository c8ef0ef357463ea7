//! Storing answers that a worker before us could not store: parked ones from the queue, kept ones from the row.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use freshet_shared::domain::connection::LoadedConnection;
use freshet_shared::domain::event::Before;
use freshet_shared::domain::input_fields::InputFields;
use freshet_shared::domain::kept_answer::KeptAnswer;
use freshet_shared::domain::message::{MessageError, ParkedMessage};
use freshet_shared::domain::outcome::{Outcome, Skip};
use freshet_shared::domain::provider::Provider;
use freshet_shared::domain::provider::definition::Rotation;
use freshet_shared::ports::queue::{ConsumeError, Consumer};
use futures_util::FutureExt;
use futures_util::future::OptionFuture;
use tokio_util::sync::CancellationToken;

use crate::events::emit_events;
use crate::failing::{Sent, Subject, failed};
use crate::granting::read_answer;
use crate::job::settle;
use crate::refresh::{Refresher, patience, until_answered};
use crate::repairing::overtaken;
use crate::storing::store_grant;

/// How long giving back what was not begun may take.
const LONGEST_STOP: Duration = Duration::from_secs(5);

/// Stores parked answers, one after another, until `shutdown`; one that is in our hands then is finished, or given back when
/// the grace period is nearly over.
///
/// # Errors
/// If consuming cannot go on.
pub(crate) async fn run_parked(
    refresher: &Refresher,
    mut consumer: Box<dyn Consumer>,
    shutdown: &CancellationToken,
) -> Result<(), ConsumeError> {
    let mut unfinished = None;
    let ended = loop {
        let delivery = tokio::select! {
            biased;
            () = shutdown.cancelled() => break Ok(()),
            delivery = consumer.next() => delivery,
        };
        let delivery = match delivery {
            Ok(delivery) => delivery,
            Err(error) => break Err(error),
        };
        let storing = AssertUnwindSafe(store_parked(refresher, &delivery.body)).catch_unwind();
        let Some(outcome) = refresher.before_last_call(storing).await else {
            unfinished = Some(delivery.settle);
            break Ok(());
        };
        let outcome = outcome.unwrap_or(Outcome::Panicked { is_put_off: false });
        match &outcome {
            Outcome::Undecodable(error) => tracing::error!(
                reason = error.reason(),
                "a parked answer goes to the dead letters, and its connection is quarantined when it is due: {error}"
            ),
            outcome => tracing::info!(outcome = outcome.as_str(), "a parked answer was taken up"),
        }
        settle(delivery, &outcome).await;
    };
    // A broker that hangs takes the messages back by itself.
    let stopping = async {
        consumer.stop().await;
        // As one that waits: dropped it would go back as one that failed, and after enough restarts end as a dead letter. And not
        // before nothing is taken any more, or it would come here once more.
        if let Some(Err(error)) = OptionFuture::from(unfinished.map(|settle| settle.requeue())).await {
            tracing::warn!(%error, "a parked answer was not given back, and comes again when this process is gone");
        }
        consumer.finish().await;
    };
    let _ = tokio::time::timeout(LONGEST_STOP, stopping).await;
    ended
}

/// Stores the answer in this message, unless the connection has moved on.
pub(crate) async fn store_parked(refresher: &Refresher, body: &[u8]) -> Outcome {
    let (message, answer) = match ParkedMessage::decode(body)
        .and_then(|message| Ok((refresher.parking.open(&message)?, message)))
    {
        Ok((answer, message)) => (message, answer),
        Err(error) => return Outcome::Undecodable(error),
    };
    let Some(provider) = refresher.providers.get(&message.provider) else {
        let name = message.provider.chars().take(64).collect();
        return Outcome::Undecodable(MessageError::UnknownProvider { name });
    };
    // Whatever the definition says by now: this answer cannot be had again.
    let loading = || refresher.load(provider, answer.connection_id);
    let connection = match until_answered(refresher, patience(Rotation::Strict), loading).await {
        Ok(Some(connection)) => connection,
        Ok(None) => return Outcome::Skipped(Skip::Gone),
        Err(error) => return Outcome::Unavailable { detail: error.to_string() },
    };
    if !answer.answers(&connection) {
        return overtaken(refresher, provider, connection.id).await;
    }
    let before = Before::of(provider.name(), &connection);
    let outcome = store_answer(refresher, provider, &connection, &answer).await;
    emit_events(refresher, &before, &outcome);
    outcome
}

/// Reads the answer that was kept on the row once more: with another definition, or where the column has become wide enough,
/// it may be stored now. `None` leaves everything as it is.
pub(crate) async fn store_kept(
    refresher: &Refresher,
    provider: &Provider,
    connection: &LoadedConnection,
) -> Option<Outcome> {
    let answer = match refresher.store.kept_answer(connection.id).await {
        Ok(answer) => answer?,
        Err(error) => {
            tracing::warn!(connection_id = connection.id.0, %error, "a kept answer is left where it is");
            return None;
        }
    };
    if !answer.answers(connection) || read_answer(provider, &answer).is_err() {
        return None;
    }
    Some(store_answer(refresher, provider, connection, &answer).await)
}

async fn store_answer(
    refresher: &Refresher,
    provider: &Provider,
    connection: &LoadedConnection,
    answer: &KeptAnswer,
) -> Outcome {
    // The token's headers need it; without them nothing of the answer is lost, for it stays on the row.
    let read = InputFields::parse(connection.input_fields.as_ref())
        .and_then(|input| Ok((read_answer(provider, answer)?, input)));
    // The call that is open is the one that was answered.
    let sent = Sent { attempt: None, answer: Some(answer) };
    match read {
        Ok((grant, input)) => store_grant(refresher, provider, connection, &input, grant, sent).await,
        Err(failure) => {
            // What an earlier call did is not known better because this one was answered.
            let since = answer.unknown_since.or(failure.may_have_spent.then_some(answer.sent_at));
            let subject = Subject::of(connection, provider.rotation(), since);
            failed(refresher, &subject.having_sent(sent), failure, true).await
        }
    }
}
