//! What every benchmark runs on: servers, a database, a provider, and the configuration of the product on them.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fred::prelude::{Builder, Client, ClientLike, Config, ServerInterface};
use freshet_shared::adapters::database::{Database, DatabaseSettings};
use freshet_shared::configuration::Configuration;
use freshet_shared::domain::secret::Secret;
use freshet_shared::migrations;
use freshet_tests::binaries::TestFolder;
use freshet_tests::provider_calls::ProviderCalls;
use freshet_tests::services::{MariaDb, RabbitMq, Redis};
use freshet_tests::waiting::eventually;
use lapin::options::{QueueDeclareOptions, QueuePurgeOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, Queue};
use sea_orm::ConnectionTrait;

use crate::process::{Process, Program};
use crate::sections::Scale;

/// Where the messages of an expired connection wait.
pub(crate) const URGENT: &str = "freshet.refresh.shared.urgent.v1";

/// How a stage is set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    /// How long the provider takes for an answer.
    pub(crate) provider_delay: Duration,
    /// What MariaDB may keep in memory.
    pub(crate) buffer_pool_mib: u32,
}

impl Default for Setting {
    fn default() -> Self {
        Self { provider_delay: Duration::ZERO, buffer_pool_mib: 512 }
    }
}

/// The stage. Ends with all that runs on it when dropped: processes first, servers last.
pub(crate) struct Stage {
    /// Calls that the provider got.
    pub(crate) calls: ProviderCalls,
    /// `127.0.0.1:PORT` of the provider.
    pub(crate) provider_address: String,
    /// The product's store on the database.
    pub(crate) store: Database,
    /// The product's configuration, as variables. Whatever is not said here is the default.
    pub(crate) environment: HashMap<String, String>,
    /// Logs, and files that are made for a run.
    pub(crate) folder: TestFolder,
    cache: Client,
    _provider: Process,
    mariadb: MariaDb,
    rabbitmq: RabbitMq,
    redis: Redis,
}

impl Stage {
    /// Starts all of it; the tables are there and empty.
    pub(crate) async fn set(scale: &Scale, setting: Setting) -> Result<Self> {
        let options = [
            format!("--innodb-buffer-pool-size={}M", setting.buffer_pool_mib),
            "--innodb-log-file-size=1G".to_owned(),
        ];
        let (mariadb, rabbitmq, redis) =
            tokio::try_join!(MariaDb::start_with(&options), RabbitMq::start(), Redis::start())?;
        let folder = TestFolder::create()?;
        let (provider, provider_address) = provider(&folder, setting.provider_delay).await?;
        let mysql = format!("{}/platform", mariadb.url());
        let store = open(&mariadb.url(), &mysql).await?;
        migrations::platform::create_missing(&store).await?;
        migrations::migrate(&store).await?;
        let cache = Builder::from_config(Config::from_url(&redis.url())?).build()?;
        cache.init().await?;
        let environment = [
            ("FRESHET_DATABASE__URL", mysql),
            ("FRESHET_RABBITMQ__URL", format!("{}/%2f", rabbitmq.url())),
            ("FRESHET_REDIS__URL", redis.url()),
            // The provider speaks http on loopback.
            ("FRESHET_EGRESS__ALLOW", "127.0.0.1".to_owned()),
            // Metrics are counted where somebody may ask for them.
            ("FRESHET_MONITORING__LISTEN", "127.0.0.1:0".to_owned()),
            (
                "FRESHET_PROVIDERS__FYND__ENVIRONMENTS__PRODUCTION__OMS_HOST",
                format!("http://{provider_address}"),
            ),
        ];
        let environment = environment.into_iter().map(|(name, value)| (name.to_owned(), value));
        let environment = environment.chain(scale.variables.iter().cloned()).collect();
        Ok(Self {
            calls: ProviderCalls::of(&provider_address)?,
            provider_address,
            store,
            environment,
            folder,
            cache,
            _provider: provider,
            mariadb,
            rabbitmq,
            redis,
        })
    }

    pub(crate) fn mysql_url(&self) -> String {
        format!("{}/platform", self.mariadb.url())
    }

    pub(crate) fn amqp_url(&self) -> String {
        format!("{}/%2f", self.rabbitmq.url())
    }

    pub(crate) fn redis_url(&self) -> String {
        self.redis.url()
    }

    /// The product's configuration.
    pub(crate) fn configuration(&self) -> Result<Configuration> {
        Ok(Configuration::load(None, &self.environment)?)
    }

    /// A worker of the product, not started yet.
    pub(crate) fn worker(&self) -> Result<Program> {
        Ok(Program::beside("worker")?.arguments(["run"]).variables(&self.environment))
    }

