//! The database as a process sees it: the product's statements on SQLite, which may not be reached, and whose reply may be
//! lost.
//!
//! SQLite runs on a thread of its own, of which a paused clock knows nothing: it would run ahead while a statement is
//! under way. So a statement is waited for on the spot, and takes no virtual time but that which is drawn for its way there
//! and back. What jobs of one process ask meanwhile gathers, and goes with the next round trip, as the product has it
//! (`adapters/grouping.rs`): each process has groups of its own, and a round trip goes on after the death of who asked. Only
//! the one statement for many rows is MySQL's and out of reach here: `tests/flow/grouped.rs` and `tests/chaos` have it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use chrono::{DateTime, Utc};
use freshet_shared::adapters::database::{Database, DatabaseSettings, RoundTrips};
use freshet_shared::domain::channel::Channel;
use freshet_shared::domain::connection::{ConnectionId, ConnectionState, LoadedConnection};
use freshet_shared::domain::kept_answer::KeptAnswer;
use freshet_shared::domain::leadership::Lease;
use freshet_shared::domain::secret::Secret;
use freshet_shared::migrations;
use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::store::{
    Attempt, Claim, Commit, Committed, Due, DueConnection, DuePage, DueScan, EndingGrant, Expired,
    FailureRecord, IdPage, LeaseStore, PageKey, RefreshStore, Release, ScanStore, StoreError, Unwatched,
    WatchNote,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement};
use tokio::runtime::Runtime;
use tokio::time::sleep;

use crate::deadlines::Wait;
use crate::fleet::Ledger;
use crate::host::Host;
use crate::reigns::Reigns;
use crate::world::World;

const LEASE: &str = "ask for a lease";
const RELEASE: &str = "release a lease";
const CLAIM: &str = "claim";

/// Whether the urgent scan finds nobody, to see that it is missed.
static WITHOUT_URGENT: AtomicBool = AtomicBool::new(false);
/// Whether the scan for next attempts finds nobody.
static WITHOUT_RETRY: AtomicBool = AtomicBool::new(false);

/// From the end of the first storm on the urgent scan finds nobody, in all of this process: what is missed then is what a
/// storm left behind, and not the first refresh of a fleet.
pub(crate) fn leave_urgent_out() {
    WITHOUT_URGENT.store(true, Ordering::Relaxed);
}

/// From now on nobody is found by its next attempt alone, in all of this process.
pub(crate) fn leave_retry_out() {
    WITHOUT_RETRY.store(true, Ordering::Relaxed);
}

/// What an operation that nobody knows of comes to.
fn without(operation: &str) -> Wait {
    match operation {
        LEASE => Wait::LeaseUnknown,
        // It stands until it runs out.
        RELEASE => Wait::LeaderGone,
        _ => Wait::StoreFailed,
    }
}

fn is_left_out(due: Due, world: &World) -> bool {
    match due {
        Due::ExpiredOrExpiring { .. } => {
            WITHOUT_URGENT.load(Ordering::Relaxed) && world.has_seen_a_storm_end()
        }
        Due::NextAttempt => WITHOUT_RETRY.load(Ordering::Relaxed),
        Due::NeverRefreshed | Due::Expiring(_) | Due::Planned(_) => false,
    }
}

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
        sleep(duration).await;
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

    /// Waits on the spot for a statement, by the server's clock at this time.
    fn at<T>(&self, now: DateTime<Utc>, statement: impl Future<Output = T>) -> T {
        self.clock.set(now);
        self.now(statement)
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

    /// At which generation a connection stands.
    pub(crate) fn generation(&self, id: i64) -> Result<Option<i64>, DbErr> {
        let rows = self.query(&format!("SELECT generation FROM token_refresh WHERE connection_id = {id}"))?;
        rows.first().map(|row| row.try_get("", "generation")).transpose()
    }

    /// Removes every row.
    pub(crate) fn clear(&self) -> Result<(), DbErr> {
        for table in [
            "channels",
            "ie_appinstall_connection",
            "token_refresh",
            "refresh_attempt",
            "provider_control",
            "producer_lease",
        ] {
            self.now(self.database.connection().execute_unprepared(&format!("DELETE FROM {table}")))?;
        }
        Ok(())
    }
}

