//! A fleet whose connections are of a provider that a test defines itself.

use anyhow::{Context, Result, ensure};
use freshet_shared::domain::lane::Lane;
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde_json::Value;

use crate::binaries::TestFolder;
use crate::fleet::{NewConnection, TestFleet};

/// The integration type that its definition has to name.
const INTEGRATION_TYPE: &str = "99";

/// A fleet and the folder with its definition.
pub struct DefinedFleet {
    /// The fleet.
    pub fleet: TestFleet,
    _definitions: TestFolder,
}

impl DefinedFleet {
    /// The integration type that the definition has to name.
    pub const INTEGRATION_TYPE: &str = INTEGRATION_TYPE;

    /// Founds a fleet that knows the definition in this text.
    pub async fn found(definition: &str) -> Result<Self> {
        let definitions = TestFolder::create()?;
        definitions.write("defined.toml", definition)?;
        let mut fleet = TestFleet::found().await?;
        let folder = definitions.path().display().to_string();
        fleet.environment.insert("FRESHET_PROVIDER_DIRECTORY".into(), folder);
        Ok(Self { fleet, _definitions: definitions })
    }

    /// Writes a connection that is urgent.
    pub async fn add(&self, id: i64, input: &Value, refresh_token: Option<&str>) -> Result<()> {
        let connection = NewConnection {
            integration_type: INTEGRATION_TYPE,
            input_fields: Some(input.to_string()),
            ..NewConnection::fynd(id, 300)
        };
        self.fleet.add([connection]).await?;
        match refresh_token {
            Some(refresh_token) => self.authorise(id, refresh_token).await,
            None => Ok(()),
        }
    }

    /// Writes a refresh token into the row, as the platform does when the merchant has authorised.
    pub async fn authorise(&self, id: i64, refresh_token: &str) -> Result<()> {
        let statement = "UPDATE ie_appinstall_connection SET refreshToken = ? WHERE id = ?";
        self.fleet.execute(statement, [refresh_token.into(), id.into()]).await.map(drop)
    }

    /// The refresh token in the row.
    pub async fn refresh_token(&self, id: i64) -> Result<Option<String>> {
        let query = "SELECT refreshToken FROM ie_appinstall_connection WHERE id = ?";
        let query = Statement::from_sql_and_values(DbBackend::MySql, query, [id.into()]);
        let row = self.fleet.store.connection().query_one_raw(query).await?;
        Ok(row.with_context(|| format!("connection {id} is gone"))?.try_get_by_index(0)?)
    }

    /// Lets every token be about to expire.
    pub async fn come_due(&self) -> Result<()> {
        self.fleet
            .execute(
                "UPDATE ie_appinstall_connection SET accessTokenExpiryAt = UTC_TIMESTAMP(6) + INTERVAL 300 SECOND",
                [],
            )
            .await?;
        self.fleet
            .execute("UPDATE token_refresh SET refresh_at = UTC_TIMESTAMP(6) - INTERVAL 1 MINUTE", [])
            .await
            .map(drop)
    }

    /// One urgent scan that finds so many connections, and a worker's turn on them; answers the outcomes, sorted.
    pub async fn refresh(&self, connections: usize) -> Result<Vec<&'static str>> {
        let report = self.fleet.scan(Lane::Urgent).await?;
        ensure!(report.published == connections as u64, "{} of {connections} were due", report.published);
        self.turn(connections).await
    }

    /// The time of every planned attempt comes; one scan for them, and a worker's turn on what it published.
    pub async fn retry(&self) -> Result<Vec<&'static str>> {
        self.fleet.let_next_attempts_come().await?;
        let published = self.fleet.retry_scan().await?.published;
        self.turn(usize::try_from(published)?).await
    }

    async fn turn(&self, messages: usize) -> Result<Vec<&'static str>> {
        let reports = self.fleet.work_off(messages).await?;
        let mut outcomes: Vec<_> = reports.iter().map(|report| report.outcome.as_str()).collect();
        outcomes.sort_unstable();
        Ok(outcomes)
    }
}
