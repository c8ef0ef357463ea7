//! One call by itself, where a statement takes no rows as a parameter: SQLite.

use chrono::TimeDelta;
use sea_orm::sea_query::{Cond, Expr, ExprTrait, Query, SimpleExpr};
use sea_orm::{ConnectionTrait, DbErr};

use super::super::Database;
use super::super::table::TokenRefresh;
use crate::ports::store::Attempt;

impl Database {
    pub(super) async fn open_alone(&self, attempt: &Attempt) -> Result<bool, DbErr> {
        let lease = Expr::col(TokenRefresh::LeaseUntil);
        let now = self.clock_shifted(TimeDelta::zero());
        let id = || Expr::col(TokenRefresh::AttemptId);
        let is_ours = || id().eq(attempt.id.as_str());
        let as_loaded = match &attempt.loaded_attempt {
            Some(loaded) => id().eq(loaded.as_str()),
            None => id().is_null(),
        };
        let is_free = match attempt.passes {
            true => Cond::all(),
            false => Cond::any().add(lease.clone().is_null()).add(lease.lte(now)),
        };
        let statement = Query::update()
            .table(TokenRefresh::Table)
            .value(TokenRefresh::LeaseOwner, attempt.owner.as_str())
            .value(TokenRefresh::LeaseUntil, self.clock_shifted(attempt.lease))
            .value(TokenRefresh::AttemptId, attempt.id.as_str())
            .value(TokenRefresh::AttemptSentAt, self.clock_shifted(-attempt.unknown_for))
            .value(TokenRefresh::AttemptGrant, attempt.grant.as_str())
            .and_where(Expr::col(TokenRefresh::ConnectionId).eq(attempt.connection_id.0))
            .and_where(Expr::col(TokenRefresh::Generation).eq(attempt.generation.0))
            .and_where(Expr::col(TokenRefresh::State).eq(attempt.loaded_state.as_str()))
            .cond_where(Cond::any().add(is_ours()).add(Cond::all().add(as_loaded).add(is_free)))
            .to_owned();
        Ok(self.connection.execute(&statement).await?.rows_affected() > 0)
    }
}

/// No call is open but those that are known.
pub(in crate::adapters::database) fn no_other_attempt(known: &[String]) -> SimpleExpr {
    let attempt = || Expr::col(TokenRefresh::AttemptId);
    attempt().is_null().or(attempt().is_in(known.iter().map(String::as_str)))
}
