//! Spans around what a refresh asks of the database, after OpenTelemetry's conventions for database clients.
//!
//! A job waits for its own part of a round trip that many share, so the span says how long it waited, not how long the
//! statement took.

use sea_orm::DbBackend;
use tracing::{Instrument, Span, debug_span, field};

use super::Database;
use crate::ports::store::StoreError;

/// What is asked, in few words that are always the same.
#[derive(Clone, Copy)]
pub(super) struct Asked {
    /// The step of the refresh.
    pub(super) step: &'static str,
    /// The SQL command.
    pub(super) operation: &'static str,
    /// The table, where it is one.
    pub(super) table: &'static str,
}

impl Database {
    /// Runs `work` in a span of its own.
    pub(super) async fn traced<T>(
        &self,
        asked: Asked,
        work: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let span = self.span(asked);
        let result = work.instrument(span.clone()).await;
        if let Err(error) = &result {
            span.record("error.type", error.word());
            span.record("otel.status_code", "error");
        }
        result
    }

    fn span(&self, Asked { step, operation, table }: Asked) -> Span {
        debug_span!(
            "database",
            otel.name = format!("{operation} {table}"),
            otel.kind = "client",
            otel.status_code = field::Empty,
            db.system.name = if self.backend == DbBackend::Sqlite { "sqlite" } else { "mysql" },
            db.operation.name = operation,
            db.collection.name = table,
            db.query.summary = format!("{operation} {table}"),
            freshet.step = step,
            error.type = field::Empty,
        )
    }
}
