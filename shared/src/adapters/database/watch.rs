//! Connections whose refresh token nobody watches yet: found by walking over ids, so that no statement reads more than a page.

use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Cond, Expr, ExprTrait, Func, Order, Query};
use sea_orm::{ConnectionTrait, DbErr, QueryResult, Value};

use super::Database;
use super::error::during;
use super::scan::{has_channel, is_in};
use super::table::{Connection, TokenRefresh};
use super::value::id;
use crate::domain::connection::{ConnectionId, ConnectionState, Generation};
use crate::ports::store::{IdPage, StoreError, Unwatched, WatchNote};

const OPERATION: &str = "find refresh tokens that nobody watches";

impl Database {
    pub(super) async fn read_id_page(
        &self,
        after: Option<ConnectionId>,
        limit: u32,
    ) -> Result<Option<IdPage>, StoreError> {
        let mut page = Query::select();
        page.expr_as(Expr::col((Connection::Table, Connection::Id)), "id")
            .from(Connection::Table)
            .order_by((Connection::Table, Connection::Id), Order::Asc)
            .limit(limit.into());
        if let Some(after) = after {
            page.and_where(Expr::col((Connection::Table, Connection::Id)).gt(after.0));
        }
        let last = Query::select()
            .expr_as(Func::max(Expr::col(("page", "id"))), "id")
            .from_subquery(page, "page")
            .to_owned();
        let row = self.connection.query_one(&last).await.map_err(during(OPERATION))?;
        let is_empty = |row: &QueryResult| matches!(row.try_get::<Option<i64>>("", "id"), Ok(None));
        let Some(row) = row.filter(|row| !is_empty(row)) else { return Ok(None) };
        let last = id(&row, "id").map(ConnectionId).map_err(during(OPERATION))?;
        Ok(Some(IdPage { after, last }))
    }

    pub(super) async fn read_unwatched(
        &self,
        integration_type: &str,
        page: IdPage,
        window_ends: DateTime<Utc>,
    ) -> Result<Vec<Unwatched>, StoreError> {
        let id = || Expr::col((Connection::Table, Connection::Id));
        let ours = |column| Expr::col((TokenRefresh::Table, column));
        let refreshed = |state| ConnectionState::is_scanned(state) || state == ConnectionState::Unmonitored;
        let noted =
            Cond::any().add(ours(TokenRefresh::NotedExpiry).is_null()).add(self.is_other_than_noted());
        let mut statement = Query::select();
        statement
            .expr_as(id(), "id")
            .expr_as(self.readable_expiry(), "expires_at")
            .expr_as(self.readable(Connection::AccessTokenGeneratedOn), "generated_at")
            .expr_as(ours(TokenRefresh::Generation), "generation")
            .expr_as(ours(TokenRefresh::RefreshAt), "refresh_at")
            .expr_as(ours(TokenRefresh::NotedExpiry), "noted_expiry")
            .expr_as(ours(TokenRefresh::LifetimeS), "lifetime_s")
            .from(Connection::Table)
            .left_join(
                TokenRefresh::Table,
                ours(TokenRefresh::ConnectionId).equals((Connection::Table, Connection::Id)),
            )
            .and_where(id().lte(page.last.0))
            .and_where(Expr::col((Connection::Table, Connection::IsActive)).eq("active"))
            // The others are found by the windows' scans.
            .and_where(self.expiry().gt(self.moment(window_ends)))
            .and_where(has_channel(integration_type))
            .cond_where(
                Cond::any()
                    .add(ours(TokenRefresh::ConnectionId).is_null())
                    .add(Cond::all().add(is_in(refreshed)).add(noted)),
            );
        if let Some(after) = page.after {
            statement.and_where(id().gt(after.0));
        }
        let rows = self.connection.query_all(&statement).await.map_err(during(OPERATION))?;
        rows.iter().map(|row| unwatched(row).map_err(during(OPERATION))).collect()
    }

    pub(super) async fn write_watch_notes(&self, notes: &[WatchNote]) -> Result<(), StoreError> {
        let new = notes.iter().filter(|note| note.generation.is_none());
        self.enrol(new.map(|note| note.connection_id).collect()).await?;
        self.update_notes(notes).await.map_err(during("note when refresh tokens die"))
    }

    async fn update_notes(&self, notes: &[WatchNote]) -> Result<(), DbErr> {
        let transaction = self.connection.open_transaction().await?;
        for note in notes {
            let generation = note.generation.unwrap_or(Generation::FIRST);
            let statement = Query::update()
                .table(TokenRefresh::Table)
                .value(TokenRefresh::NotedExpiry, self.instant(note.expires_at))
                .value(TokenRefresh::RefreshAt, self.maybe_instant(note.watched.refresh_at))
                .value(TokenRefresh::RefreshTokenExpiresAt, self.maybe_instant(note.watched.ends_at))
                // The producer reads no secret: it means whichever stands there.
                .value(TokenRefresh::RefreshTokenFingerprint, Value::String(None))
                .and_where(Expr::col(TokenRefresh::ConnectionId).eq(note.connection_id.0))
                // Who stored a token meanwhile knows better.
                .and_where(Expr::col(TokenRefresh::Generation).eq(generation.0))
                .to_owned();
            transaction.execute(&statement).await?;
        }
        transaction.commit().await
    }
}

fn unwatched(row: &QueryResult) -> Result<Unwatched, DbErr> {
    Ok(Unwatched {
        connection_id: ConnectionId(id(row, "id")?),
        generation: row.try_get::<Option<i64>>("", "generation")?.map(Generation),
        expires_at: row.try_get("", "expires_at")?,
        generated_at: row.try_get("", "generated_at")?,
        plan: super::scan::plan(row)?,
    })
}
