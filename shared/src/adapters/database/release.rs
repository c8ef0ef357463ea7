//! Ending claims without a call.

use futures_util::FutureExt;
use sea_orm::sea_query::{BinOper, CaseStatement, Expr, ExprTrait, Func, Query};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Value};
use serde_json::json;

use super::Database;
use super::attempt::{is_open, none_is_open};
use super::error::{during, given_up};
use super::failure::traceparent;
use super::standing::{loaded_columns, stands_as, stands_as_loaded};
use super::table::TokenRefresh;
use super::together::{MOST, RARE_FLIGHTS, Writing, time, write_all};
use crate::adapters::grouping::Grouping;
use crate::domain::connection::ConnectionState;
use crate::ports::store::{Recovered, Release, StoreError};

const OPERATION: &str = "release a connection";

/// Only the claim that was loaded ends, and a next attempt that was planned since is never put off: a message may come twice,
/// and whoever has the other copy knows more than who finds a refresh in flight. A recovery ends what failures before it left
/// behind.
///
/// Texts are no longer than their columns. A LONGTEXT among them would make the server write a table on disk for each
/// statement.
const RELEASE: &str = concat!(
    "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (\
        id BIGINT PATH '$.id' ERROR ON ERROR, \
        generation BIGINT PATH '$.generation' ERROR ON ERROR, \
        claim_id BIGINT PATH '$.claim_id' ERROR ON ERROR, \
        loaded_next_attempt_at DATETIME(6) PATH '$.loaded_next_attempt_at' ERROR ON ERROR, \
        next_attempt_at DATETIME(6) PATH '$.next_attempt_at' ERROR ON ERROR, \
        recovers INT PATH '$.recovers' ERROR ON ERROR, ",
    loaded_columns!(),
    "loaded_attempt VARCHAR(255) PATH '$.loaded_attempt' ERROR ON ERROR, \
        trace VARCHAR(255) PATH '$.trace' ERROR ON ERROR\
    )) AS new \
    JOIN token_refresh AS ours ON ours.connection_id = new.id AND ours.generation = new.generation \
        AND (NOT new.recovers OR ",
    stands_as_loaded!(),
    " AND (ours.attempt_id IS NULL OR CAST(ours.attempt_id AS BINARY) = CAST(new.loaded_attempt AS BINARY))) \
    SET ours.queued_until = IF(ours.claim_id <=> new.claim_id, NULL, ours.queued_until), \
        ours.next_attempt_at = IF(\
            ours.claim_id <=> new.claim_id AND ours.next_attempt_at <=> new.loaded_next_attempt_at, \
            new.next_attempt_at, \
            COALESCE(LEAST(ours.next_attempt_at, new.next_attempt_at), ours.next_attempt_at, new.next_attempt_at)), \
        ours.last_trace = new.trace, \
        ours.kept_answer = IF(new.recovers, NULL, ours.kept_answer), \
        ours.state = IF(new.recovers, 'active', ours.state), \
        ours.failures = IF(new.recovers, 0, ours.failures), \
        ours.grant_failures = IF(new.recovers, 0, ours.grant_failures), \
        ours.failure_class = IF(new.recovers, NULL, ours.failure_class), \
        ours.failure_detail = IF(new.recovers, NULL, ours.failure_detail), \
        ours.waiting_fingerprint = IF(new.recovers, NULL, ours.waiting_fingerprint), \
        ours.attempt_id = IF(new.recovers, NULL, ours.attempt_id), \
        ours.attempt_grant = IF(new.recovers, NULL, ours.attempt_grant), \
        ours.attempt_sent_at = IF(new.recovers, NULL, ours.attempt_sent_at)"
);

/// Gathers claims that end.
pub(super) struct Releases(Grouping<Release, Result<(), StoreError>>);

impl Default for Releases {
    fn default() -> Self {
        Self(Grouping::new(RARE_FLIGHTS, MOST))
    }
}

