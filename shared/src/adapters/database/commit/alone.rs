//! One credential by itself, where a statement writes one table: SQLite.

use chrono::SubsecRound;
use sea_orm::sea_query::{Expr, ExprTrait, Query, UpdateStatement};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, TransactionTrait, Value};

use super::super::Database;
use super::super::standing::stored_tokens;
use super::super::table::{Connection, TokenRefresh};
use super::state_after;
use crate::domain::sealing::SecretColumn;
use crate::failpoints::{Guard, is_off};
use crate::ports::store::{Commit, Committed};

impl Database {
    /// Both updates or none. Each carries its precondition, so the number of rows that they match tells who won, also on
    /// servers that report matched instead of changed rows.
    pub(super) async fn swap(&self, commit: &Commit) -> Result<Committed, DbErr> {
        let transaction = self.connection.begin().await?;
        let fence = transaction.execute(&self.fence(commit)).await?;
        if fence.rows_affected() == 0 || !is_off(Guard::Fence) && !is_as_loaded(&transaction, commit).await? {
            transaction.rollback().await?;
            return Ok(Committed::Stale);
        }
        let token = transaction.execute(&self.token(commit)).await?;
        if token.rows_affected() == 0 {
            transaction.rollback().await?;
            return Ok(Committed::Stale);
        }
        transaction.commit().await?;
        Ok(Committed::Applied(commit.spent.next()))
    }

    fn fence(&self, commit: &Commit) -> UpdateStatement {
        let nothing = || Value::ChronoDateTimeUtc(None);
        let mut update = Query::update();
        if !is_off(Guard::Fence) {
            update.and_where(Expr::col(TokenRefresh::Generation).eq(commit.spent.0));
        }
        update
            .table(TokenRefresh::Table)
            .value(TokenRefresh::Generation, commit.spent.next().0)
            .value(TokenRefresh::State, state_after(commit).as_str())
            .value(TokenRefresh::RefreshAt, self.maybe_instant(commit.refresh_at))
            .value(TokenRefresh::NotedExpiry, self.maybe_instant(commit.expires_at))
            .value(TokenRefresh::RefreshTokenExpiresAt, self.maybe_instant(commit.refresh_token_expires_at))
            .value(TokenRefresh::RefreshTokenFingerprint, commit.refresh_token_fingerprint.clone())
            .value(TokenRefresh::NextAttemptAt, nothing())
            .value(TokenRefresh::QueuedUntil, nothing())
            .value(TokenRefresh::LeaseOwner, Value::String(None))
            .value(TokenRefresh::LeaseUntil, nothing())
            .value(TokenRefresh::AttemptId, Value::String(None))
            .value(TokenRefresh::AttemptGrant, Value::String(None))
            .value(TokenRefresh::AttemptSentAt, nothing())
            .value(TokenRefresh::WaitingFingerprint, Value::String(None))
            .value(TokenRefresh::KeptAnswer, Value::String(None))
            .value(TokenRefresh::Failures, 0)
            .value(TokenRefresh::GrantFailures, 0)
            .value(TokenRefresh::FailureClass, Value::String(None))
            .value(TokenRefresh::FailureDetail, Value::String(None))
            .value(
                TokenRefresh::LifetimeS,
                Value::BigInt(commit.lifetime.map(|lifetime| lifetime.num_seconds())),
            )
            .value(TokenRefresh::LastSuccessAt, self.instant(commit.generated_at))
            .and_where(Expr::col(TokenRefresh::ConnectionId).eq(commit.connection_id.0))
            .to_owned()
    }

    fn token(&self, commit: &Commit) -> UpdateStatement {
        let access_token = self.sealed(SecretColumn::AccessToken, commit.connection_id, &commit.access_token);
        let unchanged = match commit.loaded_expiry {
            Some(expiry) => self.expiry().eq(self.moment(expiry)),
            None => self.never_refreshed(),
        };
        let mut update = Query::update();
        if !is_off(Guard::Fence) {
            update.and_where(unchanged);
        }
        // In the same statement as the access token: neither is ever stored without the other.
        if let Some(refresh_token) = &commit.refresh_token {
            let refresh_token = self.sealed(SecretColumn::RefreshToken, commit.connection_id, refresh_token);
            update.value(Connection::RefreshToken, refresh_token.expose());
        }
        update
            .table(Connection::Table)
            .value(Connection::AccessToken, access_token.expose())
            .value(Connection::AccessTokenExpiryAt, self.maybe_instant(commit.expires_at))
            // A column of whole seconds may round up, and no token was generated in the future.
            .value(Connection::AccessTokenGeneratedOn, self.instant(commit.generated_at.trunc_subsecs(0)))
            .and_where(Expr::col((Connection::Table, Connection::Id)).eq(commit.connection_id.0))
            .to_owned()
    }
}

/// Whether the tokens that stand there are those that were loaded. The update before it holds the lock, so nobody else writes
/// between.
async fn is_as_loaded(transaction: &DatabaseTransaction, commit: &Commit) -> Result<bool, DbErr> {
    let Some(stored) = stored_tokens(transaction, commit.connection_id).await? else { return Ok(false) };
    // Only what is replaced has to be as it was.
    Ok(stored.token == commit.loaded_token
        && (commit.refresh_token.is_none() || stored.grant == commit.loaded_grant))
}
