//! The database as a process sees it: the product's statements on SQLite, which may not be reached, and whose reply may be
//! lost.
//!
//! SQLite runs on a thread of its own, of which a paused clock knows nothing: it would run ahead while a statement is
//! under way. So a statement is waited for on the spot, and takes no virtual time but that which the process's steps
//! around it take. Gathering statements of concurrent jobs is out of reach here; `tests/chaos` has it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use freshet_shared::adapters::database::{Database, DatabaseSettings};
use freshet_shared::domain::channel::Channel;
use freshet_shared::domain::connection::{ConnectionId, LoadedConnection};
use freshet_shared::domain::kept_answer::KeptAnswer;
use freshet_shared::domain::secret::Secret;
use freshet_shared::migrations;
use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::store::{
    Attempt, Claim, Commit, Committed, DueConnection, DuePage, DueScan, EndingGrant, FailureRecord, IdPage,
    PageKey, RefreshStore, Release, ScanStore, StoreError, Unwatched, WatchNote,
};
use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement};
use tokio::runtime::Runtime;

use crate::fleet::Ledger;
use crate::host::Host;

/// The database itself. One for each thread that runs simulations.
pub(crate) struct Tables {
    database: Database,
    clock: Arc<ServerClock>,
    runtime: Runtime,
}

/// The server's clock. It stands still while a statement runs, whose thread knows nothing of the simulation's time.
#[derive(Default)]
struct ServerClock(Mutex<DateTime<Utc>>);

impl ServerClock {
    fn set(&self, now: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }
}

#[async_trait]
impl Clock for ServerClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

impl Tables {
    /// An empty database in memory.
    pub(crate) fn create() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let database = runtime.block_on(async {
            let settings = DatabaseSettings {
                url: Secret::new("sqlite::memory:"),
                max_connections: 1,
                acquire_timeout: Duration::from_secs(600),
            };
            let database = Database::connect(settings).await?;
            migrations::platform::create_missing(&database).await?;
            migrations::migrate(&database).await?;
            anyhow::Ok(database)
        })?;
        let clock = Arc::new(ServerClock::default());
        Ok(Self { database: database.with_clock(clock.clone()), clock, runtime })
    }

    /// Waits on the spot, whatever runtime this thread is in.
    fn now<T>(&self, future: impl Future<Output = T>) -> T {
        let _its_own = self.runtime.enter();
        // A task's budget is spent only by its own awaits, which these are not.
        futures_executor::block_on(tokio::task::unconstrained(future))
    }

    /// Runs a statement of nobody's.
    pub(crate) fn execute(&self, statement: &impl sea_orm::StatementBuilder) -> Result<(), DbErr> {
        self.now(self.database.connection().execute(statement)).map(drop)
    }

    /// Reads for nobody.
    pub(crate) fn query(&self, text: &str) -> Result<Vec<QueryResult>, DbErr> {
        let statement = Statement::from_string(sea_orm::DbBackend::Sqlite, text);
        self.now(self.database.connection().query_all_raw(statement))
    }

    /// Removes every row.
    pub(crate) fn clear(&self) -> Result<(), DbErr> {
        for table in
            ["channels", "ie_appinstall_connection", "token_refresh", "refresh_attempt", "provider_control"]
        {
            self.now(self.database.connection().execute_unprepared(&format!("DELETE FROM {table}")))?;
        }
        Ok(())
    }
}

/// How a process reaches it.
pub(crate) struct Line {
    pub(crate) host: Arc<Host>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) ledger: Arc<Ledger>,
}

impl Line {
    async fn ask<T>(
        &self,
        operation: &'static str,
        id: Option<ConnectionId>,
        ask: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.ask_noting(operation, id, ask, |_| ()).await
    }

    /// `note` hears what came of it before the reply may be lost: what is stored is stored.
    async fn ask_noting<T>(
        &self,
        operation: &'static str,
        id: Option<ConnectionId>,
        ask: impl Future<Output = Result<T, StoreError>>,
        note: impl FnOnce(&T),
    ) -> Result<T, StoreError> {
        let away = |problem: &str| StoreError::Unavailable { operation, problem: problem.into() };
        let world = &self.host.world;
        self.host.step(operation).await;
        if world.state().is_store_away || world.strikes(|faults| faults.store_away) {
            self.trace(operation, id, "does not reach the database");
            return Err(away("it cannot be reached"));
        }
        self.tables.clock.set(world.now());
        let result = self.tables.now(ask);
        match &result {
            Ok(result) => note(result),
            Err(error) => world.violated(format!("the database refused: {error}")),
        }
        if world.strikes(|faults| faults.store_reply_lost) {
            self.trace(operation, id, "loses the database's reply");
            return Err(away("its reply is lost"));
        }
        result
    }

    async fn answered<T>(
        &self,
        operation: &'static str,
        result: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.host.step(operation).await;
        result
    }

    fn trace(&self, operation: &str, id: Option<ConnectionId>, what: &str) {
        match id {
            Some(id) => self.host.trace(format_args!("{id} {what} to {operation}")),
            None => self.host.trace(format_args!("{what} to {operation}")),
        }
    }
}

#[async_trait]
impl ScanStore for Line {
    async fn due_page(
        &self,
        scan: &DueScan,
        after: Option<PageKey>,
        limit: u32,
    ) -> Result<DuePage, StoreError> {
        let page = self.ask("scan", None, self.tables.database.due_page(scan, after, limit)).await;
        self.answered("after a scan", page).await
    }

