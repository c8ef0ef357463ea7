//! Writing a failure down: the row holds the backoff, so that it survives every process.

use sea_orm::sea_query::{Expr, ExprTrait, Query, SimpleExpr};
use sea_orm::{ConnectionTrait, DbErr, TransactionTrait, Value};

use super::Database;
use super::error::during;
use super::table::{RefreshAttempt, TokenRefresh};
use crate::domain::connection::ConnectionState;
use crate::ports::queue::{TRACEPARENT, TraceContext};
use crate::ports::store::{FailureRecord, Recovered, Release, StoreError};

/// As wide as the column.
const LONGEST_DETAIL: usize = 500;

impl Database {
    pub(super) async fn store_failure(&self, record: &FailureRecord) -> Result<bool, StoreError> {
        self.write_failure(record).await.map_err(during("write a failure down"))
    }

    async fn write_failure(&self, record: &FailureRecord) -> Result<bool, DbErr> {
        let class = record.failure.class.as_str();
        let detail: String = record.failure.detail.chars().take(LONGEST_DETAIL).collect();
        let transaction = self.connection.begin().await?;
        let mut update = Query::update();
        if !record.is_standing_kept {
            update
                .value(TokenRefresh::State, record.state.as_str())
                .value(TokenRefresh::LeaseOwner, Value::String(None))
                .value(TokenRefresh::LeaseUntil, Value::ChronoDateTimeUtc(None))
                .value(TokenRefresh::WaitingFingerprint, record.fingerprint.clone());
        }
        if !record.is_standing_kept && !record.is_attempt_open {
            update
                .value(TokenRefresh::AttemptId, Value::String(None))
                .value(TokenRefresh::AttemptGrant, Value::String(None))
                .value(TokenRefresh::AttemptSentAt, Value::ChronoDateTimeUtc(None));
        }
        if let Some(sealed) = record.kept_answer.as_ref().and_then(|answer| self.sealed_answer(answer)) {
            update.value(TokenRefresh::KeptAnswer, sealed.expose());
        }
        if record.is_counted {
            update.value(TokenRefresh::Failures, Expr::col(TokenRefresh::Failures).add(1));
        }
        update
            .table(TokenRefresh::Table)
            .value(TokenRefresh::NextAttemptAt, self.instant(record.next_attempt_at))
            .value(TokenRefresh::QueuedUntil, Value::ChronoDateTimeUtc(None))
            .value(TokenRefresh::GrantFailures, record.grant_failures)
            .value(TokenRefresh::FailureClass, class)
            .value(TokenRefresh::FailureDetail, detail.as_str())
            .value(TokenRefresh::LastTrace, traceparent(&record.trace))
            .and_where(Expr::col(TokenRefresh::ConnectionId).eq(record.connection_id.0))
            .and_where(Expr::col(TokenRefresh::Generation).eq(record.generation.0));
        if !record.is_standing_kept {
            update.and_where(no_other_attempt(&record.known_attempts));
        }
        if transaction.execute(&update).await?.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(false);
        }
        let history = Query::insert()
            .into_table(RefreshAttempt::Table)
            .columns([
                RefreshAttempt::ConnectionId,
                RefreshAttempt::Generation,
                RefreshAttempt::At,
                RefreshAttempt::Outcome,
                RefreshAttempt::FailureClass,
                RefreshAttempt::FailureDetail,
                RefreshAttempt::TraceId,
            ])
            .values_panic([
                record.connection_id.0.into(),
                record.generation.0.into(),
                Expr::value(self.instant(record.at)),
                "failed".into(),
                class.into(),
                detail.into(),
                Value::from(traceparent(&record.trace).and_then(trace_id)).into(),
            ])
            .to_owned();
        transaction.execute(&history).await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Does nothing where a precondition does not hold: then somebody else is at the connection, and its claim is theirs.
    pub(super) async fn end_claim(&self, release: &Release) -> Result<(), StoreError> {
        let mut update = Query::update();
        if let Some(Recovered { loaded_attempt }) = &release.recovered {
            update
                .and_where(no_other_attempt(loaded_attempt.as_slice()))
                .value(TokenRefresh::State, ConnectionState::Active.as_str())
                .value(TokenRefresh::Failures, 0)
                .value(TokenRefresh::GrantFailures, 0)
                .value(TokenRefresh::FailureClass, Value::String(None))
                .value(TokenRefresh::FailureDetail, Value::String(None))
                .value(TokenRefresh::WaitingFingerprint, Value::String(None))
                .value(TokenRefresh::AttemptId, Value::String(None))
                .value(TokenRefresh::AttemptGrant, Value::String(None))
                .value(TokenRefresh::AttemptSentAt, Value::ChronoDateTimeUtc(None))
                .value(TokenRefresh::KeptAnswer, Value::String(None));
        }
        update
            .table(TokenRefresh::Table)
            .value(TokenRefresh::QueuedUntil, Value::ChronoDateTimeUtc(None))
            .value(TokenRefresh::NextAttemptAt, self.maybe_instant(release.next_attempt_at))
            .value(TokenRefresh::LastTrace, traceparent(&release.trace))
            .and_where(Expr::col(TokenRefresh::ConnectionId).eq(release.connection_id.0))
            .and_where(Expr::col(TokenRefresh::Generation).eq(release.generation.0));
        self.connection.execute(&update).await.map_err(during("release a connection"))?;
        Ok(())
    }
}

/// The one part of a trace context that other spans are linked by.
fn traceparent(trace: &TraceContext) -> Option<String> {
    trace.get(TRACEPARENT).cloned()
}

/// The second of its four parts.
fn trace_id(traceparent: String) -> Option<String> {
    traceparent.split('-').nth(1).map(str::to_owned)
}

/// No call is open but those that are known.
fn no_other_attempt(known: &[String]) -> SimpleExpr {
    let attempt = || Expr::col(TokenRefresh::AttemptId);
    attempt().is_null().or(attempt().is_in(known.iter().map(String::as_str)))
}
