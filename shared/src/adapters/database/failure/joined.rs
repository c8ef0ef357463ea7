//! Many failures in one transaction: the companion rows in one statement, their history in another.

use sea_orm::{ConnectionTrait, DbErr};
use serde_json::json;

use super::super::Database;
use super::super::standing::{loaded_columns, stands_as_loaded};
use super::super::together::{places, time};
use super::{shown_detail, trace_id, traceparent};
use crate::ports::store::FailureRecord;

/// Texts are no longer than their columns, but for a kept answer, which is read only where there is one: a LONGTEXT makes the server
/// write a table on disk for each statement.
macro_rules! with_rows {
    ($before:literal, $after:expr) => {
        with_rows!($before, "", $after)
    };
    ($before:literal, $answer:literal, $after:expr) => {
        concat!(
            $before,
            " JSON_TABLE(?, '$[*]' COLUMNS (\
                place FOR ORDINALITY, \
                id BIGINT PATH '$.id' ERROR ON ERROR, \
                generation BIGINT PATH '$.generation' ERROR ON ERROR, \
                at DATETIME(6) PATH '$.at' ERROR ON ERROR, \
                next_attempt_at DATETIME(6) PATH '$.next_attempt_at' ERROR ON ERROR, \
                state VARCHAR(255) PATH '$.state' ERROR ON ERROR, \
                fingerprint VARCHAR(255) PATH '$.fingerprint' ERROR ON ERROR, ",
            loaded_columns!(),
            "not_spent VARCHAR(255) PATH '$.not_spent' ERROR ON ERROR, \
                class VARCHAR(255) PATH '$.class' ERROR ON ERROR, \
                detail VARCHAR(2000) PATH '$.detail' ERROR ON ERROR, \
                grant_failures BIGINT PATH '$.grant_failures' ERROR ON ERROR, \
                counts INT PATH '$.counts' ERROR ON ERROR, \
                stays_open INT PATH '$.stays_open' ERROR ON ERROR, \
                trace VARCHAR(255) PATH '$.trace' ERROR ON ERROR, \
                trace_id VARCHAR(255) PATH '$.trace_id' ERROR ON ERROR, ",
            $answer,
            "known VARCHAR(255) PATH '$.known' ERROR ON ERROR\
            )) AS new \
            JOIN token_refresh AS ours ON ours.connection_id = new.id AND ours.generation = new.generation \
                AND (new.known IS NULL \
                    OR FIND_IN_SET(CAST(ours.attempt_id AS BINARY), CAST(new.known AS BINARY)) > 0 \
                    OR ours.attempt_id IS NULL AND (",
            stands_as_loaded!(),
            " OR CAST(ours.state AS BINARY) = CAST(new.state AS BINARY) \
                AND CAST(ours.waiting_fingerprint AS BINARY) <=> CAST(new.fingerprint AS BINARY) \
                OR ours.state = 'quarantined' \
                AND CAST(ours.waiting_fingerprint AS BINARY) = CAST(new.not_spent AS BINARY)))",
            $after
        )
    };
}

macro_rules! update {
    ($more:expr) => {
        update!("", $more)
    };
    ($answer:literal, $more:expr) => {
        with_rows!(
            "UPDATE",
            $answer,
            concat!(
                " SET ours.failures = ours.failures + new.counts, ours.grant_failures = new.grant_failures, \
                    ours.next_attempt_at = new.next_attempt_at, ours.queued_until = NULL, \
                    ours.failure_class = new.class, ours.failure_detail = new.detail, \
                    ours.last_trace = new.trace",
                $more
            )
        )
    };
}

