//! One job: from a delivery to its settlement.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use chrono::{DateTime, Utc};
use freshet_shared::domain::connection::ConnectionId;
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::message::RefreshMessage;
use freshet_shared::domain::outcome::{Disposition, Outcome};
use freshet_shared::failpoints::{Point, reached};
use freshet_shared::ports::queue::Delivery;
use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::failing::put_off;
use crate::job_span::{JobSpan, of_settlement};
use crate::refresh::{Refresher, refresh};

/// How long a job waits for a database that does not answer before it asks again.
const DATABASE_WAIT: Duration = Duration::from_secs(2);

/// What a job came to, for whoever counts.
#[derive(Debug, Clone)]
pub struct JobReport {
    /// Where the message came from.
    pub lane: Lane,
    /// The provider that it names, if it could be read.
    pub provider: Option<String>,
    /// The connection that it names, if it could be read.
    pub connection_id: Option<ConnectionId>,
    /// Since when the connection was due, if it could be read.
    pub due_at: Option<DateTime<Utc>>,
    /// How it ended.
    pub outcome: Outcome,
    /// From the delivery to the outcome.
    pub elapsed: Duration,
}

/// Handles one delivery: decodes, refreshes, settles.
pub async fn handle(refresher: &Refresher, delivery: Delivery, shutdown: &CancellationToken) -> JobReport {
    let span = JobSpan::of(&delivery);
    // A refresh is a large future, and a task that holds it is moved about.
    span.around(Box::pin(handle_in_span(refresher, delivery, shutdown, &span))).await
}

async fn handle_in_span(
    refresher: &Refresher,
    delivery: Delivery,
    shutdown: &CancellationToken,
    span: &JobSpan,
) -> JobReport {
    let begun = tokio::time::Instant::now();
    let lane = delivery.lane;
    let (message, outcome) = match RefreshMessage::decode(&delivery.body) {
        Ok(message) => {
            span.name(&message);
            tracing::debug!(redelivered = delivery.redelivered, "job begins");
            let outcome = outcome(refresher, &message, delivery.redelivered, shutdown).await;
            (Some(message), outcome)
        }
        Err(error) => (None, Outcome::Undecodable(error)),
    };
    span.end(&outcome);
    tell(&outcome, delivery.redelivered);
    reached(Point::AfterCache).await;
    settle(delivery, &outcome).await;
    JobReport {
        lane,
        connection_id: message.as_ref().map(|message| message.connection_id),
        due_at: message.as_ref().map(|message| message.due_at),
        provider: message.map(|message| message.provider),
        outcome,
        elapsed: begun.elapsed(),
    }
}

/// While the database is away a job waits with its slot: no other job could do better, and a message that went back and
/// forth would end as a dead letter.
async fn outcome(
    refresher: &Refresher,
    message: &RefreshMessage,
    redelivered: bool,
    shutdown: &CancellationToken,
) -> Outcome {
    let mut is_again = redelivered;
    loop {
        // Asked to end, it tries once more: of a pool whose server came back some time ago, connections may be dead that nobody has
        // used since.
        let is_last = shutdown.is_cancelled();
        let attempt = AssertUnwindSafe(refresh(refresher, message, is_again)).catch_unwind().await;
        let outcome = match attempt {
            Ok(outcome) => outcome,
            // At once it would most likely panic again, and call again before it does.
            Err(_) => {
                let put_off = AssertUnwindSafe(put_off(refresher, message)).catch_unwind().await;
                Outcome::Panicked { is_put_off: put_off.unwrap_or(false) }
            }
        };
        let Outcome::Unavailable { detail } = &outcome else { return outcome };
        if is_last {
            return outcome;
        }
        tracing::warn!(detail, "waiting for the database");
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            () = refresher.clock.sleep(DATABASE_WAIT) => {}
        }
        is_again = true;
    }
}

/// Says once, here, how the job ended.
fn tell(outcome: &Outcome, redelivered: bool) {
    match outcome {
        Outcome::Refreshed(refreshed) => {
            let lead_s = refreshed.lead.map(|lead| lead.num_seconds());
            let expires_at = refreshed.expires_at.map(|expires_at| expires_at.to_rfc3339());
            tracing::debug!(generation = refreshed.generation.0, expires_at, lead_s, "refreshed");
        }
        Outcome::Skipped(skip) => tracing::debug!(reason = skip.as_str(), redelivered, "nothing to do"),
        Outcome::Deferred { until, reason } => tracing::debug!(%until, reason, "put off"),
        Outcome::Stale => tracing::info!("the connection moved on meanwhile; its newer token stands"),
        Outcome::Failed(failed) => {
            tracing::warn!(
                class = %failed.failure.class,
                state = %failed.state,
                next_attempt_at = %failed.next_attempt_at,
                "refresh failed: {}",
                failed.failure.detail
            );
        }
        Outcome::Undecodable(error) => {
            tracing::error!(reason = error.reason(), "message goes to the dead letters: {error}");
        }
        Outcome::Unavailable { detail } => {
            tracing::error!("message goes back to its queue: {detail}");
        }
        Outcome::Parked => {
            tracing::warn!("the database is away: the answer waits in its queue for another worker")
        }
        Outcome::Panicked { is_put_off: true } => {
            tracing::error!("the refresh panicked: report this; the row says when it is tried again");
        }
        Outcome::Panicked { is_put_off: false } => {
            tracing::error!("the refresh panicked: report this; its message goes back to its queue");
        }
    }
}

pub(crate) async fn settle(delivery: Delivery, outcome: &Outcome) {
    let Delivery { body, settle, destination, .. } = delivery;
    let disposition = outcome.disposition();
    let span = of_settlement(disposition.as_str(), &destination);
    let settling = async {
        match disposition {
            Disposition::Acknowledge => settle.acknowledge().await,
            Disposition::Requeue => settle.requeue().await,
            Disposition::DeadLetter(reason) => settle.dead_letter(body, reason).await,
        }
    };
    if let Err(error) = settling.instrument(span.clone()).await {
        span.record("error.type", "unsettled");
        span.record("otel.status_code", "error");
        // The message comes again, and the fence makes that harmless.
        tracing::warn!(%error, "message not settled");
    }
}
