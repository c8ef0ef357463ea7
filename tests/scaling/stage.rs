//! What is played on: servers of its own, a model provider, and connections that come due as the scenario says.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::adapters::database::{Database, DatabaseSettings};
use freshet_shared::configuration::Configuration;
use freshet_shared::domain::secret::Secret;
use freshet_shared::migrations;
use freshet_tests::binaries::TestFolder;
use freshet_tests::management::Management;
use freshet_tests::model_provider::{DefinitionOptions, Fault, Grant, ModelProvider, Rotation, Settings};
use freshet_tests::services::{MariaDb, RabbitMq, Redis};
use sea_orm::{ConnectionTrait, DbBackend, QueryResult, Statement};
use serde_json::Value;

use crate::manifests::Manifests;
use crate::scenario::{CALL, IN_HAND, Provider, Scenario};

/// The provider's name and its integration type.
const PROVIDER: &str = "model";
/// RabbitMQ's statistics are so old at most.
const STATISTICS: Duration = Duration::from_secs(5);
/// No time is sped up to less than this, and none of a call: a machine that is busy would tell of time-outs.
const SHORTEST: Duration = Duration::from_millis(100);
const SHORTEST_CALL: Duration = Duration::from_secs(2);
/// Connections that are written by one statement.
const BATCH: usize = 1000;

/// The stage. Servers end when it is dropped.
pub(crate) struct Stage {
    pub(crate) model: ModelProvider,
    pub(crate) environment: HashMap<String, String>,
    /// How long before its expiry a token is due, as time passes here.
    pub(crate) early_window: TimeDelta,
    /// The shipped load is divided by it.
    pub(crate) load: f64,
    store: Database,
    management: Management,
    _mariadb: MariaDb,
    _rabbitmq: RabbitMq,
    _redis: Redis,
    _definitions: TestFolder,
}

/// How the tokens stand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Freshness {
    /// Seconds until the first of them expires.
    pub(crate) soonest: f64,
    /// How many of a hundred are good.
    pub(crate) valid: f64,
}

impl Stage {
    /// Starts everything but the product.
    pub(crate) async fn set(manifests: &Manifests, scenario: &Scenario) -> Result<Self> {
        freshet_shared::process::install_crypto();
        let (mariadb, rabbitmq, redis) = tokio::try_join!(
            MariaDb::start(),
            RabbitMq::start_counting_every(scenario.fast(STATISTICS)),
            Redis::start()
        )?;
        let url = format!("{}/rehearsal", mariadb.url());
        let store = found_database(&mariadb.url(), &url).await?;
        let model = ModelProvider::start(Settings {
            // Each comes due once.
            access_token_lifetime: TimeDelta::hours(12),
            ..Settings::new(Rotation::None)
        })
        .await?;
        let definitions = TestFolder::create()?;
        let mut options = DefinitionOptions::new(PROVIDER, Grant::ClientCredentials);
        options.integration_type = Some(PROVIDER.to_owned());
        definitions.write("model.toml", &model.definition(&options))?;
        let mut environment = manifests.variables.clone();
        let addresses = [
            ("FRESHET_DATABASE__URL", url),
            ("FRESHET_RABBITMQ__URL", format!("{}/%2f", rabbitmq.url())),
            ("FRESHET_REDIS__URL", redis.url()),
            ("FRESHET_PROVIDER_DIRECTORY", definitions.path().display().to_string()),
            ("FRESHET_EGRESS__ALLOW", "127.0.0.1".to_owned()),
            // Each on a port of its own, which it logs.
            ("FRESHET_MONITORING__LISTEN", "127.0.0.1:0".to_owned()),
            ("FRESHET_TELEMETRY__FILTER", "error,freshet_shared=info".to_owned()),
            ("FRESHET_TELEMETRY__FORMAT", "json".to_owned()),
            // Load that comes evenly, where the shipped one comes every minute.
            ("FRESHET_SCAN__EARLY", "* * * * * *".to_owned()),
            ("FRESHET_SCAN__URGENT", "* * * * * *".to_owned()),
        ];
        environment.extend(addresses.map(|(name, value)| (name.to_owned(), value)));
        let shipped = Configuration::load(None, &environment)?;
        environment.extend(sped_up(&shipped, scenario));
        let load = f64::from(shipped.worker.concurrency) / f64::from(IN_HAND);
        // Of calls in a row, all that a worker has in hand.
        let minimum = (f64::from(shipped.breaker.minimum) / load).max(f64::from(IN_HAND)) as u32;
        environment.extend([
            ("FRESHET_WORKER__CONCURRENCY".to_owned(), IN_HAND.to_string()),
            ("FRESHET_BREAKER__MINIMUM".to_owned(), minimum.to_string()),
            ("FRESHET_CALL__CONNECT_TIMEOUT".to_owned(), "1s".to_owned()),
        ]);
        let own = Configuration::load(None, &environment)?;
        let stage = Self {
            model,
            early_window: TimeDelta::from_std(own.scan.early_window)?,
            load,
            environment,
            store,
            management: Management::new(&rabbitmq.management_url())?,
            _mariadb: mariadb,
            _rabbitmq: rabbitmq,
            _redis: redis,
            _definitions: definitions,
        };
        stage.let_provider(Provider::Serves);
        Ok(stage)
    }

