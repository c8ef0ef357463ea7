//! An operator's SQLite file with a configuration for it, and marketplaces on loopback.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use freshet_cli::simulator::{Settings, Simulator};
use freshet_shared::adapters::database::{Database, DatabaseSettings};
use freshet_shared::domain::secret::Secret;
use freshet_tests::binaries::{Binary, TestFolder};
use freshet_tests::fleet::{FYND, VERY, fynd_input, now, very_input};
use sea_orm::{ConnectionTrait, DbBackend, Statement, Value};

/// The installation.
pub(super) struct Installation {
    _folder: TestFolder,
    pub(super) configuration: PathBuf,
    pub(super) database: Database,
    pub(super) marketplaces: Simulator,
}

/// A token as the file holds it.
pub(super) struct Stored {
    pub(super) token: String,
    pub(super) expires_at: DateTime<Utc>,
}

impl Installation {
    /// A file with the platform's tables, made as an operator would make it.
    pub(super) async fn new() -> Result<Self> {
        let folder = TestFolder::create()?;
        let url = format!("sqlite://{}?mode=rwc", folder.path().join("platform.db").display());
        let migrate = Binary::new("freshet")?.arguments(["migrate", "--platform-tables"]);
        let migrated = migrate.variable("FRESHET_DATABASE__URL", &url).run().await?.with_code(0)?;
        assert!(migrated.stdout.contains("applied "), "{migrated:?}");
        let mut settings = Settings::well_behaved(Arc::new(now));
        settings.record = true;
        let marketplaces = Simulator::start(settings).await?;
        let configuration = folder.write("freshet.toml", &configuration(&folder, &marketplaces))?;
        let settings = DatabaseSettings {
            url: Secret::new(url),
            max_connections: 1,
            acquire_timeout: Duration::from_secs(10),
        };
        let database = Database::connect(settings).await?;
        Ok(Self { _folder: folder, configuration, database, marketplaces })
    }

    /// `freshet dev` on it.
    pub(super) fn dev(&self) -> Result<Binary> {
        Ok(Binary::new("freshet")?.arguments([
            "dev".as_ref(),
            "--config".as_ref(),
            self.configuration.as_os_str(),
        ]))
    }

    pub(super) async fn add_fynd(&self, id: i64, expires_in: TimeDelta) -> Result<()> {
        self.add(id, FYND, expires_in, fynd_input(id).to_string()).await
    }

    pub(super) async fn add_very(&self, id: i64, expires_in: TimeDelta) -> Result<()> {
        self.add(id, VERY, expires_in, very_input(id).to_string()).await
    }

    pub(super) async fn add(
        &self,
        id: i64,
        integration_type: &str,
        expires_in: TimeDelta,
        input: String,
    ) -> Result<()> {
        // The channel first: without its connection it is nothing that a scan would find.
        self.execute(
            "INSERT INTO channels (connectionId, account_id, channel_id, integrationType) VALUES (?, 7, 'c', ?)",
            [id.into(), integration_type.into()],
        )
        .await?;
        let expires_at = (now() + expires_in).naive_utc();
        self.execute(
            "INSERT INTO ie_appinstall_connection (id, isActive, accessToken, accessTokenExpiryAt, inputFields) \
             VALUES (?, 'active', ?, ?, ?)",
            [id.into(), format!("old-{id}").into(), expires_at.into(), input.into()],
        )
        .await
    }

    pub(super) async fn stored(&self, id: i64) -> Result<Stored> {
        let statement = Statement::from_sql_and_values(
            DbBackend::Sqlite,
            "SELECT accessToken, accessTokenExpiryAt FROM ie_appinstall_connection WHERE id = ?",
            [id.into()],
        );
        let row = self.database.connection().query_one_raw(statement).await?.context("no such connection")?;
        Ok(Stored {
            token: row.try_get("", "accessToken")?,
            expires_at: row.try_get("", "accessTokenExpiryAt")?,
        })
    }

    async fn execute(&self, statement: &str, values: impl IntoIterator<Item = Value>) -> Result<()> {
        let statement = Statement::from_sql_and_values(DbBackend::Sqlite, statement, values);
        self.database.connection().execute_raw(statement).await?;
        Ok(())
    }
}

fn configuration(folder: &TestFolder, marketplaces: &Simulator) -> String {
    format!(
        r#"
[database]
url = "sqlite://{}"

[scan]
early = "* * * * * *"
urgent = "* * * * * *"

[egress]
allow = ["127.0.0.1"]

[providers.fynd.environments.production]
oms_host = "{}"

[providers.very]
integration_type = "{VERY}"

[providers.very.environments.production]
token_url = "{}"
"#,
        folder.path().join("platform.db").display(),
        marketplaces.fynd_base_url(),
        marketplaces.kornitx_token_url()
    )
}
