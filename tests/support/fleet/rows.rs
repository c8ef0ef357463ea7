//! Rows of the platform's tables, written as the platform would and read as anybody would.

use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};
use serde_json::json;

use super::{TestFleet, now};

/// What a merchant of Fynd enters. Values that need encoding where they stand.
pub fn fynd_input(id: i64) -> serde_json::Value {
    json!({"x-integration-id": format!("location&{id}"), "x-integration-token": format!("p+ss w%rd={id}")})
}

/// What a merchant of Very enters.
pub fn very_input(id: i64) -> serde_json::Value {
    json!({
        "useSandbox": false, "companyRefId": "850135", "apiKey": format!("AD0D7AEB25F3F676450F5C79ED6-{id}"),
        "clientId": format!("client {id}"), "clientSecret": format!("s&cret+{id}")
    })
}

/// A connection to be written, with one channel.
#[derive(Debug, Clone)]
pub struct NewConnection {
    /// `id`, and part of everything else.
    pub id: i64,
    /// `channels.integrationType`.
    pub integration_type: &'static str,
    /// `isActive`.
    pub is_active: &'static str,
    /// Seconds until `accessTokenExpiryAt`; `None` for NULL in all token columns.
    pub expires_in: Option<i64>,
    /// `inputFields`, as text, so that it may be malformed where the column allows it.
    pub input_fields: Option<String>,
}

impl NewConnection {
    /// An active connection of Fynd.
    pub fn fynd(id: i64, expires_in: i64) -> Self {
        Self {
            id,
            integration_type: super::FYND,
            is_active: "active",
            expires_in: Some(expires_in),
            input_fields: Some(fynd_input(id).to_string()),
        }
    }

    /// An active connection of Very.
    pub fn very(id: i64, expires_in: i64) -> Self {
        Self {
            integration_type: super::VERY,
            input_fields: Some(very_input(id).to_string()),
            ..Self::fynd(id, expires_in)
        }
    }
}

/// The token columns of a connection and its companion row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredConnection {
    /// `accessToken`.
    pub access_token: Option<String>,
    /// `accessTokenExpiryAt`.
    pub expires_at: Option<DateTime<Utc>>,
    /// `accessTokenGeneratedOn`.
    pub generated_on: Option<DateTime<Utc>>,
    /// The companion row; `None` if the connection is not enrolled.
    pub ours: Option<Fields>,
}

/// The companion row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fields {
    /// `generation`.
    pub generation: i64,
    /// `state`.
    pub state: String,
    /// `next_attempt_at`.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// `queued_until`.
    pub queued_until: Option<DateTime<Utc>>,
    /// `failures`.
    pub failures: i32,
    /// `failure_class`.
    pub failure_class: Option<String>,
    /// `failure_detail`.
    pub failure_detail: Option<String>,
}

impl StoredConnection {
    /// The generation; 0 where the connection is not enrolled.
    pub fn generation(&self) -> i64 {
        self.ours.as_ref().map_or(0, |ours| ours.generation)
    }
}

impl TestFleet {
    /// Runs a statement of the test's own.
    pub async fn execute(&self, statement: &str, values: impl IntoIterator<Item = Value>) -> Result<u64> {
        let statement = Statement::from_sql_and_values(DbBackend::MySql, statement, values);
        let sql = statement.sql.clone();
        let result = self.store.connection().execute_raw(statement).await;
        Ok(result.with_context(|| format!("the test's statement failed: {sql}"))?.rows_affected())
    }

    /// Writes connections, each with one channel whose id is ten times the connection's.
    pub async fn add(&self, connections: impl IntoIterator<Item = NewConnection>) -> Result<()> {
        for one in connections {
            let expires_at = one.expires_in.map(|seconds| now() + TimeDelta::seconds(seconds));
            let token = one.expires_in.map(|_| format!("old-{}", one.id));
            self.execute(
                "INSERT INTO ie_appinstall_connection \
                 (id, isActive, accessToken, accessTokenExpiryAt, inputFields) VALUES (?, ?, ?, ?, ?)",
                [
                    one.id.into(),
                    one.is_active.into(),
                    token.into(),
                    expires_at.into(),
                    one.input_fields.into(),
                ],
            )
            .await?;
            self.execute(
                "INSERT INTO channels (id, connectionId, account_id, channel_id, integrationType, additionalDetails) \
                 VALUES (?, ?, ?, ?, ?, ?)",
                [
                    (one.id * 10).into(),
                    one.id.into(),
                    (one.id + 7_000).into(),
                    format!("channel-{}", one.id).into(),
                    one.integration_type.into(),
                    r#"{"kept":"as it was"}"#.into(),
                ],
            )
            .await?;
        }
        Ok(())
    }

    /// Reads a connection and its companion row.
    pub async fn stored(&self, id: i64) -> Result<StoredConnection> {
        let statement = Statement::from_sql_and_values(
            DbBackend::MySql,
            "SELECT CAST(k.accessToken AS CHAR) AS accessToken, k.accessTokenExpiryAt, k.accessTokenGeneratedOn, r.generation, r.state, \
             r.next_attempt_at, r.queued_until, r.failures, r.failure_class, r.failure_detail \
             FROM ie_appinstall_connection k LEFT JOIN token_refresh r ON r.connection_id = k.id WHERE k.id = ?",
            [id.into()],
        );
        let row = self.store.connection().query_one_raw(statement).await?;
        let row = row.with_context(|| format!("connection {id} is gone"))?;
        let generation: Option<i64> = row.try_get("", "generation")?;
        let ours = match generation {
            None => None,
            Some(generation) => Some(Fields {
                generation,
                state: row.try_get("", "state")?,
                next_attempt_at: row.try_get("", "next_attempt_at")?,
                queued_until: row.try_get("", "queued_until")?,
                failures: row.try_get("", "failures")?,
                failure_class: row.try_get("", "failure_class")?,
                failure_detail: row.try_get("", "failure_detail")?,
            }),
        };
        Ok(StoredConnection {
            access_token: row.try_get("", "accessToken")?,
            expires_at: row.try_get("", "accessTokenExpiryAt")?,
            generated_on: row.try_get("", "accessTokenGeneratedOn")?,
            ours,
        })
    }

    /// One number of the database.
    pub async fn number(&self, query: &str) -> Result<i64> {
        let statement = Statement::from_string(DbBackend::MySql, query);
        let row = self.store.connection().query_one_raw(statement).await?;
        row.context("the query has no row")?
            .try_get_by_index(0)
            .with_context(|| format!("no number: {query}"))
    }
}
