//! Many credentials in one statement: both tables are updated together, joined with the new values, which come as one JSON
//! parameter. Where one of a row's preconditions does not hold, the join does not find it, in either table.

use chrono::{DateTime, SubsecRound, Utc};
use sea_orm::{ConnectionTrait, DbErr};
use serde_json::json;
use zeroize::Zeroizing;

use super::super::Database;
use super::super::together::{self, places};
use super::state_after;
use crate::domain::sealing::SecretColumn;
use crate::domain::secret::Secret;
use crate::failpoints::{Guard, is_off};
use crate::ports::store::{Commit, Committed};

/// A credential of so many bytes, sealed or not, has room in `VARCHAR(2000)`.
const SHORT: usize = 1_400;

/// The new values as a table, with secrets as text of a type that none of them is too long for: one that were cut, or NULL in
/// place of one that is too long, would be stored for a token. What does not fit is an error of the whole statement.
macro_rules! rows {
    ($secret:literal) => {
        concat!(
            "JSON_TABLE(?, '$[*]' COLUMNS (\
            place FOR ORDINALITY, \
            id BIGINT PATH '$.id' ERROR ON ERROR, \
            spent BIGINT PATH '$.spent' ERROR ON ERROR, \
            loaded_expiry DATETIME(6) PATH '$.loaded_expiry' ERROR ON ERROR, \
            loaded_token VARCHAR(64) PATH '$.loaded_token' ERROR ON ERROR, \
            loaded_grant VARCHAR(64) PATH '$.loaded_grant' ERROR ON ERROR, \
            access_token ",
            $secret,
            " PATH '$.access_token' ERROR ON ERROR, \
            refresh_token ",
            $secret,
            " PATH '$.refresh_token' ERROR ON ERROR, \
            refresh_token_expires_at DATETIME(6) PATH '$.refresh_token_expires_at' ERROR ON ERROR, \
            refresh_token_fingerprint VARCHAR(255) PATH '$.refresh_token_fingerprint' ERROR ON ERROR, \
            generated_at DATETIME(6) PATH '$.generated_at' ERROR ON ERROR, \
            generated_on DATETIME PATH '$.generated_on' ERROR ON ERROR, \
            expires_at DATETIME(6) PATH '$.expires_at' ERROR ON ERROR, \
            refresh_at DATETIME(6) PATH '$.refresh_at' ERROR ON ERROR, \
            state VARCHAR(32) PATH '$.state' ERROR ON ERROR, \
            lifetime_s BIGINT PATH '$.lifetime_s' ERROR ON ERROR\
        )) AS new"
        )
    };
}

/// Whether the row of the platform's table is as it was loaded.
macro_rules! fence {
    () => {
        " AND (theirs.accessTokenExpiryAt = new.loaded_expiry OR new.loaded_expiry IS NULL AND (\
            theirs.accessTokenExpiryAt IS NULL OR theirs.accessTokenExpiryAt < '1970-01-02 00:00:00')) \
          AND SHA2(CONVERT(theirs.accessToken USING utf8mb4), 256) <=> new.loaded_token"
    };
}

macro_rules! update {
    ($secret:literal) => {
        update!(
            $secret,
            "",
            " AND ours.generation = new.spent",
            fence!(),
            "new.spent + 1"
        )
    };
    ($secret:literal, with_grant) => {
        update!(
            $secret,
            ", theirs.refreshToken = new.refresh_token",
            " AND ours.generation = new.spent",
            concat!(fence!(), " AND SHA2(CONVERT(theirs.refreshToken USING utf8mb4), 256) <=> new.loaded_grant"),
            "new.spent + 1"
        )
    };
    ($secret:literal, $more:literal, $if_ours:literal, $if_theirs:expr, $generation:literal) => {
        concat!(
            "UPDATE ",
            rows!($secret),
            " JOIN token_refresh AS ours ON ours.connection_id = new.id",
            $if_ours,
            " JOIN ie_appinstall_connection AS theirs ON theirs.id = new.id",
            $if_theirs,
            " SET ours.generation = ",
            $generation,
            ", ours.state = new.state, ours.refresh_at = new.refresh_at, \
                ours.noted_expiry = new.expires_at, \
                ours.refresh_token_expires_at = new.refresh_token_expires_at, \
                ours.refresh_token_fingerprint = new.refresh_token_fingerprint, \
                ours.next_attempt_at = NULL, ours.queued_until = NULL, ours.lease_owner = NULL, \
                ours.lease_until = NULL, ours.attempt_id = NULL, ours.attempt_grant = NULL, \
                ours.attempt_sent_at = NULL, ours.waiting_fingerprint = NULL, ours.kept_answer = NULL, ours.failures = 0, \
                ours.grant_failures = 0, ours.failure_class = NULL, ours.failure_detail = NULL, \
                ours.lifetime_s = new.lifetime_s, ours.last_success_at = new.generated_at, \
                theirs.accessToken = new.access_token, theirs.accessTokenExpiryAt = new.expires_at, \
                theirs.accessTokenGeneratedOn = new.generated_on",
            $more
        )
    };
}

const UPDATE: &str = update!("VARCHAR(2000)");
const WITH_GRANT: &str = update!("VARCHAR(2000)", with_grant);
const UPDATE_LONG: &str = update!("LONGTEXT");
const WITH_LONG_GRANT: &str = update!("LONGTEXT", with_grant);
/// Whatever stands there: for tests that want to see the preconditions missed.
const UNFENCED: &str = update!("LONGTEXT", "", "", "", "ours.generation + 1");
const UNFENCED_WITH_GRANT: &str =
    update!("LONGTEXT", ", theirs.refreshToken = new.refresh_token", "", "", "ours.generation + 1");