/// Texts of the row and of ours never meet in one expression: their collations may differ.
macro_rules! update_with_standing {
    ($answer:literal, $more:literal) => {
        update!($answer, concat!(
            ", ours.state = new.state, ours.waiting_fingerprint = new.fingerprint, ours.lease_owner = NULL, \
             ours.lease_until = NULL, ours.attempt_id = IF(new.stays_open, ours.attempt_id, NULL), \
             ours.attempt_grant = IF(new.stays_open, ours.attempt_grant, NULL), \
             ours.attempt_sent_at = IF(new.stays_open, ours.attempt_sent_at, NULL)",
            $more
        ))
    };
}

macro_rules! with_answer {
    ($update:ident) => {
        $update!(
            "kept_answer LONGTEXT PATH '$.kept_answer' ERROR ON ERROR, ",
            ", ours.kept_answer = new.kept_answer"
        )
    };
}

/// Where the standing is kept.
const UPDATE: &str = update!("");
const WITH_ANSWER: &str = with_answer!(update);
const WITH_STANDING: &str = update_with_standing!("", "");
const WITH_STANDING_AND_ANSWER: &str = with_answer!(update_with_standing);

/// The rows are those that the update before found: nobody else can move them before we are done, and what it wrote meets
/// its own preconditions.
const HISTORY: &str = with_rows!(
    "INSERT INTO refresh_attempt (connection_id, generation, at, outcome, failure_class, failure_detail, trace_id) \
     SELECT new.id, new.generation, new.at, 'failed', new.class, new.detail, new.trace_id FROM",
    ""
);

const FOUND: &str = with_rows!("SELECT CAST(new.place AS SIGNED) - 1 AS place FROM", "");

impl Database {
    /// Writes all of them, which set the same columns, no connection twice; `false` where a precondition did not hold.
    pub(super) async fn write_joined(&self, records: &[&FailureRecord]) -> Result<Vec<bool>, DbErr> {
        let rows: serde_json::Value = records.iter().map(|record| self.failure_row(record)).collect();
        let rows = rows.to_string();
        let update = match records.first().map(|first| (first.is_standing_kept, first.kept_answer.is_some()))
        {
            Some((true, false)) => UPDATE,
            Some((true, true)) => WITH_ANSWER,
            Some((false, true)) => WITH_STANDING_AND_ANSWER,
            Some((false, false)) | None => WITH_STANDING,
        };
        let transaction = self.connection.open_transaction().await?;
        let updated = transaction.execute_raw(self.with_rows(update, &rows)).await?.rows_affected();
        let found = if updated == records.len() as u64 {
            vec![true; records.len()]
        } else {
            places(&transaction, self.with_rows(FOUND, &rows), records.len()).await?
        };
        if updated > 0 {
            transaction.execute_raw(self.with_rows(HISTORY, &rows)).await?;
        }
        transaction.commit().await?;
        Ok(found)
    }

    fn failure_row(&self, record: &FailureRecord) -> serde_json::Value {
        let trace = traceparent(&record.trace);
        // The ids of attempts are hexadecimal, so none holds a comma. Kept standing asks nothing of the open call.
        let known = (!record.is_standing_kept).then(|| record.known_attempts.join(","));
        let sealed = record.kept_answer.as_ref().and_then(|answer| self.sealed_answer(answer));
        json!({
            "id": record.connection_id.0,
            "generation": record.generation.0,
            "at": time(record.at),
            "next_attempt_at": time(record.next_attempt_at),
            "state": record.state.as_str(),
            "fingerprint": record.fingerprint,
            "not_spent": record.not_spent,
            "loaded_state": record.loaded.as_ref().map(|loaded| loaded.state.as_str()),
            "loaded_fingerprint": record.loaded.as_ref().and_then(|loaded| loaded.waiting_fingerprint.as_ref()),
            "class": record.failure.class.as_str(),
            "detail": shown_detail(record),
            "grant_failures": record.grant_failures,
            "counts": i32::from(record.is_counted),
            "stays_open": i32::from(record.is_attempt_open),
            "trace": trace,
            "trace_id": trace.and_then(trace_id),
            "kept_answer": sealed.as_ref().map(|sealed| sealed.expose()),
            "known": known,
        })
    }
}
