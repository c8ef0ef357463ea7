//! Reading what a refresh needs.

use async_trait::async_trait;
use chrono::TimeDelta;
use sea_orm::sea_query::{Alias, Expr, ExprTrait, Order, Query};
use sea_orm::{ConnectionTrait, DbErr, QueryResult};

use super::Database;
use super::error::during;
use super::scan::has_channel;
use super::sealed::unreadable_secret;
use super::table::{Channels, Connection, ProviderControl, TokenRefresh};
use super::value::{from_json, id, number_or_text};
use crate::domain::channel::Channel;
use crate::domain::connection::{ConnectionId, ConnectionState, Generation, LoadedConnection};
use crate::domain::failure::FailureClass;
use crate::domain::sealing::SecretColumn;
use crate::domain::secret::Secret;
use crate::ports::store::{Attempt, Commit, Committed, FailureRecord, RefreshStore, Release, StoreError};

const LOAD: &str = "load a connection";
const CHANNELS: &str = "read a connection's channels";

#[async_trait]
impl RefreshStore for Database {
    async fn load(
        &self,
        connection_id: ConnectionId,
        provider: &str,
        integration_type: Option<&str>,
    ) -> Result<Option<LoadedConnection>, StoreError> {
        let connection = |column| Expr::col((Connection::Table, column));
        let ours = |column| Expr::col((TokenRefresh::Table, column));
        let paused = Query::select()
            .expr(Expr::value(1))
            .from(ProviderControl::Table)
            .and_where(Expr::col((ProviderControl::Table, ProviderControl::Provider)).eq(provider))
            .and_where(Expr::col((ProviderControl::Table, ProviderControl::Paused)).eq(true))
            .to_owned();
        let mut statement = Query::select();
        statement
            // Compared by the database, as the scan's is, so that both mean the same under its collations.
            .expr_as(connection(Connection::IsActive).eq("active"), "is_active")
            .expr_as(text(connection(Connection::AccessToken)), "access_token")
            .expr_as(text(connection(Connection::RefreshToken)), "refresh_token")
            .expr_as(self.readable_expiry(), "expires_at")
            // JSON is a type of its own on MySQL and a text on MariaDB; as text it reads alike.
            .expr_as(text(connection(Connection::InputFields)), "input_fields")
            .expr_as(ours(TokenRefresh::Generation), "generation")
            .expr_as(ours(TokenRefresh::State), "state")
            .expr_as(ours(TokenRefresh::RefreshAt), "refresh_at")
            .expr_as(ours(TokenRefresh::NextAttemptAt), "next_attempt_at")
            .expr_as(ours(TokenRefresh::LeaseUntil), "lease_until")
            .expr_as(ours(TokenRefresh::AttemptId), "attempt_id")
            .expr_as(ours(TokenRefresh::AttemptSentAt), "attempt_sent_at")
            .expr_as(ours(TokenRefresh::AttemptGrant), "attempt_grant")
            .expr_as(ours(TokenRefresh::Failures), "failures")
            .expr_as(ours(TokenRefresh::GrantFailures), "grant_failures")
            .expr_as(ours(TokenRefresh::FailureClass), "failure_class")
            .expr_as(ours(TokenRefresh::LifetimeS), "lifetime_s")
            .expr_as(ours(TokenRefresh::WaitingFingerprint), "waiting_fingerprint")
            .expr_as(Expr::exists(paused), "is_paused")
            .from(Connection::Table)
            .inner_join(
                TokenRefresh::Table,
                ours(TokenRefresh::ConnectionId).equals((Connection::Table, Connection::Id)),
            )
            .and_where(connection(Connection::Id).eq(connection_id.0));
        if let Some(integration_type) = integration_type {
            statement.and_where(has_channel(integration_type));
        }
        let row = self.connection.query_one(&statement).await.map_err(during(LOAD))?;
        row.map(|row| loaded(self, connection_id, &row)).transpose()
    }

    async fn channels(&self, connection_id: ConnectionId) -> Result<Vec<Channel>, StoreError> {
        let statement = Query::select()
            .columns([Channels::Id, Channels::AccountId, Channels::ChannelId])
            .expr_as(text(Expr::col(Channels::AdditionalDetails)), "details")
            .from(Channels::Table)
            .and_where(Expr::col(Channels::ConnectionId).eq(connection_id.0))
            .order_by(Channels::Id, Order::Asc)
            .to_owned();
        let rows = self.connection.query_all(&statement).await.map_err(during(CHANNELS))?;
        rows.iter().map(channel).collect()
    }

