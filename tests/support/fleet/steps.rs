//! What many tests do in the same way: a worker's turn, a retry whose time has come, a call that is under way.

use anyhow::{Result, ensure};
use fred::prelude::KeysInterface;
use freshet_cli::simulator::{LedgerAnswer, LedgerEntry, Provider};
use freshet_producer::scan::{ScanReport, Target};
use freshet_shared::adapters::database::{Database, DatabaseSettings};
use freshet_shared::domain::secret::Secret;
use freshet_shared::migrations;
use freshet_worker::job::JobReport;
use sea_orm::ConnectionTrait;

use super::{PATIENCE, TestFleet};
use crate::isolation::TestKeys;
use crate::services::MariaDb;
use crate::waiting::eventually;

/// The key that tells that the cache is filled.
const WARM: &str = "freshet:warm";

impl TestFleet {
    /// As a cache is that was filled long ago: a worker that starts leaves it as it is.
    pub(super) async fn call_cache_filled(keys: &TestKeys) -> Result<()> {
        let _: () = keys.client().set(format!("{}{WARM}", keys.prefix()), "warm", None, None, false).await?;
        Ok(())
    }

    /// One scan for next attempts by a new producer.
    pub async fn retry_scan(&self) -> Result<ScanReport> {
        self.producer().await?.once(Target::NextAttempts).await
    }

    /// Lets the time of every planned attempt have come.
    pub async fn let_next_attempts_come(&self) -> Result<u64> {
        let statement = "UPDATE token_refresh SET next_attempt_at = UTC_TIMESTAMP(6) - INTERVAL 1 MINUTE \
             WHERE next_attempt_at IS NOT NULL";
        self.execute(statement, []).await
    }

    /// A new worker handles this many messages and stops, and nothing is left in the queues.
    pub async fn work_off(&self, messages: usize) -> Result<Vec<JobReport>> {
        let worker = self.worker().await?;
        worker.until_handled(messages, PATIENCE).await?;
        let reports = worker.reports();
        worker.stop().await?;
        let ready = self.vhost.all_ready_messages().await?;
        ensure!(ready.is_empty(), "left in the queues: {ready:?}");
        Ok(reports)
    }

    /// Loses every entry of the cache, the product's own fences and marks included; nothing tells that they are lost.
    pub async fn lose_cache(&self) -> Result<()> {
        for name in self.keys.entries().await?.into_keys().filter(|name| name != WARM) {
            let _: () = self.keys.client().del(format!("{}{name}", self.keys.prefix())).await?;
        }
        Ok(())
    }

    /// Loses all that Redis holds of this fleet, the key included whose absence tells of it.
    pub async fn lose_redis(&self) -> Result<()> {
        let _: () = self.keys.client().del(format!("{}{WARM}", self.keys.prefix())).await?;
        let names: Vec<String> = self.keys.entries().await?.into_keys().collect();
        for names in names.chunks(1_000) {
            let keys: Vec<String> =
                names.iter().map(|name| format!("{}{name}", self.keys.prefix())).collect();
            let _: () = self.keys.client().del(keys).await?;
        }
        // A worker may have begun to fill it between the two.
        let _: () = self.keys.client().del(format!("{}{WARM}", self.keys.prefix())).await?;
        Ok(())
    }

    /// The requests for a token so far.
    pub fn token_requests(&self) -> Vec<LedgerEntry> {
        let mut ledger = self.marketplaces.ledger();
        ledger.retain(|entry| entry.provider != Some(Provider::Platform));
        ledger
    }

    /// How many requests for a token have arrived and are not answered yet.
    pub fn pending_token_requests(&self) -> usize {
        self.token_requests().iter().filter(|entry| entry.answer == LedgerAnswer::Pending).count()
    }

    /// Waits until a request for a token has arrived whose answer a script delays.
    pub async fn until_pending(&self, requests: usize) -> Result<()> {
        eventually("the provider is being asked", PATIENCE, async || {
            let pending = self.pending_token_requests();
            ensure!(pending == requests, "{pending} of {requests} requests are under way");
            Ok(())
        })
        .await
    }

    /// Goes on with an empty database, migrated, on a server that the test may treat as it likes.
    pub async fn move_to(&mut self, server: &MariaDb, prepare: &[&str]) -> Result<()> {
        let connect = async |url: String| {
            let settings =
                DatabaseSettings { url: Secret::new(url), max_connections: 4, acquire_timeout: PATIENCE };
            Database::connect(settings).await
        };
        let administrator = connect(format!("{}/mysql", server.url())).await?;
        let name = self.database.name();
        for statement in prepare {
            administrator.connection().execute_unprepared(statement).await?;
        }
        let create = format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4");
        administrator.connection().execute_unprepared(&create).await?;
        administrator.close().await;
        let url = format!("{}/{name}", server.url());
        let before = std::mem::replace(&mut self.store, connect(url.clone()).await?);
        before.close().await;
        self.environment.insert("FRESHET_DATABASE__URL".into(), url);
        migrations::platform::create_missing(&self.store).await?;
        migrations::migrate(&self.store).await?;
        Ok(())
    }
}
