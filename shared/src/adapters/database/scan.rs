//! Finding due connections: keyset pages over an index, one joined query per page.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::sea_query::{Cond, Expr, ExprTrait, JoinType, Order, Query, SelectStatement, SimpleExpr};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult};

use super::Database;
use super::error::during;
use super::table::{Channels, Connection, ProviderControl, TokenRefresh};
use super::value::{FIRST_INSTANT, id};
use crate::domain::connection::{ConnectionId, ConnectionState, Generation};
use crate::domain::window::Plan;
use crate::ports::queue::{TRACEPARENT, TraceContext};
use crate::ports::store::{
    Due, DueConnection, DuePage, DueScan, EndingGrant, PageKey, StoreError, UnreadableRow,
};

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
        let mut before = None;
        for row in &rows {
            // A connection comes once for each of its channels, one after the other.
            let connection_id = id(row, "id").ok().map(ConnectionId);
            if connection_id.is_some() && connection_id == before {
                continue;
            }
            before = connection_id;
            match due_connection(row) {
                Ok(due) if matches!(scan.due, Due::Planned(_)) && !is_planned(&due, row) => {}
                Ok(due) => page.due.push(due),
                Err(error) => page
                    .unreadable
                    .push(UnreadableRow { connection_id, problem: during(OPERATION)(error).to_string() }),
            }
        }
        // Taken from the last row also where the rest of it cannot be read, so that nothing behind it is passed over.
        page.next = rows.last().filter(|_| is_full).and_then(|row| page_key(scan.due, row).ok());
        Ok(page)
    }

    /// The statement of one page. Public so that a server can be asked to explain it.
    pub fn due_statement(&self, scan: &DueScan, after: Option<PageKey>, limit: u32) -> SelectStatement {
        let by_expiry = Expr::col((Connection::Table, Connection::Id));
        let by_ours = Expr::col((TokenRefresh::Table, TokenRefresh::ConnectionId));
        let same = by_ours.clone().eq(by_expiry.clone());
        let expiry = || self.expiry();
        let next_attempt = || Expr::col((TokenRefresh::Table, TokenRefresh::NextAttemptAt));
        let refresh_at = || Expr::col((TokenRefresh::Table, TokenRefresh::RefreshAt));
        let mut select = Query::select();
        // The table with the index that the pages follow comes first, whatever the server makes of its statistics.
        let id = match scan.due {
            Due::NeverRefreshed | Due::Expiring(_) | Due::ExpiredOrExpiring { .. } => {
                select.from(Connection::Table).left_join(TokenRefresh::Table, same);
                by_expiry
            }
            Due::Planned(_) | Due::NextAttempt => {
                select.from(TokenRefresh::Table).join(self.in_this_order(), Connection::Table, same);
                by_ours
            }
        };
        self.join_channels(&mut select, &scan.integration_type);
        select
            .expr_as(id.clone(), "id")
            .expr_as(self.readable_expiry(), "expires_at")
            .expr_as(Expr::col((TokenRefresh::Table, TokenRefresh::Generation)), "generation")
            .expr_as(next_attempt(), "next_attempt_at")
            .expr_as(refresh_at(), "refresh_at")
            .expr_as(Expr::col((TokenRefresh::Table, TokenRefresh::NotedExpiry)), "noted_expiry")
            .expr_as(Expr::col((TokenRefresh::Table, TokenRefresh::LastTrace)), "last_trace")
            .expr_as(Expr::col((TokenRefresh::Table, TokenRefresh::LifetimeS)), "lifetime_s")
            .and_where(Expr::col((Connection::Table, Connection::IsActive)).eq("active"))
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
            Due::ExpiredOrExpiring { from, within } => {
                select
                    .and_where(expiry().gte(self.moment(from.unwrap_or(FIRST_INSTANT))))
                    .and_where(expiry().lte(self.moment(scan.now + within)))
                    .cond_where(self.not_held_back(scan));
                Some((expiry(), true))
            }
            Due::Planned(later_than) => {
                select
                    .and_where(refresh_at().lte(self.instant(scan.now)))
                    .cond_where(
                        Cond::any()
                            .add(expiry().gt(self.moment(scan.now + later_than)).and(is_in(SCANNED)))
                            .add(
                                expiry().is_null().and(is_in(|state| state == ConnectionState::Unmonitored)),
                            ),
                    )
                    .and_where(next_attempt().is_null().or(next_attempt().lte(self.instant(scan.now))))
                    .and_where(self.not_queued(scan.now));
                Some((refresh_at(), false))
            }
            Due::NextAttempt => {
                select
                    .and_where(next_attempt().lte(self.instant(scan.now)))
                    .and_where(is_in(|_| true))
                    .and_where(self.not_queued(scan.now));
                Some((next_attempt(), false))
            }
        };
        if let Some(after) = after {
            let later_id = id.clone().gt(after.connection_id.0);
            match (&ordered_by, after.at) {
                (Some((column, is_expiry)), Some(at)) => {
                    let at = || if *is_expiry { self.moment(at) } else { Expr::value(self.instant(at)) };
                    select
                        // Of a choice the server makes no range: without this each page would read all those before it.
                        .and_where(column.clone().gte(at()))
                        .cond_where(Cond::any().add(column.clone().gt(at())).add(later_id));
                }
                _ => {
                    select.and_where(later_id);
                }
            }
        }
        if let Some((column, _)) = ordered_by {
            select.order_by_expr(column, Order::Asc);
        }
        select.order_by_expr(id, Order::Asc);
        select
    }

    /// Adds the channels of the type, last: whoever is held back is not asked for them. A question per connection in their place
    /// costs more, and is asked of everybody.
    pub(super) fn join_channels(&self, select: &mut SelectStatement, integration_type: &str) {
        let column = |column| Expr::col((Channels::Table, column));
        let is_theirs = column(Channels::ConnectionId)
            .equals((Connection::Table, Connection::Id))
            .and(column(Channels::IntegrationType).eq(integration_type));
        select.join(self.in_this_order(), Channels::Table, is_theirs);
    }

    /// A join that a server makes in the order in which it is written.
    fn in_this_order(&self) -> JoinType {
        match self.backend {
            DbBackend::Sqlite => JoinType::InnerJoin,
            _ => JoinType::StraightJoin,
        }
    }

    /// New, or in a scanned state and neither waiting, queued, nor planned for later.
    fn not_held_back(&self, scan: &DueScan) -> Cond {
        let next_attempt = Expr::col((TokenRefresh::Table, TokenRefresh::NextAttemptAt));
        let refresh_at = Expr::col((TokenRefresh::Table, TokenRefresh::RefreshAt));
        let expiry = self.expiry();
        let enrolled = Cond::all()
            .add(self.is_kept_fresh())
            .add(next_attempt.clone().is_null().or(next_attempt.lte(self.instant(scan.now))))
            .add(self.not_queued(scan.now))
            .add(
                Cond::any()
                    .add(refresh_at.clone().is_null())
                    .add(refresh_at.clone().lte(self.instant(scan.now)))
                    // Somebody else stored a token that dies before the plan of the one before.
                    .add(expiry.clone().lte(self.comparable(refresh_at)))
                    .add(self.is_other_than_noted())
                    .add(expiry.is_null()),
            );
        Cond::any().add(is_new()).add(enrolled)
    }

    /// In a state that the lanes' scans publish.
    pub(super) fn is_kept_fresh(&self) -> SimpleExpr {
        let is_monitored_again = is_in(|state| state == ConnectionState::Unmonitored);
        is_in(SCANNED).or(is_monitored_again.and(self.expiry().is_not_null()))
    }

    pub(super) fn not_queued(&self, now: DateTime<Utc>) -> SimpleExpr {
        let queued_until = Expr::col((TokenRefresh::Table, TokenRefresh::QueuedUntil));
        queued_until.clone().is_null().or(queued_until.lte(self.instant(now)))
    }

    pub(super) async fn read_ending_grants(
        &self,
        integration_type: &str,
        is_renewed_by_use: bool,
        now: DateTime<Utc>,
        before: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<EndingGrant>, StoreError> {
        let ends_at = || Expr::col((TokenRefresh::Table, TokenRefresh::RefreshTokenExpiresAt));
        let id = (TokenRefresh::Table, TokenRefresh::ConnectionId);
        let mut statement = Query::select()
            .expr_as(Expr::col(id), "id")
            .expr_as(ends_at(), "ends_at")
            .from(TokenRefresh::Table)
            .inner_join(Connection::Table, Expr::col((Connection::Table, Connection::Id)).equals(id))
            .and_where(Expr::col((Connection::Table, Connection::IsActive)).eq("active"))
            .and_where(has_channel(integration_type))
            .and_where(ends_at().gt(self.instant(now)))
            .and_where(ends_at().lte(self.instant(before)))
            // Since somebody else stored a token, the refresh token may be another one too.
            .cond_where(
                Cond::any()
                    .add(Expr::col((TokenRefresh::Table, TokenRefresh::NotedExpiry)).is_null())
                    .add(self.expiry().is_null())
                    .add(self.is_other_than_noted().not()),
            )
            .order_by_expr(ends_at(), Order::Asc)
            .limit(limit.into())
            .to_owned();
        if is_renewed_by_use {
            let refresh_at = Expr::col((TokenRefresh::Table, TokenRefresh::RefreshAt));
            statement.and_where(refresh_at.clone().is_null().or(refresh_at.gte(ends_at())));
        }
        let operation = during("find refresh tokens that die soon");
        let rows = self.connection.query_all(&statement).await.map_err(&operation)?;
        let read = |row: &QueryResult| {
            Ok(EndingGrant {
                connection_id: ConnectionId(row.try_get("", "id")?),
                at: row.try_get("", "ends_at")?,
            })
        };
        rows.iter().map(|row| read(row).map_err(&operation)).collect()
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

/// Not enrolled yet.
pub(super) fn is_new() -> SimpleExpr {
    Expr::col((TokenRefresh::Table, TokenRefresh::ConnectionId)).is_null()
}

const SCANNED: fn(ConnectionState) -> bool = ConnectionState::is_scanned;

pub(super) fn is_in(belongs: fn(ConnectionState) -> bool) -> SimpleExpr {
    let states =
        ConnectionState::ALL.into_iter().filter(|state| belongs(*state)).map(ConnectionState::as_str);
    Expr::col((TokenRefresh::Table, TokenRefresh::State)).is_in(states)
}

/// A question per connection, by its key. `EXISTS` would be made a join, in an order and with temporary tables of the server's
/// choice.
pub(super) fn has_channel(integration_type: &str) -> SimpleExpr {
    let channel = Query::select()
        .expr(Expr::value(1))
        .from(Channels::Table)
        .and_where(
            Expr::col((Channels::Table, Channels::ConnectionId)).equals((Connection::Table, Connection::Id)),
        )
        .and_where(Expr::col((Channels::Table, Channels::IntegrationType)).eq(integration_type))
        .limit(1)
        .to_owned();
    Expr::expr(channel).is_not_null()
}

/// A merchant's reconnect leaves an old plan behind, which no longer says anything.
fn is_planned(due: &DueConnection, row: &QueryResult) -> bool {
    match (due.expires_at, plan(row)) {
        (Some(expires_at), Ok(Some(plan))) => plan.is_for(expires_at),
        _ => true,
    }
}

/// The plan of a row, whatever token it was made for.
pub(super) fn plan(row: &QueryResult) -> Result<Option<Plan>, DbErr> {
    let noted_expiry = row.try_get("", "noted_expiry")?;
    let lifetime = lifetime(row)?;
    let refresh_at: Option<DateTime<Utc>> = row.try_get("", "refresh_at")?;
    Ok(refresh_at.map(|refresh_at| Plan { refresh_at, noted_expiry, lifetime }))
}

fn lifetime(row: &QueryResult) -> Result<Option<TimeDelta>, DbErr> {
    Ok(row.try_get::<Option<i64>>("", "lifetime_s")?.and_then(TimeDelta::try_seconds))
}

fn due_connection(row: &QueryResult) -> Result<DueConnection, DbErr> {
    Ok(DueConnection {
        connection_id: ConnectionId(id(row, "id")?),
        generation: row.try_get::<Option<i64>>("", "generation")?.map(Generation),
        expires_at: row.try_get("", "expires_at")?,
        next_attempt_at: row.try_get("", "next_attempt_at")?,
        refresh_at: row.try_get("", "refresh_at")?,
        lifetime: lifetime(row)?,
        attempt_before: attempt_before(row)?,
    })
}

/// What is left of an attempt before the last stored token says nothing: that one took its next attempt away.
fn attempt_before(row: &QueryResult) -> Result<TraceContext, DbErr> {
    let next_attempt_at: Option<DateTime<Utc>> = row.try_get("", "next_attempt_at")?;
    let last_trace: Option<String> = row.try_get("", "last_trace")?;
    Ok(next_attempt_at.and(last_trace).map(|trace| (TRACEPARENT.to_owned(), trace)).into_iter().collect())
}

/// Where a page that ends with this row goes on.
fn page_key(due: Due, row: &QueryResult) -> Result<PageKey, DbErr> {
    let at = match due {
        Due::Expiring(_) | Due::ExpiredOrExpiring { .. } => row.try_get("", "expires_at")?,
        Due::Planned(_) => row.try_get("", "refresh_at")?,
        Due::NextAttempt => row.try_get("", "next_attempt_at")?,
        Due::NeverRefreshed => None,
    };
    Ok(PageKey { at, connection_id: ConnectionId(id(row, "id")?) })
}
