//! What has expired and waits, which a scan need not walk over each time: where it ends, in the order of expiry.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait, Order, Query, SelectStatement};
use sea_orm::{ConnectionTrait, DbErr, QueryResult};

use super::Database;
use super::error::during;
use super::scan::is_new;
use super::table::{Connection, TokenRefresh};
use super::value::FIRST_INSTANT;
use crate::ports::store::{Expired, StoreError};

const OPERATION: &str = "find out who waits";

impl Database {
    pub(super) async fn read_first_unsettled(
        &self,
        integration_type: &str,
        expired: Expired,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.expiry_of(&self.first_unsettled_statement(integration_type, expired)).await
    }

    /// Public so that a server can be asked to explain it.
    pub fn first_unsettled_statement(&self, integration_type: &str, expired: Expired) -> SelectStatement {
        let ours = |column| Expr::col((TokenRefresh::Table, column));
        let stirs = self.is_kept_fresh().and(ours(TokenRefresh::NextAttemptAt).is_null());
        let theirs = (Connection::Table, Connection::Id);
        let mut select = Query::select();
        select
            .from(Connection::Table)
            .left_join(TokenRefresh::Table, ours(TokenRefresh::ConnectionId).equals(theirs));
        self.join_channels(&mut select, integration_type);
        select
            .and_where(self.expiry().gte(self.moment(expired.from.unwrap_or(FIRST_INSTANT))))
            .and_where(is_new().or(stirs));
        self.first_that_expired(select, expired)
    }

    pub(super) async fn read_end_of_first(
        &self,
        expired: Expired,
        count: u32,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.expiry_of(&self.end_of_first_statement(expired, count)).await
    }

    /// Public so that a server can be asked to explain it.
    pub fn end_of_first_statement(&self, expired: Expired, count: u32) -> SelectStatement {
        let mut select = Query::select();
        select.from(Connection::Table).offset(count.into()).and_where(match expired.from {
            // However many died at the same time as the first, the end lies behind it.
            Some(from) => self.expiry().gt(self.moment(from)),
            None => self.expiry().gte(self.moment(FIRST_INSTANT)),
        });
        self.first_that_expired(select, expired)
    }

    fn first_that_expired(&self, mut select: SelectStatement, expired: Expired) -> SelectStatement {
        select
            .expr_as(self.expiry(), "expires_at")
            .and_where(Expr::col((Connection::Table, Connection::IsActive)).eq("active"))
            .and_where(self.expiry().lt(self.moment(expired.until)))
            .order_by_expr(self.expiry(), Order::Asc)
            .limit(1);
        select
    }

    async fn expiry_of(&self, statement: &SelectStatement) -> Result<Option<DateTime<Utc>>, StoreError> {
        let row = self.connection.query_one(statement).await.map_err(during(OPERATION))?;
        let read = |row: QueryResult| -> Result<DateTime<Utc>, DbErr> { row.try_get("", "expires_at") };
        row.map(read).transpose().map_err(during(OPERATION))
    }
}
