//! All connections with a token that is good, page by page: what a cache that lost everything has to hold.

use chrono::{DateTime, Utc};
use sea_orm::ConnectionTrait;
use sea_orm::sea_query::extension::mysql::{IndexHintScope, MySqlSelectStatementExt};
use sea_orm::sea_query::{Expr, ExprTrait, Order, Query};

use super::Database;
use super::error::during;
use super::scan::has_channel;
use super::table::Connection;
use super::value::id;
use crate::domain::connection::ConnectionId;
use crate::ports::store::StoreError;

const OPERATION: &str = "find connections with a good token";

impl Database {
    pub(super) async fn read_good_page(
        &self,
        integration_type: &str,
        now: DateTime<Utc>,
        after: Option<ConnectionId>,
        limit: u32,
    ) -> Result<Vec<ConnectionId>, StoreError> {
        let key = || Expr::col((Connection::Table, Connection::Id));
        let mut select = Query::select();
        select
            .expr_as(key(), "id")
            .from(Connection::Table)
            // Each page goes on where the last one ended; by another index the server would sort all of them each time.
            .force_index("PRIMARY", IndexHintScope::All)
            .and_where(Expr::col((Connection::Table, Connection::IsActive)).eq("active"))
            .and_where(has_channel(integration_type))
            // Where nobody knows when a token dies, whoever loads it decides.
            .and_where(self.expiry().gt(self.moment(now)).or(self.expiry().is_null()))
            .order_by_expr(key(), Order::Asc)
            .limit(limit.into());
        if let Some(after) = after {
            select.and_where(key().gt(after.0));
        }
        // Of a provider with few connections a page is looked for among all of them.
        let rows = self.connection.patiently().query_all(&select).await.map_err(during(OPERATION))?;
        rows.iter().map(|row| id(row, "id").map(ConnectionId).map_err(during(OPERATION))).collect()
    }
}
