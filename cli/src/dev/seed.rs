//! Rows of the platform's tables for a simulated fleet.

use chrono::{DateTime, Utc};
use freshet_shared::adapters::database::Database;
use freshet_shared::adapters::database::table::{Channels, Connection};
use sea_orm::sea_query::{Query, SimpleExpr};
use sea_orm::{ConnectionTrait, TransactionTrait};
use serde_json::{Value, json};

/// Rows per statement: SQLite takes at most 32,766 parameters.
const ROWS_AT_ONCE: usize = 500;

/// A connection with its one channel.
pub(super) struct Seeded {
    id: i64,
    integration_type: &'static str,
    expires_at: Option<DateTime<Utc>>,
    input_fields: Value,
}

impl Seeded {
    pub(super) fn fynd(id: i64, integration_type: &'static str, expires_at: Option<DateTime<Utc>>) -> Self {
        let input_fields = json!({"x-integration-id": format!("location-{id}"), "x-integration-token": format!("p&ss+w%rd {id}")});
        Self { id, integration_type, expires_at, input_fields }
    }

    pub(super) fn very(id: i64, integration_type: &'static str, expires_at: Option<DateTime<Utc>>) -> Self {
        let input_fields = json!({
            "useSandbox": false, "companyRefId": id.to_string(), "apiKey": format!("key-{id}"),
            "clientId": format!("client-{id}"), "clientSecret": format!("s&cret+{id}")
        });
        Self { id, integration_type, expires_at, input_fields }
    }
}

/// Writes them in one transaction.
pub(super) async fn insert(
    database: &Database,
    connections: impl Iterator<Item = Seeded>,
    now: DateTime<Utc>,
) -> anyhow::Result<()> {
    let transaction = database.connection().begin().await?;
    let connections: Vec<Seeded> = connections.collect();
    for batch in connections.chunks(ROWS_AT_ONCE) {
        let mut rows = Query::insert();
        rows.into_table(Connection::Table).columns([
            Connection::Id,
            Connection::IsActive,
            Connection::AccessToken,
            Connection::AccessTokenGeneratedOn,
            Connection::AccessTokenExpiryAt,
            Connection::InputFields,
        ]);
        let mut channels = Query::insert();
        channels.into_table(Channels::Table).columns([
            Channels::ConnectionId,
            Channels::AccountId,
            Channels::ChannelId,
            Channels::IntegrationType,
            Channels::AdditionalDetails,
        ]);
        for one in batch {
            let token = one.expires_at.map(|_| format!("seed-{}", one.id));
            rows.values([
                one.id.into(),
                "active".into(),
                SimpleExpr::value(token),
                SimpleExpr::value(one.expires_at.map(|_| now.naive_utc())),
                SimpleExpr::value(one.expires_at.map(|expires_at| expires_at.naive_utc())),
                one.input_fields.to_string().into(),
            ])?;
            channels.values([
                one.id.into(),
                one.id.into(),
                format!("channel-{}", one.id).into(),
                one.integration_type.into(),
                "{}".into(),
            ])?;
        }
        transaction.execute(&rows).await?;
        transaction.execute(&channels).await?;
    }
    transaction.commit().await?;
    Ok(())
}