/// The way of one process's gathered questions.
struct Trips {
    host: Arc<Host>,
    tables: Arc<Tables>,
}

impl RoundTrips for Trips {
    fn make<'t>(&'t self, trip: BoxFuture<'t, ()>) -> BoxFuture<'t, ()> {
        let on_the_way = || sleep(self.host.world.between(Duration::ZERO, Duration::from_millis(6)));
        async move {
            let world = &self.host.world;
            on_the_way().await;
            if world.state().store_away > 0 || world.strikes(|faults| faults.store_away) {
                self.host.trace(format_args!("a round trip does not reach the database"));
                world.disturbed_until(world.now());
                self.host.excuse_hands(Wait::StoreFailed);
                return;
            }
            self.tables.at(world.now(), trip);
            world.look_after_a_change();
            on_the_way().await;
        }
        .boxed()
    }
}

/// How a process reaches it.
pub(crate) struct Line {
    host: Arc<Host>,
    tables: Arc<Tables>,
    database: Database,
    ledger: Arc<Ledger>,
    reigns: Arc<Reigns>,
}

impl Line {
    /// A process's own.
    pub(crate) fn new(
        host: &Arc<Host>,
        tables: &Arc<Tables>,
        ledger: &Arc<Ledger>,
        reigns: &Arc<Reigns>,
    ) -> Arc<Self> {
        let trips = Trips { host: host.clone(), tables: tables.clone() };
        Arc::new(Self {
            host: host.clone(),
            tables: tables.clone(),
            database: tables.database.clone().with_round_trips(Arc::new(trips)),
            ledger: ledger.clone(),
            reigns: reigns.clone(),
        })
    }

    /// Asks by itself.
    async fn ask<T>(
        &self,
        operation: &'static str,
        id: Option<ConnectionId>,
        ask: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.reach(operation, id).await?;
        let result = self.tables.at(self.host.world.now(), ask);
        if let Err(error) = &result {
            self.host.world.violated(format!("the database refused: {error}"));
        }
        self.reply(operation, id, result)
    }

