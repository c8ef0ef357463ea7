//! Finding due connections: keyset pages over an index, one joined query per page.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Cond, Expr, ExprTrait, Order, Query, SelectStatement, SimpleExpr};
use sea_orm::{ConnectionTrait, DbErr, QueryResult};

use super::Database;
use super::error::during;
use super::table::{Channels, Connection, ProviderControl, TokenRefresh};
use super::value::{FIRST_INSTANT, id};
use crate::domain::connection::{ConnectionId, ConnectionState, Generation};
use crate::ports::store::{Due, DueConnection, DuePage, DueScan, PageKey, StoreError, UnreadableRow};

const OPERATION: &str = "find due connections";

impl Database {
    pub(super) async fn read_due_page(
        &self,
        scan: &DueScan,
        after: Option<PageKey>,
        limit: u32,
    ) -> Result<DuePage, StoreError> {
        let statement = self.due_statement(scan, after, limit);
        let rows = self.connection.query_all(&statement).await.map_err(during(OPERATION))?;
        let is_full = u32::try_from(rows.len()).is_ok_and(|count| count >= limit);
        let mut page = DuePage::default();
        for row in &rows {
            match due_connection(row) {
                Ok(due) => page.due.push(due),
                Err(error) => page.unreadable.push(UnreadableRow {
                    connection_id: id(row, "id").ok().map(ConnectionId),
                    problem: during(OPERATION)(error).to_string(),
                }),
            }
        }
        // Taken from the last row also where the rest of it cannot be read, so that nothing behind it is passed over.
        page.next = rows.last().filter(|_| is_full).and_then(|row| page_key(scan.due, row).ok());
        Ok(page)
    }

    /// Public to the crate's tests, which ask the server to explain it.
    pub(super) fn due_statement(
        &self,
        scan: &DueScan,
        after: Option<PageKey>,
        limit: u32,
    ) -> SelectStatement {
        let id = || Expr::col((Connection::Table, Connection::Id));
        let expiry = || self.expiry();
        let next_attempt = || Expr::col((TokenRefresh::Table, TokenRefresh::NextAttemptAt));
        let mut select = Query::select();
        select
            .expr_as(id(), "id")
            .expr_as(self.readable_expiry(), "expires_at")
            .expr_as(Expr::col((TokenRefresh::Table, TokenRefresh::Generation)), "generation")
            .expr_as(next_attempt(), "next_attempt_at")
            .from(Connection::Table)
            .left_join(
                TokenRefresh::Table,
                Expr::col((TokenRefresh::Table, TokenRefresh::ConnectionId))
                    .equals((Connection::Table, Connection::Id)),
            )
            .and_where(Expr::col((Connection::Table, Connection::IsActive)).eq("active"))
            .and_where(has_channel(&scan.integration_type))
            .limit(limit.into());
        let ordered_by = match scan.due {
            Due::NeverRefreshed => {
                select.and_where(self.never_refreshed()).cond_where(self.not_held_back(scan));
                None
            }
            Due::Expiring(within) => {
                select
                    .and_where(expiry().gt(self.moment(scan.now)))
                    .and_where(expiry().lte(self.moment(scan.now + within)))
                    .cond_where(self.not_held_back(scan));
                Some((expiry(), true))
            }
            Due::ExpiredOrExpiring(within) => {
                select
                    .and_where(expiry().gte(self.moment(FIRST_INSTANT)))
                    .and_where(expiry().lte(self.moment(scan.now + within)))
                    .cond_where(self.not_held_back(scan));
                Some((expiry(), true))
            }
            Due::NextAttempt => {
                select
                    .and_where(next_attempt().lte(self.instant(scan.now)))
                    .and_where(is_scanned())
                    .and_where(self.not_queued(scan.now));
                Some((next_attempt(), false))
            }
        };
        if let Some(after) = after {
            let later_id = id().gt(after.connection_id.0);
            select.cond_where(match (&ordered_by, after.at) {
                (Some((column, is_expiry)), Some(at)) => {
                    let at = || if *is_expiry { self.moment(at) } else { Expr::value(self.instant(at)) };
                    Cond::any().add(column.clone().gt(at())).add(column.clone().eq(at()).and(later_id))
                }
                _ => Cond::all().add(later_id),
            });
        }
        if let Some((column, _)) = ordered_by {
            select.order_by_expr(column, Order::Asc);
        }
        select.order_by((Connection::Table, Connection::Id), Order::Asc);
        select
    }

