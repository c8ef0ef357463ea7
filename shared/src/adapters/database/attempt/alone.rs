//! One call by itself, where a statement takes no rows as a parameter: SQLite.

use chrono::TimeDelta;
use sea_orm::sea_query::{Cond, Expr, ExprTrait, Func, Query, SimpleExpr};
use sea_orm::{ConnectionTrait, DbErr, TransactionTrait};

use super::super::Database;
use super::super::standing::{is_or_both_null, stands_as, stored_tokens};
use super::super::table::TokenRefresh;
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
        let stored = stored_tokens(&transaction, attempt.connection_id).await?;
        if is_written && stored.is_some_and(|stored| stored.grant == attempt.loaded_grant) {
            transaction.commit().await?;
            return Ok(true);
        }
        transaction.rollback().await?;
        Ok(false)
    }
}

/// One of these calls is open.
pub(in crate::adapters::database) fn is_open(known: &[String]) -> SimpleExpr {
    Expr::col(TokenRefresh::AttemptId).is_in(known.iter().map(String::as_str))
}

/// None is.
pub(in crate::adapters::database) fn none_is_open() -> SimpleExpr {
    Expr::col(TokenRefresh::AttemptId).is_null()
}
