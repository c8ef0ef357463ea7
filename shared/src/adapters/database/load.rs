//! Reading what a refresh needs.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::sea_query::{Alias, Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{ConnectionTrait, DbErr, QueryResult};
use tokio::time::Instant;

use super::Database;
use super::asked;
use super::error::{during, given_up};
use super::scan::has_channel;
use super::sealed::unreadable_secret;
use super::span::Asked;
use super::table::{Channels, Connection, ProviderControl, TokenRefresh};
use super::together::{FLIGHTS, MOST};
use super::value::{from_json, id, number_or_text};
use crate::adapters::grouping::Grouping;
use crate::domain::channel::Channel;
use crate::domain::connection::{ConnectionId, ConnectionState, Generation, LoadedConnection};
use crate::domain::failure::FailureClass;
use crate::domain::fingerprint::of_stored_token;
use crate::domain::kept_answer::KeptAnswer;
use crate::domain::sealing::SecretColumn;
use crate::domain::secret::Secret;
use crate::ports::store::{Attempt, Commit, Committed, FailureRecord, RefreshStore, Release, StoreError};

const LOAD: &str = "load a connection";
const CHANNELS: &str = "read a connection's channels";

/// Gathers what jobs want to read.
pub(super) struct Reads {
    connections: Grouping<LoadQuestion, Result<Option<LoadedConnection>, StoreError>>,
    channels: Grouping<ConnectionId, Result<Vec<Channel>, StoreError>>,
}

impl Default for Reads {
    fn default() -> Self {
        Self { connections: Grouping::new(FLIGHTS, MOST), channels: Grouping::new(FLIGHTS, MOST) }
    }
}

struct LoadQuestion {
    connection_id: ConnectionId,
    provider: String,
    integration_type: Option<String>,
}

const CONNECTION: &str = "ie_appinstall_connection";
const COMPANION: &str = "token_refresh";

#[async_trait]
impl RefreshStore for Database {
    async fn load(
        &self,
        connection_id: ConnectionId,
        provider: &str,
        integration_type: Option<&str>,
    ) -> Result<Option<LoadedConnection>, StoreError> {
        let question = LoadQuestion {
            connection_id,
            provider: provider.to_owned(),
            integration_type: integration_type.map(str::to_owned),
        };
        let this = self.clone();
        let fly = move |questions| {
            let this = this.clone();
            async move { this.round_trip(this.clone().load_all(questions)).await }
        };
        let answering = async {
            let answer = self.reads.connections.ask(question, fly).await;
            answer.unwrap_or_else(|| Err(given_up(LOAD)))
        };
        self.traced(Asked { step: "load", operation: "SELECT", table: CONNECTION }, answering).await
    }

    async fn channels(&self, connection_id: ConnectionId) -> Result<Vec<Channel>, StoreError> {
        let this = self.clone();
        let fly = move |ids| {
            let this = this.clone();
            async move { this.round_trip(this.clone().channels_of_all(ids)).await }
        };
        let answering = async {
            let answer = self.reads.channels.ask(connection_id, fly).await;
            answer.unwrap_or_else(|| Err(given_up(CHANNELS)))
        };
        self.traced(Asked { step: "channels", operation: "SELECT", table: "channels" }, answering).await
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
        let answering = async {
            let result = self.connection.execute(&statement).await.map_err(during("update a channel"))?;
            Ok(result.rows_affected() > 0)
        };
        self.traced(Asked { step: "channels", operation: "UPDATE", table: "channels" }, answering).await
    }

