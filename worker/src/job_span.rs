//! What a job is called in traces and in log lines.

use freshet_shared::domain::message::RefreshMessage;
use freshet_shared::domain::outcome::Outcome;
use freshet_shared::ports::queue::Delivery;
use freshet_shared::telemetry::propagation::follow;
use tracing::{Instrument, Span, debug_span, field, info_span};

/// The two spans of a job. The trace's is there only where traces are kept, and is the richer one; the lines' has what a
/// person looks for in a log.
pub(crate) struct JobSpan {
    trace: Span,
    lines: Span,
}

impl JobSpan {
    /// After OpenTelemetry's conventions for messaging: a child of the publish, and linked to it.
    pub(crate) fn of(delivery: &Delivery) -> Self {
        let destination = &*delivery.destination;
        let trace = debug_span!(
            "process",
            otel.name = format!("process {destination}"),
            otel.kind = "consumer",
            otel.status_code = field::Empty,
            messaging.system = "rabbitmq",
            messaging.operation.name = "process",
            messaging.operation.type = "process",
            messaging.destination.name = destination,
            messaging.rabbitmq.destination.routing_key = destination.split(':').nth(1),
            messaging.message.id = field::Empty,
            messaging.message.body.size = delivery.body.len(),
            freshet.connection_id = field::Empty,
            freshet.generation = field::Empty,
            freshet.provider = field::Empty,
            freshet.lane = delivery.lane.as_str(),
            freshet.redelivered = delivery.redelivered,
            freshet.outcome = field::Empty,
            freshet.reason = field::Empty,
            error.type = field::Empty,
        );
        follow(&trace, &delivery.context);
        let lines = info_span!(
            parent: &trace,
            "job",
            connection_id = field::Empty,
            generation = field::Empty,
            provider = field::Empty,
            lane = delivery.lane.as_str(),
        );
        Self { trace, lines }
    }

    /// Runs `work` in it.
    pub(crate) async fn around<T>(&self, work: impl Future<Output = T>) -> T {
        work.instrument(self.lines.clone()).instrument(self.trace.clone()).await
    }

    /// What the message names.
    pub(crate) fn name(&self, message: &RefreshMessage) {
        let (id, generation) = (message.connection_id.0, message.generation.0);
        self.lines.record("connection_id", id);
        self.lines.record("generation", generation);
        self.lines.record("provider", message.provider.as_str());
        if !self.trace.is_disabled() {
            self.trace.record("messaging.message.id", field::display(message.idempotency_key()));
            self.trace.record("freshet.connection_id", id);
            self.trace.record("freshet.generation", generation);
            self.trace.record("freshet.provider", message.provider.as_str());
        }
    }

    /// How it ended. A failed refresh is an error of its trace; one that is put off or not needed is none.
    pub(crate) fn end(&self, outcome: &Outcome) {
        self.trace.record("freshet.outcome", outcome.as_str());
        let error_type = match outcome {
            Outcome::Failed(failed) => failed.failure.class.as_str(),
            Outcome::Undecodable(error) => error.reason(),
            Outcome::Unavailable { .. } | Outcome::Panicked { .. } => outcome.as_str(),
            Outcome::Skipped(skip) => {
                self.trace.record("freshet.reason", skip.as_str());
                return;
            }
            Outcome::Deferred { reason, .. } => {
                self.trace.record("freshet.reason", reason);
                return;
            }
            Outcome::Refreshed(_) | Outcome::Stale | Outcome::Parked => return,
        };
        self.trace.record("error.type", error_type);
        self.trace.record("otel.status_code", "error");
    }
}

/// The span of a settlement, after the same conventions.
pub(crate) fn of_settlement(operation: &'static str, destination: &str) -> Span {
    debug_span!(
        "settle",
        otel.name = format!("{operation} {destination}"),
        otel.kind = "client",
        otel.status_code = field::Empty,
        messaging.system = "rabbitmq",
        messaging.operation.name = operation,
        messaging.operation.type = "settle",
        messaging.destination.name = destination,
        error.type = field::Empty,
    )
}