    /// Asks together with whoever asks. `note` hears what came of it before the reply may be lost, and also where the process
    /// dies meanwhile: what is stored is stored.
    async fn ask_together<T: Send + 'static>(
        &self,
        operation: &'static str,
        id: ConnectionId,
        ask: impl Future<Output = Result<T, StoreError>> + Send + 'static,
        note: impl FnOnce(&T) + Send + 'static,
    ) -> Result<T, StoreError> {
        self.reach(operation, Some(id)).await?;
        let world = self.host.world.clone();
        let asking = tokio::spawn(async move {
            let result = ask.await;
            match &result {
                Ok(result) => note(result),
                // Its round trip was not made.
                Err(StoreError::Unavailable { .. }) => {}
                Err(error) => world.violated(format!("the database refused: {error}")),
            }
            result
        });
        let gave_up = || StoreError::Unavailable { operation, problem: "the asker is gone".into() };
        self.reply(operation, Some(id), asking.await.unwrap_or_else(|_| Err(gave_up())))
    }

    async fn reach(&self, operation: &'static str, id: Option<ConnectionId>) -> Result<(), StoreError> {
        let world = &self.host.world;
        self.host.step(operation, id.map(|id| id.0)).await;
        if world.state().store_away > 0 || world.strikes(|faults| faults.store_away) {
            self.trace(operation, id, "does not reach the database");
            self.host.was_failed(id.map(|id| id.0), without(operation));
            return Err(StoreError::Unavailable { operation, problem: "it cannot be reached".into() });
        }
        Ok(())
    }

    fn reply<T>(
        &self,
        operation: &'static str,
        id: Option<ConnectionId>,
        result: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let world = &self.host.world;
        if world.strikes(|faults| faults.store_reply_lost) {
            self.trace(operation, id, "loses the database's reply");
            self.host.was_failed(id.map(|id| id.0), without(operation));
            if operation == CLAIM {
                self.host.excuse_hands(Wait::ClaimUnknown);
            }
            return Err(StoreError::Unavailable { operation, problem: "its reply is lost".into() });
        }
        result
    }

    async fn answered<T>(
        &self,
        operation: &'static str,
        id: Option<ConnectionId>,
        result: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.host.step(operation, id.map(|id| id.0)).await;
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
        if is_left_out(scan.due, &self.host.world) {
            return Ok(DuePage::default());
        }
        let page = self.ask("scan", None, self.database.due_page(scan, after, limit)).await;
        self.answered("after a scan", None, page).await
    }

    async fn first_unsettled(
        &self,
        integration_type: &str,
        expired: Expired,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        let ask = self.database.first_unsettled(integration_type, expired);
        self.ask("find who is not settled", None, ask).await
    }

    async fn end_of_first(&self, expired: Expired, count: u32) -> Result<Option<DateTime<Utc>>, StoreError> {
        self.ask("count the settled", None, self.database.end_of_first(expired, count)).await
    }

    async fn claim(&self, due: &[DueConnection], claim: Claim) -> Result<Vec<DueConnection>, StoreError> {
        self.reigns.claims(&self.host.name);
        if due.is_empty() {
            return Ok(Vec::new());
        }
        let asked_for = due.iter().map(|due| due.connection_id.0);
        asked_for.clone().for_each(|id| self.host.takes(id));
        let claimed = self.ask(CLAIM, None, self.database.claim(due, claim)).await;
        asked_for.for_each(|id| self.host.lets_go(id));
        if let Ok(claimed) = &claimed {
            let ids: Vec<i64> = claimed.iter().map(|due| due.connection_id.0).collect();
            self.host.trace(format_args!("claims {ids:?}"));
            ids.iter().for_each(|id| self.host.takes(*id));
            self.host.world.look_after_a_change();
        }
        self.answered("after a claim", None, claimed).await
    }

    async fn give_back(&self, connections: &[ConnectionId], claim_id: i64) -> Result<(), StoreError> {
        connections.iter().for_each(|id| self.host.lets_go(id.0));
        let given = self.ask("give claims back", None, self.database.give_back(connections, claim_id)).await;
        self.host.world.look_after_a_change();
        self.answered("after claims were given back", None, given).await
    }

    async fn paused_providers(&self) -> Result<Vec<String>, StoreError> {
        self.ask("read who is paused", None, self.database.paused_providers()).await
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
        self.ask("walk over ids", None, self.database.id_page(after, limit)).await
    }

    async fn unwatched(
        &self,
        integration_type: &str,
        page: IdPage,
        window_ends: DateTime<Utc>,
    ) -> Result<Vec<Unwatched>, StoreError> {
        let ask = self.database.unwatched(integration_type, page, window_ends);
        self.ask("find who is not watched", None, ask).await
    }

    async fn note_watched(&self, notes: &[WatchNote]) -> Result<(), StoreError> {
        self.ask("note who is watched", None, self.database.note_watched(notes)).await
    }

    async fn prune_attempts(&self, before: DateTime<Utc>) -> Result<u64, StoreError> {
        self.ask("prune", None, self.database.prune_attempts(before)).await
    }
}

#[async_trait]
impl LeaseStore for Line {
    async fn take_lease(&self, name: &str, holder: &str, length: Duration) -> Result<Lease, StoreError> {
        // What the database gives is given, whether or not anybody hears of it.
        let taking = async {
            let taken = self.database.take_lease(name, holder, length).await;
            if let Ok(Lease::Ours { term }) = taken {
                self.reigns.granted(name, term, holder);
            }
            taken
        };
        let taken = self.ask(LEASE, None, taking).await;
        self.answered("after a lease", None, taken).await
    }

    async fn release_lease(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        self.ask(RELEASE, None, self.database.release_lease(name, holder)).await
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
        let (database, provider) = (self.database.clone(), provider.to_owned());
        let integration_type = integration_type.map(str::to_owned);
        let ask = async move { database.load(connection_id, &provider, integration_type.as_deref()).await };
        let loaded = self.ask_together("load", connection_id, ask, |_| ()).await;
        self.answered("after a load", Some(connection_id), loaded).await
    }

