//! Claiming: one outstanding job per connection, whoever scans.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, Query};
use sea_orm::{ConnectionTrait, Value};

use super::Database;
use super::error::during;
use super::table::{RefreshAttempt, TokenRefresh};
use crate::domain::connection::{ConnectionId, ConnectionState, Generation};
use crate::ports::store::{
    Claim, DueConnection, DuePage, DueScan, EndingGrant, Expired, IdPage, PageKey, ScanStore, StoreError,
    Unwatched, WatchNote,
};

/// Rows of history that one call deletes at most, so that no statement holds locks for long.
const PRUNED_AT_ONCE: u64 = 5_000;

#[async_trait]
impl ScanStore for Database {
    async fn due_page(
        &self,
        scan: &DueScan,
        after: Option<PageKey>,
        limit: u32,
    ) -> Result<DuePage, StoreError> {
        self.read_due_page(scan, after, limit).await
    }

    async fn first_unsettled(
        &self,
        integration_type: &str,
        expired: Expired,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.read_first_unsettled(integration_type, expired).await
    }

    async fn end_of_first(&self, expired: Expired, count: u32) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.read_end_of_first(expired, count).await
    }

    async fn claim(&self, due: &[DueConnection], claim: Claim) -> Result<Vec<DueConnection>, StoreError> {
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let new = due.iter().filter(|due| due.generation.is_none());
        self.enrol(new.map(|due| due.connection_id).collect()).await?;
        let operation = during("claim due connections");
        let ids = || due.iter().map(|due| due.connection_id.0);
        let take = Query::update()
            .table(TokenRefresh::Table)
            .value(TokenRefresh::QueuedUntil, self.instant(claim.until))
            .value(TokenRefresh::ClaimId, claim.id)
            .and_where(Expr::col((TokenRefresh::Table, TokenRefresh::ConnectionId)).is_in(ids()))
            .and_where(self.not_queued(claim.now))
            .to_owned();
        self.connection.execute(&take).await.map_err(&operation)?;
        // The number of rows that an update reports is not the number that it won on every server; the mark is.
        let won = Query::select()
            .columns([TokenRefresh::ConnectionId, TokenRefresh::Generation])
            .from(TokenRefresh::Table)
            .and_where(Expr::col(TokenRefresh::ConnectionId).is_in(ids()))
            .and_where(Expr::col(TokenRefresh::ClaimId).eq(claim.id))
            .to_owned();
        let rows = self.connection.query_all(&won).await.map_err(&operation)?;
        let mut claimed = std::collections::HashMap::with_capacity(rows.len());
        for row in &rows {
            let id: i64 = row.try_get("", "connection_id").map_err(&operation)?;
            claimed.insert(id, Generation(row.try_get("", "generation").map_err(&operation)?));
        }
        // With the generation that was claimed: since the page was read somebody may have stored a token.
        let with_generation = |due: &DueConnection| {
            let generation = Some(*claimed.get(&due.connection_id.0)?);
            Some(DueConnection { generation, ..due.clone() })
        };
        Ok(due.iter().filter_map(with_generation).collect())
    }

    async fn give_back(&self, connections: &[ConnectionId], claim_id: i64) -> Result<(), StoreError> {
        let end = Query::update()
            .table(TokenRefresh::Table)
            .value(TokenRefresh::QueuedUntil, Value::ChronoDateTimeUtc(None))
            .and_where(Expr::col(TokenRefresh::ConnectionId).is_in(connections.iter().map(|id| id.0)))
            .and_where(Expr::col(TokenRefresh::ClaimId).eq(claim_id))
            .to_owned();
        self.connection.execute(&end).await.map_err(during("give claims back"))?;
        Ok(())
    }

    async fn paused_providers(&self) -> Result<Vec<String>, StoreError> {
        self.read_paused_providers().await
    }

    async fn ending_grants(
        &self,
        integration_type: &str,
        is_renewed_by_use: bool,
        now: DateTime<Utc>,
        before: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<EndingGrant>, StoreError> {
        self.read_ending_grants(integration_type, is_renewed_by_use, now, before, limit).await
    }

    async fn id_page(&self, after: Option<ConnectionId>, limit: u32) -> Result<Option<IdPage>, StoreError> {
        self.read_id_page(after, limit).await
    }

    async fn unwatched(
        &self,
        integration_type: &str,
        page: IdPage,
        window_ends: DateTime<Utc>,
    ) -> Result<Vec<Unwatched>, StoreError> {
        self.read_unwatched(integration_type, page, window_ends).await
    }

    async fn note_watched(&self, notes: &[WatchNote]) -> Result<(), StoreError> {
        self.write_watch_notes(notes).await
    }

    async fn prune_attempts(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        let operation = during("prune refresh_attempt");
        let oldest = Query::select()
            .column(RefreshAttempt::Id)
            .from(RefreshAttempt::Table)
            .and_where(Expr::col(RefreshAttempt::At).lt(self.instant(before)))
            .limit(PRUNED_AT_ONCE)
            .to_owned();
        let rows = self.connection.query_all(&oldest).await.map_err(&operation)?;
        let mut ids = Vec::with_capacity(rows.len());
        for row in &rows {
            ids.push(row.try_get::<i64>("", "id").map_err(&operation)?);
        }
        if ids.is_empty() {
            return Ok(0);
        }
        let delete = Query::delete()
            .from_table(RefreshAttempt::Table)
            .and_where(Expr::col(RefreshAttempt::Id).is_in(ids))
            .to_owned();
        let result = self.connection.execute(&delete).await.map_err(&operation)?;
        Ok(result.rows_affected())
    }
}

impl Database {
    /// Gives those connections, which have none, their companion rows.
    pub(super) async fn enrol(&self, new: Vec<ConnectionId>) -> Result<(), StoreError> {
        if new.is_empty() {
            return Ok(());
        }
        let mut insert = Query::insert();
        insert.into_table(TokenRefresh::Table).columns([
            TokenRefresh::ConnectionId,
            TokenRefresh::Generation,
            TokenRefresh::State,
        ]);
        for id in new {
            insert.values_panic([
                id.0.into(),
                Generation::FIRST.0.into(),
                ConnectionState::Active.as_str().into(),
            ]);
        }
        // Two producers may meet the same new connection.
        insert.on_conflict(
            OnConflict::column(TokenRefresh::ConnectionId)
                .do_nothing_on([TokenRefresh::ConnectionId])
                .to_owned(),
        );
        self.connection.execute(&insert).await.map_err(during("enrol new connections"))?;
        Ok(())
    }
}