/// Those rows of which the database says that what we sent is what stands. The moment at which a credential was granted tells
/// it from one that somebody else stored on the same generation.
const STANDING: &str = "SELECT CAST(new.place AS SIGNED) - 1 AS place FROM JSON_TABLE(?, '$[*]' COLUMNS (\
        place FOR ORDINALITY, \
        id BIGINT PATH '$.id' ERROR ON ERROR, \
        spent BIGINT PATH '$.spent' ERROR ON ERROR, \
        generated_at DATETIME(6) PATH '$.generated_at' ERROR ON ERROR\
    )) AS new \
    JOIN token_refresh AS ours ON ours.connection_id = new.id AND ours.generation = new.spent + 1 \
        AND ours.last_success_at = new.generated_at";

/// What a credential's statement is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Shape {
    /// Whether another refresh token takes the place of the one before.
    has_grant: bool,
    /// MariaDB keeps what a statement is to write in a table on disk as long as it holds texts of any length, which costs
    /// as much as the rest of it.
    is_short: bool,
}

impl Shape {
    pub(super) fn of(commit: &Commit) -> Self {
        let is_short = |secret: &Secret| secret.expose().len() <= SHORT;
        Self {
            has_grant: commit.refresh_token.is_some(),
            is_short: is_short(&commit.access_token) && commit.refresh_token.as_ref().is_none_or(is_short),
        }
    }

    fn statement(self) -> &'static str {
        if is_off(Guard::Fence) {
            return if self.has_grant { UNFENCED_WITH_GRANT } else { UNFENCED };
        }
        match (self.has_grant, self.is_short) {
            (false, true) => UPDATE,
            (true, true) => WITH_GRANT,
            (false, false) => UPDATE_LONG,
            (true, false) => WITH_LONG_GRANT,
        }
    }
}

impl Database {
    /// Stores all of them, which have one shape and no connection twice. One statement, so it is done as a whole or not at
    /// all, also where the server dies in the middle.
    pub(super) async fn swap_joined(&self, commits: &[&Commit]) -> Result<Vec<Committed>, DbErr> {
        let Some(shape) = commits.first().map(|commit| Shape::of(commit)) else { return Ok(Vec::new()) };
        let rows = self.rows(commits);
        let result = self.connection.execute_raw(self.with_rows(shape.statement(), &rows)).await?;
        let applied = |commit: &&Commit| Committed::Applied(commit.spent.next());
        // Each row that was found counts once for each table. So this can only mean all of them.
        if result.rows_affected() == 2 * commits.len() as u64 {
            return Ok(commits.iter().map(applied).collect());
        }
        // Who won is asked, and not guessed from a number. It also finds what an earlier try had stored already, whose reply
        // was lost.
        let standing = self.with_rows(STANDING, &rows);
        let stands = places(&self.connection, standing, commits.len()).await?;
        let answer = |(commit, stands)| if stands { applied(commit) } else { Committed::Stale };
        Ok(commits.iter().zip(stands).map(answer).collect())
    }

    fn rows(&self, commits: &[&Commit]) -> Zeroizing<String> {
        // Written piece by piece, so that no value of a JSON library keeps a copy of a secret.
        let mut text = Zeroizing::new(String::with_capacity(commits.len() * 512));
        for commit in commits {
            let begin = if text.is_empty() { "[{" } else { ",{" };
            text.push_str(begin);
            let id = commit.connection_id;
            let mut member = |name: &str, value: &str| {
                if !text.ends_with('{') {
                    text.push(',');
                }
                for part in ["\"", name, "\":", value] {
                    text.push_str(part);
                }
            };
            member("id", &id.0.to_string());
            member("spent", &commit.spent.0.to_string());
            member("state", &json!(state_after(commit).as_str()).to_string());
            let access_token = self.sealed(SecretColumn::AccessToken, id, &commit.access_token);
            member("access_token", &quoted(access_token.expose()));
            member("generated_at", &time(commit.generated_at));
            // A column of whole seconds may round up, and no token was generated in the future.
            member("generated_on", &time(commit.generated_at.trunc_subsecs(0)));
            // What is left out is NULL.
            if let Some(refresh_token) = &commit.refresh_token {
                let refresh_token = self.sealed(SecretColumn::RefreshToken, id, refresh_token);
                member("refresh_token", &quoted(refresh_token.expose()));
            }
            for (name, text) in [
                ("loaded_token", &commit.loaded_token),
                ("loaded_grant", &commit.loaded_grant),
                ("refresh_token_fingerprint", &commit.refresh_token_fingerprint),
            ] {
                if let Some(text) = text {
                    member(name, &quoted(text));
                }
            }
            for (name, at) in [
                ("loaded_expiry", commit.loaded_expiry),
                ("expires_at", commit.expires_at),
                ("refresh_at", commit.refresh_at),
                ("refresh_token_expires_at", commit.refresh_token_expires_at),
            ] {
                if let Some(at) = at {
                    member(name, &time(at));
                }
            }
            if let Some(lifetime) = commit.lifetime {
                member("lifetime_s", &lifetime.num_seconds().to_string());
            }
            text.push('}');
        }
        text.push(']');
        text
    }
}

/// As a JSON text.
fn quoted(text: &str) -> Zeroizing<String> {
    // A text always has a JSON form.
    Zeroizing::new(serde_json::to_string(text).unwrap_or_default())
}

/// In JSON quotes.
fn time(at: DateTime<Utc>) -> String {
    format!("\"{}\"", together::time(at))
}
