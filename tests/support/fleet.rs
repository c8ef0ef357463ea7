//! A fleet of a test's own: database, virtual host, key prefix and marketplaces, with producers and workers on them.

mod messages;
mod rows;
mod steps;
mod worker;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use freshet_cli::simulator::{Settings, Simulator};
use freshet_producer::leadership::Leadership;
use freshet_producer::scan::{ScanReport, Target};
use freshet_shared::adapters::database::{Database, DatabaseSettings};
use freshet_shared::adapters::system::SystemClock;
use freshet_shared::configuration::Configuration;
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::secret::Secret;
use freshet_shared::migrations;
use freshet_shared::ports::clock::Clock;

use crate::isolation::{Entry, TestDatabase, TestKeys, TestVhost};

pub use messages::DeadLetter;
pub use rows::{Fields, NewConnection, StoredConnection, fynd_input, very_input};
pub use worker::RunningWorker;

/// The platform's integration type of Fynd, by contract.
pub const FYND: &str = "15";
/// One for Very, which the contract leaves open.
pub const VERY: &str = "21";

/// How long a test waits for what takes milliseconds, on a machine that does everything at once.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The fleet.
pub struct TestFleet {
    /// Its database.
    pub database: TestDatabase,
    /// The store of the product on it, for reading and writing rows.
    pub store: Database,
    /// Its virtual host.
    pub vhost: TestVhost,
    /// Its keys.
    pub keys: TestKeys,
    /// Fynd, KornitX and the platform's endpoint.
    pub marketplaces: Simulator,
    /// Environment variables of its producers and workers; a test may add to them.
    pub environment: HashMap<String, String>,
}

/// The time, for rows of a test.
pub fn now() -> DateTime<Utc> {
    SystemClock.now()
}

impl TestFleet {
    /// Creates an empty fleet: tables as in the contract, migrated; marketplaces that behave.
    pub async fn found() -> Result<Self> {
        Self::found_with(|_| ()).await
    }

    /// Creates an empty fleet on marketplaces of the test's choice. They record what they receive.
    pub async fn found_with(change: impl FnOnce(&mut Settings)) -> Result<Self> {
        let fleet = Self::found_without_tables(change).await?;
        migrations::platform::create_missing(&fleet.store).await?;
        migrations::migrate(&fleet.store).await?;
        Ok(fleet)
    }

    /// The same on an empty database.
    pub async fn found_without_tables(change: impl FnOnce(&mut Settings)) -> Result<Self> {
        freshet_shared::process::install_crypto();
        let database = TestDatabase::create().await?;
        let settings = DatabaseSettings {
            url: Secret::new(database.url()),
            max_connections: 4,
            acquire_timeout: PATIENCE,
        };
        let store = Database::connect(settings).await?;
        let vhost = TestVhost::create().await?;
        let keys = TestKeys::create().await?;
        Self::call_cache_filled(&keys).await?;
        let mut settings = Settings::well_behaved(Arc::new(now));
        settings.record = true;
        change(&mut settings);
        let marketplaces = Simulator::start(settings).await?;
        let environment = [
            ("FRESHET_DATABASE__URL", database.url()),
            ("FRESHET_RABBITMQ__URL", vhost.url().to_owned()),
            ("FRESHET_REDIS__URL", keys.url().to_owned()),
            ("FRESHET_REDIS__KEY_PREFIX", keys.prefix().to_owned()),
            ("FRESHET_REDIS__CONNECTIONS", "2".into()),
            ("FRESHET_DATABASE__MAX_CONNECTIONS", "8".into()),
            ("FRESHET_WORKER__CONCURRENCY", "32".into()),
            ("FRESHET_TELEMETRY__FILTER", "warn".into()),
            ("FRESHET_PROVIDERS__FYND__ENVIRONMENTS__PRODUCTION__OMS_HOST", marketplaces.fynd_base_url()),
            // The marketplaces speak http on loopback.
            ("FRESHET_EGRESS__ALLOW", "127.0.0.1".into()),
            ("FRESHET_PROVIDERS__FYND__REFRESH_CONNECTION_HOST", marketplaces.platform_host()),
            ("FRESHET_PROVIDERS__VERY__INTEGRATION_TYPE", VERY.into()),
            (
                "FRESHET_PROVIDERS__VERY__ENVIRONMENTS__PRODUCTION__TOKEN_URL",
                marketplaces.kornitx_token_url(),
            ),
        ];
        let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Ok(Self { database, store, vhost, keys, marketplaces, environment })
    }

    /// The configuration of its producers and workers.
    pub fn configuration(&self) -> Result<Configuration> {
        Ok(Configuration::load(None, &self.environment)?)
    }

    /// A producer of this fleet.
    pub async fn producer(&self) -> Result<freshet_producer::app::App> {
        freshet_producer::app::App::build(&self.configuration()?, Leadership::without_election()).await
    }

    /// One scan by a new producer.
    pub async fn scan(&self, lane: Lane) -> Result<ScanReport> {
        self.producer().await?.once(Target::Lane(lane)).await
    }

    /// A worker that runs until it is stopped.
    pub async fn worker(&self) -> Result<RunningWorker> {
        RunningWorker::start(&self.configuration()?).await
    }

    /// All keys of this fleet without the product's own fences and marks: what other systems see.
    pub async fn cache(&self) -> Result<BTreeMap<String, Entry>> {
        let mut entries = self.keys.entries().await?;
        entries.retain(|name, _| !name.starts_with("freshet:"));
        Ok(entries)
    }

    /// Calls that the marketplaces answered, as `METHOD target`.
    pub fn calls(&self) -> Vec<String> {
        let ledger = self.marketplaces.ledger();
        ledger.iter().map(|entry| format!("{} {}", entry.method, entry.target)).collect()
    }

    /// Waits until nothing is queued, and removes the fleet.
    pub async fn dissolve(self) -> Result<()> {
        self.vhost.until_drained(PATIENCE).await?;
        ensure!(
            self.marketplaces.unused_scripted_answers() == 0,
            "{} scripted answers were not asked for",
            self.marketplaces.unused_scripted_answers()
        );
        self.marketplaces.stop().await;
        self.store.close().await;
        self.vhost.delete_vhost().await?;
        self.keys.delete_keys().await?;
        self.database.drop_database().await.context("the fleet's database is still in use")
    }
}
