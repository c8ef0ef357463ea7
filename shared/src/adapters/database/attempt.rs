//! The journal: a call that spends a refresh token is written down before it is sent.

use sea_orm::ConnectionTrait;
use sea_orm::sea_query::{Expr, ExprTrait, Func, Query};

use super::Database;
use super::error::during;
use super::table::TokenRefresh;
use crate::ports::store::{Attempt, StoreError};

impl Database {
    /// One statement with its precondition: whoever matches the row holds the lease.
    pub(super) async fn open_attempt(&self, attempt: &Attempt) -> Result<bool, StoreError> {
        let lease = Expr::col(TokenRefresh::LeaseUntil);
        // The first call of a generation is the one that may have spent its token; its time stays.
        let first_sent = Func::coalesce([
            Expr::col(TokenRefresh::AttemptSentAt),
            Expr::value(self.instant(attempt.sent_at)),
        ]);
        let statement = Query::update()
            .table(TokenRefresh::Table)
            .value(TokenRefresh::LeaseOwner, attempt.owner.as_str())
            .value(TokenRefresh::LeaseUntil, self.instant(attempt.lease_until))
            .value(TokenRefresh::AttemptId, attempt.id.as_str())
            .value(TokenRefresh::AttemptSentAt, first_sent)
            .and_where(Expr::col(TokenRefresh::ConnectionId).eq(attempt.connection_id.0))
            .and_where(Expr::col(TokenRefresh::Generation).eq(attempt.generation.0))
            .and_where(
                lease
                    .clone()
                    .is_null()
                    .or(lease.lte(self.instant(attempt.sent_at)))
                    .or(Expr::col(TokenRefresh::LeaseOwner).eq(attempt.owner.as_str())),
            )
            .to_owned();
        let result = self
            .connection
            .execute(&statement)
            .await
            .map_err(during("write a call down before it is sent"))?;
        Ok(result.rows_affected() > 0)
    }
}