    async fn begin_attempt(&self, attempt: &Attempt) -> Result<bool, StoreError> {
        let asked = Asked { step: "journal", operation: "UPDATE", table: COMPANION };
        self.traced(asked, self.open_attempt(attempt.clone())).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, StoreError> {
        let asked = Asked { step: "commit", operation: "UPDATE", table: CONNECTION };
        self.traced(asked, self.store_credential(commit.clone())).await
    }

    async fn record_failure(&self, failure: &FailureRecord) -> Result<bool, StoreError> {
        let asked = Asked { step: "fail", operation: "UPDATE", table: COMPANION };
        self.traced(asked, self.store_failure(failure.clone())).await
    }

    fn keeps_answers(&self) -> bool {
        self.sealing.as_ref().is_some_and(|sealing| sealing.keys().primary().is_some())
    }

    async fn kept_answer(&self, connection_id: ConnectionId) -> Result<Option<KeptAnswer>, StoreError> {
        self.load_kept_answer(connection_id).await
    }

    async fn good_page(
        &self,
        integration_type: &str,
        now: DateTime<Utc>,
        after: Option<ConnectionId>,
        limit: u32,
    ) -> Result<Vec<ConnectionId>, StoreError> {
        self.read_good_page(integration_type, now, after, limit).await
    }

    async fn release(&self, release: &Release) -> Result<(), StoreError> {
        let asked = Asked { step: "release", operation: "UPDATE", table: COMPANION };
        self.traced(asked, self.end_claim(release.clone())).await
    }
}

impl Database {
    /// One statement per provider: its name and type are compared as bound values, under the columns' collations.
    async fn load_all(
        self,
        questions: Vec<LoadQuestion>,
    ) -> Vec<Result<Option<LoadedConnection>, StoreError>> {
        let mut answers: Vec<_> = questions.iter().map(|_| Ok(None)).collect();
        let mut providers: BTreeMap<_, Vec<usize>> = BTreeMap::new();
        for (place, question) in questions.iter().enumerate() {
            let provider = (question.provider.as_str(), question.integration_type.as_deref());
            providers.entry(provider).or_default().push(place);
        }
        for ((provider, integration_type), places) in providers {
            let ids = places.iter().filter_map(|place| Some(questions.get(*place)?.connection_id));
            let ids: Vec<ConnectionId> = ids.collect();
            let found = self.load_of_provider(provider, integration_type, &ids).await;
            for (place, answer) in places.into_iter().zip(found) {
                if let Some(slot) = answers.get_mut(place) {
                    *slot = answer;
                }
            }
        }
        answers
    }

