//! The journal: a call that spends a refresh token is written down before it is sent.
//!
//! Each row carries its own preconditions, and whoever matches it holds the lease. All its times are the database's, for
//! workers' clocks differ. Repeating it only moves them, so that a reply of the database's may be lost. Who is not told so has nothing to send.
//! Only when an open call was sent, of which nobody knows what it did, is moved by nobody: a leeway is counted from then.
//!
//! A statement without an answer is given up, and a server that stood still would do it when it goes on: a call would stand there
//! that nobody sends, and its refresh token would be taken for spent. So each says by when it has to be done.

mod alone;

pub(super) use alone::{is_open, none_is_open};
use futures_util::FutureExt;
use sea_orm::{ConnectionTrait, DbBackend, DbErr};
use serde_json::json;

use super::Database;
use super::error::{during, given_up};
use super::standing::{loaded_columns, stands_as_loaded};
use super::together::{MOST, RARE_FLIGHTS, Writing, places, time, write_all};
use crate::adapters::grouping::Grouping;
use crate::ports::store::{Attempt, StoreError};

const OPERATION: &str = "write a call down before it is sent";

/// Gathers calls that are about to be sent.
pub(super) struct Attempts(Grouping<Attempt, Result<bool, StoreError>>);

impl Default for Attempts {
    fn default() -> Self {
        Self(Grouping::new(RARE_FLIGHTS, MOST))
    }
}

macro_rules! with_rows {
    ($before:literal, $($after:expr),+) => {
        concat!(
            $before,
            " JSON_TABLE(?, '$[*]' COLUMNS (\
                place FOR ORDINALITY, \
                id BIGINT PATH '$.id' ERROR ON ERROR, \
                generation BIGINT PATH '$.generation' ERROR ON ERROR, \
                ",
            loaded_columns!(),
            "loaded_grant VARCHAR(64) PATH '$.loaded_grant' ERROR ON ERROR, \
                loaded_attempt VARCHAR(255) PATH '$.loaded_attempt' ERROR ON ERROR, \
                attempt VARCHAR(255) PATH '$.attempt' ERROR ON ERROR, \
                owner VARCHAR(255) PATH '$.owner' ERROR ON ERROR, \
                lease_us BIGINT PATH '$.lease_us' ERROR ON ERROR, \
                is_effect_unknown INT PATH '$.is_effect_unknown' ERROR ON ERROR, \
                passes BIGINT PATH '$.passes' ERROR ON ERROR, \
                spent VARCHAR(255) PATH '$.spent' ERROR ON ERROR, \
                latest DATETIME(6) PATH '$.latest' ERROR ON ERROR\
            )) AS new \
            JOIN token_refresh AS ours ON ours.connection_id = new.id AND ours.generation = new.generation ",
            $($after),+
        )
    };
}

/// Compared byte by byte: the collations of the row and of the parameter may differ.
const UPDATE: &str = with_rows!(
    "UPDATE",
    "AND (new.latest IS NULL OR UTC_TIMESTAMP(6) <= new.latest) AND ",
    stands_as_loaded!(),
    " AND (\
        CAST(ours.attempt_id AS BINARY) = CAST(new.attempt AS BINARY) OR \
        CAST(ours.attempt_id AS BINARY) <=> CAST(new.loaded_attempt AS BINARY) \
            AND (new.passes = 1 OR ours.lease_until IS NULL OR ours.lease_until <= UTC_TIMESTAMP(6))) \
     JOIN ie_appinstall_connection AS theirs ON theirs.id = new.id \
        AND SHA2(CONVERT(theirs.refreshToken USING utf8mb4), 256) <=> new.loaded_grant \
     SET ours.lease_owner = new.owner, ours.lease_until = UTC_TIMESTAMP(6) + INTERVAL new.lease_us MICROSECOND, \
        ours.attempt_id = new.attempt, \
        ours.attempt_sent_at = \
            IF(new.is_effect_unknown, COALESCE(ours.attempt_sent_at, UTC_TIMESTAMP(6)), UTC_TIMESTAMP(6)), \
        ours.attempt_grant = new.spent"
);

/// An attempt's id is nobody else's, so where it stands it is this attempt that was written down.
const STANDING: &str = with_rows!(
    "SELECT CAST(new.place AS SIGNED) - 1 AS place FROM",
    "AND CAST(ours.state AS BINARY) = CAST(new.loaded_state AS BINARY) \
     AND CAST(ours.attempt_id AS BINARY) = CAST(new.attempt AS BINARY) \
     AND CAST(ours.lease_owner AS BINARY) = CAST(new.owner AS BINARY)"
);

impl Database {
    pub(super) async fn open_attempt(&self, attempt: Attempt) -> Result<bool, StoreError> {
        let this = self.clone();
        let fly = move |attempts: Vec<Attempt>| {
            let this = this.clone();
            async move { this.round_trip(this.open_attempts(&attempts)).await }
        };
        self.attempts.0.ask(attempt, fly).await.unwrap_or_else(|| Err(given_up(OPERATION)))
    }

    async fn open_attempts(&self, attempts: &[Attempt]) -> Vec<Result<bool, StoreError>> {
        if self.backend == DbBackend::Sqlite {
            let mut answers = Vec::with_capacity(attempts.len());
            for attempt in attempts {
                answers.push(self.open_alone(attempt).await.map_err(during(OPERATION)));
            }
            return answers;
        }
        let of = |attempt: &Attempt| ((), attempt.connection_id.0);
        let writing = Writing {
            operation: OPERATION,
            write: |this: &Self, rows| this.open_joined(rows).boxed(),
            unlocked: |this, rows| this.unlocked(rows.iter().map(|row| row.connection_id.0)).boxed(),
        };
        write_all(self, attempts, of, writing).await
    }

    async fn open_joined(&self, attempts: &[&Attempt]) -> Result<Vec<bool>, DbErr> {
        let latest = self.connection.limit().and_then(|limit| self.server_clock.later(limit)).map(time);
        let row = |attempt: &&Attempt| {
            json!({
                "id": attempt.connection_id.0,
                "generation": attempt.generation.0,
                "loaded_state": attempt.loaded.state.as_str(),
                "loaded_fingerprint": attempt.loaded.waiting_fingerprint,
                "loaded_grant": attempt.loaded_grant,
                "loaded_attempt": attempt.loaded_attempt,
                "attempt": attempt.id,
                "owner": attempt.owner,
                "lease_us": attempt.lease.num_microseconds(),
                "is_effect_unknown": i64::from(attempt.is_effect_unknown),
                "passes": i64::from(attempt.passes),
                "spent": attempt.grant,
                "latest": latest,
            })
        };
        let rows: serde_json::Value = attempts.iter().map(row).collect();
        let rows = rows.to_string();
        let updated = self.connection.execute_raw(self.with_rows(UPDATE, &rows)).await?.rows_affected();
        if updated == attempts.len() as u64 {
            return Ok(vec![true; attempts.len()]);
        }
        places(&self.connection, self.with_rows(STANDING, &rows), attempts.len()).await
    }
}
