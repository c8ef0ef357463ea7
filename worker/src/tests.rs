//! The worker on embedded parts: SQLite in memory, the in-process queue and cache, a scripted provider and a clock that
//! is moved by hand.

mod ending;
mod parking;
mod pooling;
mod refreshing;
mod rotating;
mod sealing;
mod warming;

use std::collections::BTreeMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::adapters::database::table::{Channels, Connection, TokenRefresh};
use freshet_shared::adapters::database::{Database, DatabaseSettings};
use freshet_shared::adapters::embedded::cache::InProcessCache;
use freshet_shared::adapters::embedded::clock::{ManualClock, SeededRandomness};
use freshet_shared::adapters::embedded::events::InProcessEvents;
use freshet_shared::adapters::embedded::parking::InProcessParking;
use freshet_shared::adapters::embedded::provider::ScriptedProvider;
use freshet_shared::adapters::embedded::rate_limiter::InProcessRateLimiter;
use freshet_shared::domain::breaker::BreakerPolicy;
use freshet_shared::domain::connection::{ConnectionId, Generation, LoadedConnection};
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::message::{RefreshMessage, VERSION};
use freshet_shared::domain::provider::catalogue::Providers;
use freshet_shared::domain::retry::RetryPolicy;
use freshet_shared::domain::secret::Secret;
use freshet_shared::domain::window::RefreshWindows;
use freshet_shared::migrations;
use freshet_shared::ports::clock::Clock;
use sea_orm::ConnectionTrait;
use sea_orm::sea_query::{Query, SimpleExpr};
use tokio_util::sync::CancellationToken;

use crate::permit::{PermitSettings, Permits};
use crate::refresh::Refresher;

/// How long a statement waits for the only connection: longer than a machine that does everything at once is away.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(60);

pub(crate) struct Bench {
    pub(crate) refresher: Arc<Refresher>,
    pub(crate) database: Database,
    pub(crate) cache: Arc<InProcessCache>,
    pub(crate) provider: Arc<ScriptedProvider>,
    pub(crate) events: Arc<InProcessEvents>,
    pub(crate) parking: Arc<InProcessParking>,
    pub(crate) clock: Arc<ManualClock>,
}

/// Noon of a day, in whole seconds.
pub(crate) fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_262_400, 0).unwrap()
}

pub(crate) fn message(id: i64, generation: i64, lane: Lane) -> RefreshMessage {
    RefreshMessage {
        v: VERSION,
        connection_id: ConnectionId(id),
        generation: Generation(generation),
        provider: "fynd".into(),
        lane,
        due_at: noon(),
    }
}

impl Bench {
    pub(crate) async fn new() -> Self {
        Self::with(Providers::new(&[], &BTreeMap::new()).unwrap()).await
    }

    pub(crate) async fn with(providers: Providers) -> Self {
        let settings = DatabaseSettings {
            url: Secret::new("sqlite::memory:"),
            max_connections: 1,
            acquire_timeout: ACQUIRE_TIMEOUT,
        };
        let database = Database::connect(settings).await.unwrap();
        migrations::platform::create_missing(&database).await.unwrap();
        migrations::migrate(&database).await.unwrap();
        let clock = Arc::new(ManualClock::new(noon()));
        let database = database.with_clock(clock.clone());
        let cache = Arc::new(InProcessCache::new(clock.clone()));
        let provider = Arc::new(ScriptedProvider::default());
        let events = Arc::new(InProcessEvents::keeping(100));
        let parking = Arc::new(InProcessParking::open());
        let seconds = Duration::from_secs;
        let refresher = Refresher {
            store: Arc::new(database.clone()),
            cache: cache.clone(),
            caller: provider.clone(),
            permits: Permits::new(
                Arc::new(InProcessRateLimiter::new(clock.clone())),
                clock.clone(),
                Arc::new(SeededRandomness::new(2)),
                PermitSettings {
                    waiting: NonZeroU32::MAX,
                    workers: NonZeroU32::MIN,
                    breaker: BreakerPolicy::new(0.5, 10, seconds(60), seconds(30), seconds(300)).unwrap(),
                    longest_spread: TimeDelta::minutes(5),
                    longest_call: seconds(15),
                },
            ),
            events: events.clone(),
            parking: parking.clone(),
            clock: clock.clone(),
            randomness: Arc::new(SeededRandomness::new(1)),
            providers,
            windows: RefreshWindows {
                early: TimeDelta::minutes(30),
                urgent: TimeDelta::minutes(10),
                shortest_interval: TimeDelta::minutes(1),
            },
            retry: RetryPolicy::new(seconds(2), seconds(300), seconds(900)).unwrap(),
            holder: "test".into(),
            details_limit: seconds(15),
            in_flight: seconds(75),
            lease: TimeDelta::seconds(75),
            last_call: CancellationToken::new(),
        };
        Self { refresher: Arc::new(refresher), database, cache, provider, events, parking, clock }
    }

    /// An enrolled connection of Fynd that expires in `minutes`.
    pub(crate) async fn add(&self, id: i64, minutes: i64) {
        let expires_at = noon() + TimeDelta::minutes(minutes);
        let connection = Query::insert()
            .into_table(Connection::Table)
            .columns([
                Connection::Id,
                Connection::IsActive,
                Connection::AccessToken,
                Connection::AccessTokenExpiryAt,
                Connection::InputFields,
            ])
            .values_panic([
                id.into(),
                "active".into(),
                format!("old-{id}").into(),
                SimpleExpr::value(expires_at.naive_utc()),
                r#"{"x-integration-id":"a","x-integration-token":"b"}"#.into(),
            ])
            .to_owned();
        let channel = Query::insert()
            .into_table(Channels::Table)
            .columns([Channels::ConnectionId, Channels::IntegrationType])
            .values_panic([id.into(), "15".into()])
            .to_owned();
        let ours = Query::insert()
            .into_table(TokenRefresh::Table)
            .columns([TokenRefresh::ConnectionId])
            .values_panic([id.into()])
            .to_owned();
        for statement in [connection, channel, ours] {
            self.database.connection().execute(&statement).await.unwrap();
        }
    }

    pub(crate) async fn execute(&self, statement: &str) {
        self.database.connection().execute_unprepared(statement).await.unwrap();
    }

    pub(crate) async fn number(&self, query: &str) -> i64 {
        let statement = sea_orm::Statement::from_string(sea_orm::DbBackend::Sqlite, query);
        let row = self.database.connection().query_one_raw(statement).await.unwrap();
        row.unwrap().try_get_by_index(0).unwrap()
    }

    pub(crate) async fn load(&self, id: i64) -> LoadedConnection {
        let loaded = self.refresher.store.load(ConnectionId(id), "fynd", None).await.unwrap();
        loaded.unwrap().by_clock_of(self.clock.now())
    }

    pub(crate) fn grant(&self, token: &str) {
        self.provider.answer(200, format!(r#"{{"status":"SUCCESS","accessToken":"{token}"}}"#));
    }

    pub(crate) fn cached(&self, id: i64) -> Option<String> {
        self.cache.get(&format!("connectionAccessToken_{id}"))
    }
}
