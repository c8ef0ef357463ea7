//! Publishing: one persistent message per claimed connection, each with the context of its own trace.

use std::collections::BTreeSet;

use freshet_shared::domain::connection::ConnectionId;
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::message::RefreshMessage;
use freshet_shared::ports::queue::{Outgoing, PublishError, Publisher, TraceContext};
use freshet_shared::telemetry::propagation::{current, inject, link};
use tracing::{Span, debug_span};

use crate::metrics::ScanMetrics;

/// What publishing came to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PublishReport {
    /// Messages that the broker confirmed.
    pub confirmed: u64,
    /// Messages that it did not.
    pub failed: u64,
    /// Connections of those that are certainly in no queue. Of the others nobody knows.
    pub unsent: Vec<ConnectionId>,
    /// Whether the broker itself did not answer, rather than refuse some of them.
    pub is_broker_away: bool,
    /// The lanes whose queues did not answer, while the broker does.
    pub silent: BTreeSet<Lane>,
    /// Whether a queue refused a message, or is not there.
    pub is_refused: bool,
}

/// A message to be published.
pub struct Planned {
    /// The message.
    pub message: RefreshMessage,
    /// The span of the attempt before, if there was one.
    pub attempt_before: TraceContext,
}

/// Publishes one message per connection and waits for the broker's confirms.
pub async fn publish(
    publisher: &dyn Publisher,
    metrics: &ScanMetrics,
    pool: &str,
    messages: Vec<Planned>,
) -> PublishReport {
    if messages.is_empty() {
        return PublishReport::default();
    }
    // A refresh is a trace of its own: it begins here and goes on in the worker.
    let scan = current();
    let spans: Vec<Span> = messages.iter().map(|planned| span(planned, pool, &scan)).collect();
    let outgoing: Vec<Outgoing> = messages
        .into_iter()
        .zip(&spans)
        .map(|(planned, span)| Outgoing {
            message: planned.message,
            pool: pool.to_owned(),
            context: inject(span),
        })
        .collect();
    let mut report = PublishReport::default();
    let mut first_error = None;
    let results = publisher.publish(&outgoing).await;
    for ((result, span), Outgoing { message, .. }) in results.into_iter().zip(&spans).zip(&outgoing) {
        metrics.note_publish(message, &result);
        match result {
            Ok(()) => report.confirmed += 1,
            Err(error) => {
                span.record("error.type", error.reason());
                span.record("otel.status_code", "error");
                report.failed += 1;
                match &error {
                    PublishError::NotSent { .. } | PublishError::Unconfirmed { .. } => {
                        report.is_broker_away = true
                    }
                    PublishError::QueueSilent { .. } => _ = report.silent.insert(message.lane),
                    PublishError::Refused | PublishError::Unroutable { .. } => report.is_refused = true,
                }
                if error.is_certain() {
                    report.unsent.push(message.connection_id);
                }
                first_error.get_or_insert(error);
            }
        }
    }
    if let Some(error) = first_error {
        // One broker, one cause: a line per message would hide it.
        tracing::error!(pool, messages = report.failed, %error, "messages not published; their connections are found again");
    }
    report
}

/// The first span of a refresh's trace. A scan finds thousands, so its own trace is linked and not continued.
fn span(planned: &Planned, pool: &str, scan: &TraceContext) -> Span {
    let message = &planned.message;
    let lane = message.lane.as_str();
    let span = debug_span!(
        parent: None,
        "publish",
        otel.name = format!("publish freshet.refresh:{pool}.{lane}"),
        otel.kind = "producer",
        otel.status_code = tracing::field::Empty,
        messaging.system = "rabbitmq",
        messaging.operation.name = "publish",
        messaging.operation.type = "send",
        messaging.destination.name = format!("freshet.refresh:{pool}.{lane}"),
        messaging.rabbitmq.destination.routing_key = format!("{pool}.{lane}"),
        messaging.message.id = %message.idempotency_key(),
        freshet.connection_id = message.connection_id.0,
        freshet.generation = message.generation.0,
        freshet.provider = message.provider,
        freshet.lane = lane,
        freshet.due_at = %message.due_at.to_rfc3339(),
        error.type = tracing::field::Empty,
    );
    link(&span, scan);
    link(&span, &planned.attempt_before);
    span
}