    async fn update_channel(
        &self,
        connection_id: ConnectionId,
        channel: &Channel,
    ) -> Result<bool, StoreError> {
        let statement = Query::update()
            .table(Channels::Table)
            .value(Channels::AccountId, from_json(&channel.account_id))
            .value(Channels::ChannelId, from_json(&channel.channel_id))
            .value(Channels::AdditionalDetails, additional_details(&channel.additional_details))
            .and_where(Expr::col(Channels::Id).eq(channel.id))
            .and_where(Expr::col(Channels::ConnectionId).eq(connection_id.0))
            .to_owned();
        let result = self.connection.execute(&statement).await.map_err(during("update a channel"))?;
        Ok(result.rows_affected() > 0)
    }

    async fn begin_attempt(&self, attempt: &Attempt) -> Result<bool, StoreError> {
        self.open_attempt(attempt).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, StoreError> {
        self.store_credential(commit).await
    }

    async fn record_failure(&self, failure: &FailureRecord) -> Result<bool, StoreError> {
        self.store_failure(failure).await
    }

    async fn release(&self, release: &Release) -> Result<(), StoreError> {
        self.end_claim(release).await
    }
}

/// As the column holds it; NULL stays NULL and does not become the JSON word.
fn additional_details(details: &serde_json::Value) -> sea_orm::Value {
    if details.is_null() { sea_orm::Value::String(None) } else { details.to_string().into() }
}

/// A column as text, whatever its type is.
pub(super) fn text(column: Expr) -> Expr {
    column.cast_as(Alias::new("CHAR"))
}

fn loaded(database: &Database, id: ConnectionId, row: &QueryResult) -> Result<LoadedConnection, StoreError> {
    let state = ConnectionState::parse(&column::<String>(row, "state")?)
        .ok_or_else(|| unreadable("state holds a word that this build does not know"))?;
    let failures = u32::try_from(column::<i32>(row, "failures")?).unwrap_or(0);
    let secret = |name, place| {
        let text = column::<Option<String>>(row, name)?.map(Secret::new);
        database.opened(place, id, text).map_err(unreadable_secret(LOAD, failures, state))
    };
    Ok(LoadedConnection {
        id,
        is_active: column::<Option<bool>>(row, "is_active")?.unwrap_or(false),
        access_token: secret("access_token", SecretColumn::AccessToken)?,
        refresh_token: secret("refresh_token", SecretColumn::RefreshToken)?,
        expires_at: column(row, "expires_at")?,
        input_fields: secret("input_fields", SecretColumn::InputFields)?,
        generation: Generation(column(row, "generation")?),
        state,
        refresh_at: column(row, "refresh_at")?,
        next_attempt_at: column(row, "next_attempt_at")?,
        leased_until: column(row, "lease_until")?,
        attempt_id: column(row, "attempt_id")?,
        attempt_sent_at: column(row, "attempt_sent_at")?,
        attempt_grant: column(row, "attempt_grant")?,
        failures,
        grant_failures: u32::try_from(column::<i32>(row, "grant_failures")?).unwrap_or(0),
        // A word of a newer version is no failure that this one would judge by.
        failure_class: column::<Option<String>>(row, "failure_class")?
            .and_then(|word| FailureClass::parse(&word)),
        lifetime: column::<Option<i64>>(row, "lifetime_s")?.and_then(TimeDelta::try_seconds),
        waiting_fingerprint: column(row, "waiting_fingerprint")?,
        is_paused: column(row, "is_paused")?,
    })
}

fn column<T: sea_orm::TryGetable>(row: &QueryResult, name: &str) -> Result<T, StoreError> {
    row.try_get("", name)
        .map_err(|_: DbErr| unreadable(&format!("column {name} holds a value of another type")))
}

fn unreadable(problem: &str) -> StoreError {
    StoreError::Unreadable { operation: LOAD, problem: format!("{problem}: correct the row") }
}

fn channel(row: &QueryResult) -> Result<Channel, StoreError> {
    let read = || {
        Ok(Channel {
            id: id(row, "id")?,
            account_id: number_or_text(row, "account_id")?,
            channel_id: number_or_text(row, "channel_id")?,
            additional_details: serde_json::Value::Null,
        })
    };
    let mut channel: Channel = read().map_err(during(CHANNELS))?;
    if let Some(details) = row.try_get::<Option<String>>("", "details").map_err(during(CHANNELS))? {
        channel.additional_details =
            serde_json::from_str(&details).map_err(|error| StoreError::Unreadable {
                operation: CHANNELS,
                problem: format!(
                    "additionalDetails of channel {} is not JSON (line {}, column {}): correct the row",
                    channel.id,
                    error.line(),
                    error.column()
                ),
            })?;
    }
    Ok(channel)
}
