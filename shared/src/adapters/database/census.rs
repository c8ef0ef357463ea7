//! Counting the fleet.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::sea_query::{CaseStatement, Expr, ExprTrait, Func, Query, SelectStatement, SimpleExpr};
use sea_orm::{ConnectionTrait, QueryResult};

use super::Database;
use super::error::during;
use super::scan::has_channel;
use super::table::{Connection, TokenRefresh};
use super::value::{FIRST_INSTANT, id};
use crate::domain::connection::{ConnectionId, ConnectionState};
use crate::domain::failure::FailureClass;
use crate::domain::window::RefreshWindows;
use crate::ports::store::{Cause, Census, CensusStore, ExpirySpan, Standing, StoreError};

#[async_trait]
impl CensusStore for Database {
    async fn census(
        &self,
        integration_type: &str,
        windows: &RefreshWindows,
        now: DateTime<Utc>,
    ) -> Result<Census, StoreError> {
        let operation = during("count the fleet");
        let expiry = || self.expiry();
        let soonest = CaseStatement::new().case(expiry().gt(self.moment(now)), expiry());
        let statement = Query::select()
            .expr_as(Expr::col((Connection::Table, Connection::Id)).count(), "connections")
            .expr_as(count_where(expiry().gt(self.moment(now))), "valid")
            .expr_as(
                count_where(expiry().lte(self.moment(now + windows.early)).or(expiry().is_null())),
                "due",
            )
            .expr_as(Func::min(soonest), "next_expiry")
            .from(Connection::Table)
            .and_where(Expr::col((Connection::Table, Connection::IsActive)).eq("active"))
            .and_where(has_channel(integration_type))
            .to_owned();
        let Some(row) = self.connection.patiently().query_one(&statement).await.map_err(&operation)? else {
            return Ok(Census::default());
        };
        let count = |name: &str| {
            let number: i64 = row.try_get("", name).map_err(&operation)?;
            Ok(u64::try_from(number).unwrap_or(0))
        };
        Ok(Census {
            connections: count("connections")?,
            valid: count("valid")?,
            due: count("due")?,
            next_expiry: row.try_get("", "next_expiry").map_err(&operation)?,
        })
    }

    async fn count_expiring(
        &self,
        integration_type: &str,
        span: ExpirySpan,
    ) -> Result<Vec<Standing>, StoreError> {
        let operation = during("count connections by their expiry");
        let statement = self.expiring_statement(integration_type, span);
        let rows = self.connection.patiently().query_all(&statement).await.map_err(&operation)?;
        let read = |row: &QueryResult| {
            let state: Option<String> = row.try_get("", "state")?;
            let class: Option<String> = row.try_get("", "failure_class")?;
            let connections: i64 = row.try_get("", "connections")?;
            Ok(Standing {
                state: state.as_deref().map_or(Some(ConnectionState::Active), ConnectionState::parse),
                cause: match class.as_deref().map(FailureClass::parse) {
                    None => Cause::None,
                    Some(Some(class)) if class.is_providers() => Cause::Provider,
                    Some(_) => Cause::Connection,
                },
                connections: u64::try_from(connections).unwrap_or(0),
            })
        };
        rows.iter().map(|row| read(row).map_err(&operation)).collect()
    }

    async fn expired_between(
        &self,
        integration_type: &str,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Vec<ConnectionId>, StoreError> {
        let operation = during("find expired tokens");
        let expiry = || self.expiry();
        let statement = Query::select()
            .expr_as(Expr::col((Connection::Table, Connection::Id)), "id")
            .from(Connection::Table)
            .and_where(Expr::col((Connection::Table, Connection::IsActive)).eq("active"))
            .and_where(expiry().gt(self.moment(since)))
            .and_where(expiry().lte(self.moment(now)))
            .and_where(has_channel(integration_type))
            .to_owned();
        let rows = self.connection.patiently().query_all(&statement).await.map_err(&operation)?;
        rows.iter().map(|row| id(row, "id").map(ConnectionId).map_err(&operation)).collect()
    }
}

impl Database {
    fn expiring_statement(&self, integration_type: &str, span: ExpirySpan) -> SelectStatement {
        let expiry = || self.expiry();
        let is_within = match span {
            ExpirySpan::Never => self.never_refreshed(),
            ExpirySpan::Until(until) => {
                expiry().gte(self.moment(FIRST_INSTANT)).and(expiry().lte(self.moment(until)))
            }
            ExpirySpan::Between { after, until } => {
                expiry().gt(self.moment(after)).and(expiry().lte(self.moment(until)))
            }
            ExpirySpan::After(after) => expiry().gt(self.moment(after)),
        };
        let state = (TokenRefresh::Table, TokenRefresh::State);
        let class = (TokenRefresh::Table, TokenRefresh::FailureClass);
        Query::select()
            .expr_as(Expr::col(state), "state")
            .expr_as(Expr::col(class), "failure_class")
            .expr_as(Expr::col((Connection::Table, Connection::Id)).count(), "connections")
            .from(Connection::Table)
            .left_join(
                TokenRefresh::Table,
                Expr::col((TokenRefresh::Table, TokenRefresh::ConnectionId))
                    .equals((Connection::Table, Connection::Id)),
            )
            .and_where(Expr::col((Connection::Table, Connection::IsActive)).eq("active"))
            .and_where(is_within)
            .and_where(has_channel(integration_type))
            .group_by_columns([state, class])
            .to_owned()
    }
}

/// COUNT of a CASE is a BIGINT on every server; a SUM would be a DECIMAL on some.
fn count_where(condition: SimpleExpr) -> SimpleExpr {
    Func::count(CaseStatement::new().case(condition, Expr::value(1))).into()
}
