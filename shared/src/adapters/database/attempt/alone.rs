//! One call by itself, where a statement takes no rows as a parameter: SQLite.

use chrono::TimeDelta;
use sea_orm::sea_query::{Cond, Expr, ExprTrait, Func, Query, SimpleExpr};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, TransactionTrait};

use super::super::Database;
use super::super::load::text;
use super::super::standing::{is_or_both_null, stands_as};
use super::super::table::{Connection, TokenRefresh};
use crate::domain::connection::ConnectionId;
use crate::domain::fingerprint::of_stored_token;
use crate::domain::secret::Secret;
use crate::ports::store::Attempt;

impl Database {
    pub(super) async fn open_alone(&self, attempt: &Attempt) -> Result<bool, DbErr> {
        let lease = Expr::col(TokenRefresh::LeaseUntil);
        let now = || self.clock_shifted(TimeDelta::zero());
        let is_ours = Expr::col(TokenRefresh::AttemptId).eq(attempt.id.as_str());
        let is_as_loaded = is_or_both_null(TokenRefresh::AttemptId, attempt.loaded_attempt.as_deref());
        let is_free = match attempt.passes {
            true => Cond::all(),
            false => Cond::any().add(lease.clone().is_null()).add(lease.lte(now())),
        };
        let sent_at = match attempt.is_effect_unknown {
            true => Func::coalesce([Expr::col(TokenRefresh::AttemptSentAt), now()]).into(),
            false => now(),
        };
        let statement = Query::update()
            .table(TokenRefresh::Table)
            .value(TokenRefresh::LeaseOwner, attempt.owner.as_str())
            .value(TokenRefresh::LeaseUntil, self.clock_shifted(attempt.lease))
            .value(TokenRefresh::AttemptId, attempt.id.as_str())
            .value(TokenRefresh::AttemptSentAt, sent_at)
            .value(TokenRefresh::AttemptGrant, attempt.grant.as_str())
            .and_where(Expr::col(TokenRefresh::ConnectionId).eq(attempt.connection_id.0))
            .and_where(Expr::col(TokenRefresh::Generation).eq(attempt.generation.0))
            .and_where(stands_as(&attempt.loaded))
            .cond_where(Cond::any().add(is_ours).add(Cond::all().add(is_as_loaded).add(is_free)))
            .to_owned();
        let transaction = self.connection.begin().await?;
        let is_written = transaction.execute(&statement).await?.rows_affected() > 0;
        // The update before it holds the lock, so nobody else writes between.
        if is_written && stored_grant(&transaction, attempt.connection_id).await? == attempt.loaded_grant {
            transaction.commit().await?;
            return Ok(true);
        }
        transaction.rollback().await?;
        Ok(false)
    }
}

/// What tells the refresh token that stands there, as [`Attempt::loaded_grant`].
async fn stored_grant(
    transaction: &DatabaseTransaction,
    connection_id: ConnectionId,
) -> Result<Option<String>, DbErr> {
    const NAME: &str = "refresh_token";
    let statement = Query::select()
        .expr_as(text(Expr::col((Connection::Table, Connection::RefreshToken))), NAME)
        .from(Connection::Table)
        .and_where(Expr::col((Connection::Table, Connection::Id)).eq(connection_id.0))
        .to_owned();
    let Some(row) = transaction.query_one(&statement).await? else { return Ok(None) };
    let token: Option<String> = row.try_get("", NAME)?;
    Ok(token.map(|token| of_stored_token(&Secret::new(token))))
}

/// One of these calls is open.
pub(in crate::adapters::database) fn is_open(known: &[String]) -> SimpleExpr {
    Expr::col(TokenRefresh::AttemptId).is_in(known.iter().map(String::as_str))
}

/// None is.
pub(in crate::adapters::database) fn none_is_open() -> SimpleExpr {
    Expr::col(TokenRefresh::AttemptId).is_null()
}