    /// A producer of the product, not started yet.
    pub(crate) fn producer(&self, arguments: &[&str]) -> Result<Program> {
        Ok(Program::beside("producer")?.arguments(arguments).variables(&self.environment))
    }

    /// A connection to the broker.
    pub(crate) async fn broker(&self) -> Result<Connection> {
        let connection = Connection::connect(&self.amqp_url(), ConnectionProperties::default()).await;
        connection.context("no connection to RabbitMQ")
    }

    /// Runs a statement; answers how many rows it changed.
    pub(crate) async fn execute(&self, statement: &str) -> Result<u64> {
        let result = self.store.connection().execute_unprepared(statement).await;
        Ok(result.with_context(|| format!("the statement failed: {statement}"))?.rows_affected())
    }

    /// The number that a query answers in its column `n`.
    pub(crate) async fn number(&self, query: &str) -> Result<i64> {
        let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::MySql, query);
        let row = self.store.connection().query_one_raw(statement).await?;
        Ok(row.with_context(|| format!("no answer to: {query}"))?.try_get("", "n")?)
    }

    /// Empties the cache.
    pub(crate) async fn clear_cache(&self) -> Result<()> {
        Ok(self.cache.flushall::<()>(false).await?)
    }

    /// Keys in the cache.
    pub(crate) async fn cached(&self) -> Result<u64> {
        Ok(self.cache.dbsize::<u64>().await?)
    }

    /// Takes all messages out of a queue that has none in a consumer's hands.
    pub(crate) async fn purge(&self, queue: &str) -> Result<()> {
        let connection = self.broker().await?;
        let channel = connection.create_channel().await?;
        channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await?;
        Ok(connection.close(200, "".into()).await?)
    }

    /// Messages that wait in a queue for a consumer.
    pub(crate) async fn waiting(&self, queue: &str) -> Result<u32> {
        Ok(self.look_into(queue).await?.message_count())
    }

    /// How many messages a queue holds once nobody takes any more; it is empty then. Counted by the queue itself: what the
    /// management API says is up to five seconds old.
    pub(crate) async fn empty(&self, queue: &str) -> Result<u32> {
        eventually("the last consumer is gone", Duration::from_secs(30), async || {
            let consumers = self.look_into(queue).await?.consumer_count();
            ensure!(consumers == 0, "{consumers} consume from {queue}");
            Ok(())
        })
        .await?;
        let connection = self.broker().await?;
        let channel = connection.create_channel().await?;
        let left = channel.queue_purge(queue.into(), QueuePurgeOptions::default()).await?;
        connection.close(200, "".into()).await?;
        Ok(left)
    }

    /// Returns once this many workers take what has expired from the queue.
    pub(crate) async fn until_consumed_by(&self, workers: usize) -> Result<()> {
        eventually("the workers consume", Duration::from_secs(60), async || {
            let consumers = self.look_into(URGENT).await?.consumer_count();
            ensure!(consumers as usize >= workers, "{consumers} of {workers} consume");
            Ok(())
        })
        .await
    }

    async fn look_into(&self, queue: &str) -> Result<Queue> {
        let connection = self.broker().await?;
        let channel = connection.create_channel().await?;
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let declared = channel.queue_declare(queue.into(), passive, FieldTable::default()).await?;
        connection.close(200, "".into()).await?;
        Ok(declared)
    }

    /// Lets the product's producer find, claim and publish what has expired, which has to be `count` connections.
    pub(crate) async fn publish_expired(&self, count: u64) -> Result<()> {
        let report = self.producer(&["once", "--lane", "urgent"])?.run().await?;
        let waiting = self.waiting(URGENT).await?;
        ensure!(
            u64::from(waiting) == count,
            "{waiting} messages wait and not {count}; the scan said: {report}"
        );
        Ok(())
    }
}

/// A provider in a process of its own, and its address.
pub(crate) async fn provider(folder: &TestFolder, delay: Duration) -> Result<(Process, String)> {
    let delay = delay.as_millis().to_string();
    let program = Program::beside("bench-provider")?.arguments(["--delay-ms", &delay]);
    program.start_speaking(folder.path()).await
}

async fn open(server: &str, url: &str) -> Result<Database> {
    let settings = |url: &str| DatabaseSettings {
        url: Secret::new(url),
        max_connections: 4,
        acquire_timeout: Duration::from_secs(60),
    };
    let administrator = Database::connect(settings(server)).await?;
    let statement = "CREATE DATABASE platform CHARACTER SET utf8mb4";
    administrator.connection().execute_unprepared(statement).await.context("no database can be created")?;
    administrator.close().await;
    Ok(Database::connect(settings(url)).await?)
}