    async fn load_of_provider(
        &self,
        provider: &str,
        integration_type: Option<&str>,
        ids: &[ConnectionId],
    ) -> Vec<Result<Option<LoadedConnection>, StoreError>> {
        let statement = self.load_statement(provider, integration_type, ids);
        let asked_at = Instant::now();
        match self.connection.query_all(&statement).await.map_err(during(LOAD)) {
            Ok(rows) => {
                let said = rows.first().and_then(|row| row.try_get::<DateTime<Utc>>("", "database_now").ok());
                if let Some(said) = said {
                    self.server_clock.note(said, asked_at);
                }
                let mut answers: Vec<_> = ids.iter().map(|_| Ok(None)).collect();
                for row in &rows {
                    if let Some((place, id)) = place_of(row, ids)
                        && let Some(answer) = answers.get_mut(place)
                    {
                        *answer = loaded(self, id, row).map(Some);
                    }
                }
                answers
            }
            Err(error) => ids.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn load_statement(
        &self,
        provider: &str,
        integration_type: Option<&str>,
        ids: &[ConnectionId],
    ) -> SelectStatement {
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
            .expr_as(asked::place(self.backend), PLACE)
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
            .expr_as(ours(TokenRefresh::NotedExpiry), "noted_expiry")
            .expr_as(ours(TokenRefresh::RefreshTokenExpiresAt), "refresh_token_expires_at")
            .expr_as(ours(TokenRefresh::RefreshTokenFingerprint), "refresh_token_fingerprint")
            .expr_as(ours(TokenRefresh::NextAttemptAt), "next_attempt_at")
            .expr_as(ours(TokenRefresh::ClaimId), "claim_id")
            .expr_as(self.clock_shifted(TimeDelta::zero()), "database_now")
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
            .from_function(asked::table(self.backend, ids.iter().map(|id| id.0)), asked::ASKED)
            .inner_join(Connection::Table, connection(Connection::Id).eq(asked::id(self.backend)))
            // One that was never due has no companion row yet.
            .left_join(
                TokenRefresh::Table,
                ours(TokenRefresh::ConnectionId).eq(asked::id(self.backend)),
            );
        if let Some(integration_type) = integration_type {
            statement.and_where(has_channel(integration_type));
        }
        statement
    }

    async fn channels_of_all(self, ids: Vec<ConnectionId>) -> Vec<Result<Vec<Channel>, StoreError>> {
        let channels = |column| Expr::col((Channels::Table, column));
        let statement = Query::select()
            .expr_as(asked::place(self.backend), PLACE)
            .expr_as(channels(Channels::Id), "id")
            .expr_as(channels(Channels::AccountId), "account_id")
            .expr_as(channels(Channels::ChannelId), "channel_id")
            .expr_as(text(channels(Channels::AdditionalDetails)), "details")
            .from_function(asked::table(self.backend, ids.iter().map(|id| id.0)), asked::ASKED)
            .inner_join(Channels::Table, channels(Channels::ConnectionId).eq(asked::id(self.backend)))
            .to_owned();
        let rows = match self.connection.query_all(&statement).await.map_err(during(CHANNELS)) {
            Ok(rows) => rows,
            Err(error) => return ids.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut answers: Vec<Result<Vec<Channel>, StoreError>> = ids.iter().map(|_| Ok(Vec::new())).collect();
        for row in &rows {
            let Some((place, _)) = place_of(row, &ids) else { continue };
            let Some(answer) = answers.get_mut(place) else { continue };
            // The first that cannot be read is this connection's answer, and nobody else's.
            if let Ok(read) = answer {
                match channel(row) {
                    Ok(channel) => read.push(channel),
                    Err(error) => *answer = Err(error),
                }
            }
        }
        // Sorted here: the server would do it in a table on disk.
        for channels in answers.iter_mut().flatten() {
            channels.sort_by_key(|channel| channel.id);
        }
        answers
    }
}

const PLACE: &str = "place";

/// Whose row it is.
fn place_of(row: &QueryResult, ids: &[ConnectionId]) -> Option<(usize, ConnectionId)> {
    let place = usize::try_from(row.try_get::<i64>("", PLACE).ok()?).ok()?;
    Some((place, *ids.get(place)?))
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
    let state = match column::<Option<String>>(row, "state")? {
        Some(word) => ConnectionState::parse(&word)
            .ok_or_else(|| unreadable("state holds a word that this build does not know"))?,
        None => ConnectionState::Active,
    };
    let generation: Option<i64> = column(row, "generation")?;
    let count =
        |name| column::<Option<i32>>(row, name).map(|count| u32::try_from(count.unwrap_or(0)).unwrap_or(0));
    let failures = count("failures")?;
    let stored = |name| column::<Option<String>>(row, name).map(|text: Option<String>| text.map(Secret::new));
    let opened =
        |text, place| database.opened(place, id, text).map_err(unreadable_secret(LOAD, failures, state));
    let secret = |name, place| opened(stored(name)?, place);
    let (access_token, refresh_token) = (stored("access_token")?, stored("refresh_token")?);
    Ok(LoadedConnection {
        id,
        is_active: column::<Option<bool>>(row, "is_active")?.unwrap_or(false),
        stored_token: access_token.as_ref().map(of_stored_token),
        access_token: opened(access_token, SecretColumn::AccessToken)?,
        stored_grant: refresh_token.as_ref().map(of_stored_token),
        refresh_token: opened(refresh_token, SecretColumn::RefreshToken)?,
        expires_at: column(row, "expires_at")?,
        input_fields: secret("input_fields", SecretColumn::InputFields)?,
        is_enrolled: generation.is_some(),
        generation: generation.map_or(Generation::FIRST, Generation),
        state,
        refresh_at: column(row, "refresh_at")?,
        noted_expiry: column(row, "noted_expiry")?,
        next_attempt_at: column(row, "next_attempt_at")?,
        claim: column(row, "claim_id")?,
        database_now: column(row, "database_now")?,
        leased_until: column(row, "lease_until")?,
        attempt_id: column(row, "attempt_id")?,
        attempt_sent_at: column(row, "attempt_sent_at")?,
        attempt_grant: column(row, "attempt_grant")?,
        failures,
        grant_failures: count("grant_failures")?,
        // A word of a newer version is no failure that this one would judge by.
        failure_class: column::<Option<String>>(row, "failure_class")?
            .and_then(|word| FailureClass::parse(&word)),
        lifetime: column::<Option<i64>>(row, "lifetime_s")?.and_then(TimeDelta::try_seconds),
        refresh_token_expires_at: column(row, "refresh_token_expires_at")?,
        refresh_token_fingerprint: column(row, "refresh_token_fingerprint")?,
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
