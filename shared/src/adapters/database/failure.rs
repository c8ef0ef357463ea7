//! Writing failures down: the row holds the backoff, so that it survives every process.

mod alone;
mod joined;

use futures_util::FutureExt;
use sea_orm::DbBackend;

use super::Database;
use super::error::{during, given_up};
use super::together::{FLIGHTS, MOST, Writing, write_all};
use crate::adapters::grouping::Grouping;
use crate::ports::queue::{TRACEPARENT, TraceContext};
use crate::ports::store::{FailureRecord, StoreError};

const OPERATION: &str = "write a failure down";

/// As wide as the column.
const LONGEST_DETAIL: usize = 500;

/// Gathers what failed.
pub(super) struct Failures(Grouping<FailureRecord, Result<bool, StoreError>>);

impl Default for Failures {
    fn default() -> Self {
        Self(Grouping::new(FLIGHTS, MOST))
    }
}

impl Database {
    pub(super) async fn store_failure(&self, record: FailureRecord) -> Result<bool, StoreError> {
        let this = self.clone();
        let fly = move |records: Vec<FailureRecord>| {
            let this = this.clone();
            async move { this.round_trip(this.store_failures(&records)).await }
        };
        self.failures.0.ask(record, fly).await.unwrap_or_else(|| Err(given_up(OPERATION)))
    }

    async fn store_failures(&self, records: &[FailureRecord]) -> Vec<Result<bool, StoreError>> {
        if self.backend == DbBackend::Sqlite {
            let mut answers = Vec::with_capacity(records.len());
            for record in records {
                answers.push(self.write_failure(record).await.map_err(during(OPERATION)));
            }
            return answers;
        }
        let of = |record: &FailureRecord| {
            ((record.is_standing_kept, record.kept_answer.is_some()), record.connection_id.0)
        };
        let writing = Writing {
            operation: OPERATION,
            write: |this: &Self, rows| this.write_joined(rows).boxed(),
            unlocked: |this, rows| this.unlocked(rows.iter().map(|row| row.connection_id.0)).boxed(),
        };
        write_all(self, records, of, writing).await
    }
}

/// As much of it as the column holds.
fn shown_detail(record: &FailureRecord) -> String {
    record.failure.detail.chars().take(LONGEST_DETAIL).collect()
}

/// The one part of a trace context that other spans are linked by.
pub(super) fn traceparent(trace: &TraceContext) -> Option<&str> {
    trace.get(TRACEPARENT).map(String::as_str)
}

/// The second of its four parts.
fn trace_id(traceparent: &str) -> Option<&str> {
    traceparent.split('-').nth(1)
}
