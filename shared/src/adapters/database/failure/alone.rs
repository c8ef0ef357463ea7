//! One failure by itself, where a statement takes no rows as a parameter: SQLite.

use sea_orm::sea_query::{Expr, ExprTrait, Query};
use sea_orm::{ConnectionTrait, DbErr, TransactionTrait, Value};

use super::super::Database;
use super::super::attempt::{is_open, none_is_open};
use super::super::standing::stands_as;
use super::super::table::{RefreshAttempt, TokenRefresh};
use super::{shown_detail, trace_id, traceparent};
use crate::domain::connection::{ConnectionState, RowStanding};
use crate::ports::store::FailureRecord;

impl Database {
    pub(super) async fn write_failure(&self, record: &FailureRecord) -> Result<bool, DbErr> {
        let class = record.failure.class.as_str();
        let detail = shown_detail(record);
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
            let left = RowStanding { state: record.state, waiting_fingerprint: record.fingerprint.clone() };
            let needless = record.not_spent.clone().map(|fingerprint| RowStanding {
                state: ConnectionState::Quarantined,
                waiting_fingerprint: Some(fingerprint),
            });
            let stands = [record.loaded.as_ref(), Some(&left), needless.as_ref()];
            let stands = stands.into_iter().flatten().map(stands_as);
            let is_as_known = none_is_open().and(stands.fold(Expr::value(false), |any, one| any.or(one)));
            update.and_where(is_open(&record.known_attempts).or(is_as_known));
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
                Value::from(traceparent(&record.trace).and_then(trace_id).map(str::to_owned)).into(),
            ])
            .to_owned();
        transaction.execute(&history).await?;
        transaction.commit().await?;
        Ok(true)
    }
}