    /// New, or in a scanned state and neither waiting, queued, nor planned for later.
    fn not_held_back(&self, scan: &DueScan) -> Cond {
        let next_attempt = Expr::col((TokenRefresh::Table, TokenRefresh::NextAttemptAt));
        let refresh_at = Expr::col((TokenRefresh::Table, TokenRefresh::RefreshAt));
        let expiry = self.expiry();
        let enrolled = Cond::all()
            .add(is_scanned())
            .add(next_attempt.clone().is_null().or(next_attempt.lte(self.instant(scan.now))))
            .add(self.not_queued(scan.now))
            .add(
                Cond::any()
                    .add(refresh_at.clone().is_null())
                    .add(refresh_at.clone().lte(self.instant(scan.now)))
                    // Somebody else stored a token that dies before the plan of the one before.
                    .add(expiry.clone().lte(self.comparable(refresh_at)))
                    .add(expiry.is_null()),
            );
        Cond::any().add(Expr::col((TokenRefresh::Table, TokenRefresh::ConnectionId)).is_null()).add(enrolled)
    }

    pub(super) fn not_queued(&self, now: DateTime<Utc>) -> SimpleExpr {
        let queued_until = Expr::col((TokenRefresh::Table, TokenRefresh::QueuedUntil));
        queued_until.clone().is_null().or(queued_until.lte(self.instant(now)))
    }

    pub(super) async fn read_paused_providers(&self) -> Result<Vec<String>, StoreError> {
        let statement = Query::select()
            .column(ProviderControl::Provider)
            .from(ProviderControl::Table)
            .and_where(Expr::col(ProviderControl::Paused).eq(true))
            .to_owned();
        let operation = during("read provider_control");
        let rows = self.connection.query_all(&statement).await.map_err(&operation)?;
        rows.iter().map(|row| row.try_get("", "provider").map_err(&operation)).collect()
    }
}

fn is_scanned() -> SimpleExpr {
    let states =
        ConnectionState::ALL.into_iter().filter(|state| state.is_scanned()).map(ConnectionState::as_str);
    Expr::col((TokenRefresh::Table, TokenRefresh::State)).is_in(states)
}

pub(super) fn has_channel(integration_type: &str) -> SimpleExpr {
    let channel = Query::select()
        .expr(Expr::value(1))
        .from(Channels::Table)
        .and_where(
            Expr::col((Channels::Table, Channels::ConnectionId)).equals((Connection::Table, Connection::Id)),
        )
        .and_where(Expr::col((Channels::Table, Channels::IntegrationType)).eq(integration_type))
        .to_owned();
    Expr::exists(channel)
}

fn due_connection(row: &QueryResult) -> Result<DueConnection, DbErr> {
    Ok(DueConnection {
        connection_id: ConnectionId(id(row, "id")?),
        generation: row.try_get::<Option<i64>>("", "generation")?.map(Generation),
        expires_at: row.try_get("", "expires_at")?,
        next_attempt_at: row.try_get("", "next_attempt_at")?,
    })
}

/// Where a page that ends with this row goes on.
fn page_key(due: Due, row: &QueryResult) -> Result<PageKey, DbErr> {
    let at = match due {
        Due::Expiring(_) | Due::ExpiredOrExpiring(_) => row.try_get("", "expires_at")?,
        Due::NextAttempt => row.try_get("", "next_attempt_at")?,
        Due::NeverRefreshed => None,
    };
    Ok(PageKey { at, connection_id: ConnectionId(id(row, "id")?) })
}