    fn keeps_answers(&self) -> bool {
        self.database.keeps_answers()
    }

    async fn kept_answer(&self, connection_id: ConnectionId) -> Result<Option<KeptAnswer>, StoreError> {
        let ask = self.database.kept_answer(connection_id);
        self.ask("read a kept answer", Some(connection_id), ask).await
    }

    async fn good_page(
        &self,
        integration_type: &str,
        now: DateTime<Utc>,
        after: Option<ConnectionId>,
        limit: u32,
    ) -> Result<Vec<ConnectionId>, StoreError> {
        let ask = self.database.good_page(integration_type, now, after, limit);
        self.ask("find who is good", None, ask).await
    }

    async fn channels(&self, connection_id: ConnectionId) -> Result<Vec<Channel>, StoreError> {
        let database = self.database.clone();
        let ask = async move { database.channels(connection_id).await };
        self.ask_together("read channels", connection_id, ask, |_| ()).await
    }

    async fn update_channel(
        &self,
        connection_id: ConnectionId,
        channel: &Channel,
    ) -> Result<bool, StoreError> {
        let ask = self.database.update_channel(connection_id, channel);
        self.ask("update a channel", Some(connection_id), ask).await
    }

    async fn begin_attempt(&self, attempt: &Attempt) -> Result<bool, StoreError> {
        let id = attempt.connection_id;
        let (ledger, world) = (self.ledger.clone(), self.host.world.clone());
        let note = move |begun: &bool| {
            if *begun {
                ledger.written_down(id.0, world.now());
            }
        };
        let (database, attempt) = (self.database.clone(), attempt.clone());
        let ask = async move { database.begin_attempt(&attempt).await };
        let begun = self.ask_together("write a call down", id, ask, note).await;
        self.host.trace(format_args!("{id} call written down: {begun:?}"));
        self.answered("after a call was written down", Some(id), begun).await
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, StoreError> {
        let id = commit.connection_id;
        let (ledger, world) = (self.ledger.clone(), self.host.world.clone());
        let (database, stored) = (self.database.clone(), commit.clone());
        let token = stored.access_token.clone();
        let note = move |committed: &Committed| {
            if let Committed::Applied(generation) = *committed {
                ledger.stored(&world, id, generation, token.expose());
            }
        };
        let ask = async move { database.commit(&stored).await };
        let committed = self.ask_together("commit", id, ask, note).await;
        let token = self.ledger.serial_of(commit.access_token.expose());
        self.host.trace(format_args!("{id} commit of token {token:?}: {committed:?}"));
        self.answered("after a commit", Some(id), committed).await
    }

    async fn record_failure(&self, failure: &FailureRecord) -> Result<bool, StoreError> {
        let id = failure.connection_id;
        let (database, record) = (self.database.clone(), failure.clone());
        let ask = async move { database.record_failure(&record).await };
        let world = self.host.world.clone();
        let quarantined = failure.state == ConnectionState::Quarantined && !failure.is_standing_kept;
        let note = move |written: &bool| {
            if *written && quarantined {
                world.was_quarantined(id.0);
            }
        };
        let written = self.ask_together("write a failure down", id, ask, note).await;
        let (class, state) = (failure.failure.class, failure.state);
        self.host.trace(format_args!("{id} failure {class}, {state}: {written:?}"));
        self.answered("after a failure was written down", Some(id), written).await
    }

    async fn release(&self, release: &Release) -> Result<(), StoreError> {
        let id = release.connection_id;
        if release.next_attempt_at.is_some() {
            // Who comes while a probe is under way is put off for as long as a breaker is open at most.
            let is_broken = self.ledger.is_broken(&self.host.name);
            self.host.world.excuse(Some(id.0), if is_broken { Wait::BreakerOpen } else { Wait::PutOff });
        }
        let (database, end) = (self.database.clone(), release.clone());
        let ask = async move { database.release(&end).await };
        let released = self.ask_together("release", id, ask, |_| ()).await;
        self.host.trace(format_args!("{id} released until {:?}", release.next_attempt_at));
        self.answered("after a release", Some(id), released).await
    }
}