    /// Writes connections that come due at these times.
    pub(crate) async fn add(&self, due: &[DateTime<Utc>]) -> Result<()> {
        let numbered: Vec<_> = (1_i64..).zip(due).collect();
        for batch in numbered.chunks(BATCH) {
            let (mut connections, mut channels) = (Vec::new(), Vec::new());
            for (id, due) in batch {
                let account = account_of(*id);
                self.model.set_client_secrets(&account, &["secret"]);
                let expiry = (**due + self.early_window).format("%Y-%m-%d %H:%M:%S%.6f");
                connections.push(format!(
                    "({id}, 'active', 'old-{id}', '{expiry}', '{{\"client_id\":\"{account}\",\"client_secret\":\"secret\"}}')"
                ));
                channels.push(format!("({id}, {id}, '{PROVIDER}')"));
            }
            let columns = "id, isActive, accessToken, accessTokenExpiryAt, inputFields";
            self.execute(&format!(
                "INSERT INTO ie_appinstall_connection ({columns}) VALUES {}",
                connections.join(", ")
            ))
            .await?;
            let columns = "id, connectionId, integrationType";
            self.execute(&format!("INSERT INTO channels ({columns}) VALUES {}", channels.join(", "))).await?;
        }
        Ok(())
    }

    /// From now on the provider behaves like this.
    pub(crate) fn let_provider(&self, provider: Provider) {
        self.model.set_standing_fault(Some(match provider {
            Provider::Serves => Fault::none().after(CALL),
            Provider::Refuses => Fault::status(503),
            Provider::Hangs => Fault::hang().unspent(),
        }));
    }

    /// What KEDA's scaler gets for a queue with `protocol: http` and `mode: QueueLength`; `None` while there is no answer, as
    /// before the queue was declared.
    pub(crate) async fn depth(&self, queue: &str) -> Option<f64> {
        self.management.get(&format!("api/queues/%2f/{queue}")).await.ok()?.get("messages")?.as_f64()
    }

    /// Messages in each queue.
    pub(crate) async fn messages(&self) -> Result<Vec<(String, u64)>> {
        let queues = self.management.get("api/queues").await?;
        let queues = queues.as_array().context("the list of queues is no list")?;
        let of = |queue: &Value| {
            let name = queue.get("name").and_then(Value::as_str).unwrap_or_default();
            (name.to_owned(), queue.get("messages").and_then(Value::as_u64).unwrap_or(0))
        };
        Ok(queues.iter().map(of).collect())
    }

    /// How the tokens stand now.
    pub(crate) async fn freshness(&self) -> Result<Freshness> {
        let query = "SELECT CAST(MIN(TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), accessTokenExpiryAt)) AS DOUBLE) / 1e6 AS soonest, \
             CAST(AVG(accessTokenExpiryAt > UTC_TIMESTAMP(6)) AS DOUBLE) * 100e0 AS valid FROM ie_appinstall_connection";
        let rows = self.query(query).await?;
        let row = rows.first().context("there are no connections")?;
        Ok(Freshness { soonest: row.try_get("", "soonest")?, valid: row.try_get("", "valid")? })
    }

    /// Whether all are refreshed, and all messages are acknowledged.
    pub(crate) async fn is_done(&self) -> Result<bool> {
        let query = "SELECT COUNT(*) AS n FROM ie_appinstall_connection k \
             LEFT JOIN token_refresh r ON r.connection_id = k.id \
             WHERE COALESCE(r.generation, 0) = 0 OR r.queued_until IS NOT NULL";
        let rows = self.query(query).await?;
        let left: i64 = rows.first().context("no answer")?.try_get("", "n")?;
        Ok(left == 0 && self.messages().await?.iter().all(|(_, messages)| *messages == 0))
    }

    /// Rows of the database.
    pub(crate) async fn query(&self, query: &str) -> Result<Vec<QueryResult>> {
        let statement = Statement::from_string(DbBackend::MySql, query);
        Ok(self.store.connection().query_all_raw(statement).await?)
    }

    async fn execute(&self, statement: &str) -> Result<()> {
        self.store.connection().execute_unprepared(statement).await?;
        Ok(())
    }
}

/// The account of a connection.
pub(crate) fn account_of(id: i64) -> String {
    format!("account-{id}")
}

/// Every time that load, outage or retry depend on, as it passes here.
fn sped_up(shipped: &Configuration, scenario: &Scenario) -> impl Iterator<Item = (String, String)> {
    let times = [
        ("SCAN__RETRY_EVERY", shipped.scan.retry_every),
        ("SCAN__EARLY_WINDOW", shipped.scan.early_window),
        ("SCAN__URGENT_WINDOW", shipped.scan.urgent_window),
        ("SCAN__SHORTEST_INTERVAL", shipped.scan.shortest_interval),
        ("SCAN__CLAIM", shipped.scan.claim),
        ("CALL__TIMEOUT", shipped.call.timeout),
        ("RETRY__SHORTEST", shipped.retry.shortest),
        ("RETRY__LONGEST", shipped.retry.longest),
        ("RETRY__RECHECK", shipped.retry.recheck),
        ("BREAKER__WINDOW", shipped.breaker.window),
        ("BREAKER__OPEN_FOR", shipped.breaker.open_for),
    ];
    let fast = times.map(|(name, time)| {
        let shortest = if name.starts_with("CALL") { SHORTEST_CALL } else { SHORTEST };
        (name, scenario.fast(time).max(shortest))
    });
    fast.into_iter().map(|(name, time)| (format!("FRESHET_{name}"), format!("{}ms", time.as_millis())))
}

async fn found_database(server: &str, url: &str) -> Result<Database> {
    let connect = async |url: String| {
        let acquire_timeout = Duration::from_secs(10);
        Database::connect(DatabaseSettings { url: Secret::new(url), max_connections: 4, acquire_timeout })
            .await
    };
    let administrator = connect(format!("{server}/mysql")).await?;
    administrator.connection().execute_unprepared("CREATE DATABASE rehearsal CHARACTER SET utf8mb4").await?;
    administrator.close().await;
    let store = connect(url.to_owned()).await?;
    migrations::platform::create_missing(&store).await?;
    migrations::migrate(&store).await?;
    Ok(store)
}