    async fn claim(&self, due: &[DueConnection], claim: Claim) -> Result<Vec<DueConnection>, StoreError> {
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let claimed = self.ask("claim", None, self.tables.database.claim(due, claim)).await;
        if let Ok(claimed) = &claimed {
            let ids: Vec<i64> = claimed.iter().map(|due| due.connection_id.0).collect();
            self.host.trace(format_args!("claims {ids:?}"));
        }
        self.answered("after a claim", claimed).await
    }

    async fn give_back(&self, connections: &[ConnectionId], claim_id: i64) -> Result<(), StoreError> {
        let given =
            self.ask("give claims back", None, self.tables.database.give_back(connections, claim_id)).await;
        self.answered("after claims were given back", given).await
    }

    async fn paused_providers(&self) -> Result<Vec<String>, StoreError> {
        self.ask("read who is paused", None, self.tables.database.paused_providers()).await
    }

    async fn ending_grants(
        &self,
        integration_type: &str,
        is_renewed_by_use: bool,
        now: DateTime<Utc>,
        before: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<EndingGrant>, StoreError> {
        let database = &self.tables.database;
        let ask = database.ending_grants(integration_type, is_renewed_by_use, now, before, limit);
        self.ask("find ending grants", None, ask).await
    }

    async fn id_page(&self, after: Option<ConnectionId>, limit: u32) -> Result<Option<IdPage>, StoreError> {
        self.ask("walk over ids", None, self.tables.database.id_page(after, limit)).await
    }

    async fn unwatched(
        &self,
        integration_type: &str,
        page: IdPage,
        window_ends: DateTime<Utc>,
    ) -> Result<Vec<Unwatched>, StoreError> {
        let ask = self.tables.database.unwatched(integration_type, page, window_ends);
        self.ask("find who is not watched", None, ask).await
    }

    async fn note_watched(&self, notes: &[WatchNote]) -> Result<(), StoreError> {
        self.ask("note who is watched", None, self.tables.database.note_watched(notes)).await
    }

    async fn prune_attempts(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        self.ask("prune", None, self.tables.database.prune_attempts(before)).await
    }
}

#[async_trait]
impl RefreshStore for Line {
    async fn load(
        &self,
        connection_id: ConnectionId,
        provider: &str,
        integration_type: Option<&str>,
    ) -> Result<Option<LoadedConnection>, StoreError> {
        let ask = self.tables.database.load(connection_id, provider, integration_type);
        let loaded = self.ask("load", Some(connection_id), ask).await;
        self.answered("after a load", loaded).await
    }

    fn keeps_answers(&self) -> bool {
        self.tables.database.keeps_answers()
    }

    async fn kept_answer(&self, connection_id: ConnectionId) -> Result<Option<KeptAnswer>, StoreError> {
        let ask = self.tables.database.kept_answer(connection_id);
        self.ask("read a kept answer", Some(connection_id), ask).await
    }

    async fn good_page(
        &self,
        integration_type: &str,
        now: DateTime<Utc>,
        after: Option<ConnectionId>,
        limit: u32,
    ) -> Result<Vec<ConnectionId>, StoreError> {
        let ask = self.tables.database.good_page(integration_type, now, after, limit);
        self.ask("find who is good", None, ask).await
    }

    async fn channels(&self, connection_id: ConnectionId) -> Result<Vec<Channel>, StoreError> {
        let ask = self.tables.database.channels(connection_id);
        self.ask("read channels", Some(connection_id), ask).await
    }

    async fn update_channel(
        &self,
        connection_id: ConnectionId,
        channel: &Channel,
    ) -> Result<bool, StoreError> {
        let ask = self.tables.database.update_channel(connection_id, channel);
        self.ask("update a channel", Some(connection_id), ask).await
    }

    async fn begin_attempt(&self, attempt: &Attempt) -> Result<bool, StoreError> {
        let id = attempt.connection_id;
        let note = |begun: &bool| {
            if *begun {
                self.ledger.written_down(id.0, self.host.world.now());
            }
        };
        let ask = self.tables.database.begin_attempt(attempt);
        let begun = self.ask_noting("write a call down", Some(id), ask, note).await;
        self.host.trace(format_args!("{id} call written down: {begun:?}"));
        self.answered("after a call was written down", begun).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, StoreError> {
        let id = commit.connection_id;
        let note = |committed: &Committed| {
            if let Committed::Applied(generation) = *committed {
                self.ledger.stored(&self.host.world, id, generation, commit.access_token.expose());
            }
        };
        let committed = self.ask_noting("commit", Some(id), self.tables.database.commit(commit), note).await;
        let token = self.ledger.serial_of(commit.access_token.expose());
        self.host.trace(format_args!("{id} commit of token {token:?}: {committed:?}"));
        self.answered("after a commit", committed).await
    }

    async fn record_failure(&self, failure: &FailureRecord) -> Result<bool, StoreError> {
        let id = failure.connection_id;
        let written =
            self.ask("write a failure down", Some(id), self.tables.database.record_failure(failure)).await;
        let (class, state) = (failure.failure.class, failure.state);
        self.host.trace(format_args!("{id} failure {class}, {state}: {written:?}"));
        self.answered("after a failure was written down", written).await
    }

    async fn release(&self, release: &Release) -> Result<(), StoreError> {
        let id = release.connection_id;
        let released = self.ask("release", Some(id), self.tables.database.release(release)).await;
        self.host.trace(format_args!("{id} released until {:?}", release.next_attempt_at));
        self.answered("after a release", released).await
    }
}