impl Database {
    pub(super) async fn end_claim(&self, release: Release) -> Result<(), StoreError> {
        let this = self.clone();
        let fly = move |releases: Vec<Release>| {
            let this = this.clone();
            async move { this.round_trip(this.release_all(&releases)).await }
        };
        self.releases.0.ask(release, fly).await.unwrap_or_else(|| Err(given_up(OPERATION)))
    }

    async fn release_all(&self, releases: &[Release]) -> Vec<Result<(), StoreError>> {
        if self.backend == DbBackend::Sqlite {
            let mut answers = Vec::with_capacity(releases.len());
            for release in releases {
                answers.push(self.release_alone(release).await.map_err(during(OPERATION)));
            }
            return answers;
        }
        let of = |release: &Release| ((), release.connection_id.0);
        let writing = Writing {
            operation: OPERATION,
            write: |this: &Self, rows| this.release_joined(rows).boxed(),
            unlocked: |this, rows| this.unlocked(rows.iter().map(|row| row.connection_id.0)).boxed(),
        };
        write_all(self, releases, of, writing).await
    }

    async fn release_joined(&self, releases: &[&Release]) -> Result<Vec<()>, DbErr> {
        let row = |release: &&Release| {
            let recovered = release.recovered.as_ref();
            json!({
                "id": release.connection_id.0,
                "generation": release.generation.0,
                "claim_id": release.claim,
                "loaded_next_attempt_at": release.loaded_next_attempt_at.map(time),
                "next_attempt_at": release.next_attempt_at.map(time),
                "recovers": i32::from(recovered.is_some()),
                "loaded_state": recovered.map(|recovered| recovered.loaded.state.as_str()),
                "loaded_fingerprint": recovered.and_then(|recovered| recovered.loaded.waiting_fingerprint.as_ref()),
                "loaded_attempt": recovered.and_then(|recovered| recovered.loaded_attempt.as_ref()),
                "trace": traceparent(&release.trace),
            })
        };
        let rows: serde_json::Value = releases.iter().map(row).collect();
        self.connection.execute_raw(self.with_rows(RELEASE, &rows.to_string())).await?;
        Ok(vec![(); releases.len()])
    }

    async fn release_alone(&self, release: &Release) -> Result<(), DbErr> {
        let mut update = Query::update();
        if let Some(Recovered { loaded, loaded_attempt }) = &release.recovered {
            update
                .and_where(stands_as(loaded))
                .and_where(none_is_open().or(is_open(loaded_attempt.as_slice())))
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
        let is =
            |column: TokenRefresh, value: Value| Expr::col(column).binary(BinOper::Is, Expr::value(value));
        let (next, planned) =
            (Expr::col(TokenRefresh::NextAttemptAt), self.maybe_instant(release.next_attempt_at));
        let loaded_next = self.maybe_instant(release.loaded_next_attempt_at);
        let is_its_claim = is(TokenRefresh::ClaimId, release.claim.into());
        let is_as_loaded = is_its_claim.clone().and(is(TokenRefresh::NextAttemptAt, loaded_next));
        // NULL where one of them is.
        let earlier = Expr::cust_with_exprs("MIN(?, ?)", [next.clone(), Expr::value(planned.clone())]);
        let earliest = Func::coalesce([earlier, next, Expr::value(planned.clone())]);
        let nobodys = Expr::value(Value::ChronoDateTimeUtc(None));
        let queued_until =
            CaseStatement::new().case(is_its_claim, nobodys).finally(Expr::col(TokenRefresh::QueuedUntil));
        update
            .table(TokenRefresh::Table)
            .value(TokenRefresh::QueuedUntil, queued_until)
            .value(
                TokenRefresh::NextAttemptAt,
                CaseStatement::new().case(is_as_loaded, planned).finally(earliest),
            )
            .value(TokenRefresh::LastTrace, traceparent(&release.trace))
            .and_where(Expr::col(TokenRefresh::ConnectionId).eq(release.connection_id.0))
            .and_where(Expr::col(TokenRefresh::Generation).eq(release.generation.0));
        self.connection.execute(&update).await?;
        Ok(())
    }
}
