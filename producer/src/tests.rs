//! The producer on embedded parts: SQLite in memory, the in-process queue and a clock that is moved by hand.

mod counting;
mod leading;
mod scanning;
mod scheduling;
mod settling;
mod watching;

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::adapters::database::table::{Channels, Connection};
use freshet_shared::adapters::database::{Database, DatabaseSettings};
use freshet_shared::adapters::embedded::clock::{ManualClock, SeededRandomness};
use freshet_shared::adapters::embedded::queue::InProcessQueue;
use freshet_shared::domain::message::RefreshMessage;
use freshet_shared::domain::provider::catalogue::Providers;
use freshet_shared::domain::secret::Secret;
use freshet_shared::domain::window::RefreshWindows;
use freshet_shared::migrations;
use freshet_shared::ports::queue::Consumer;
use sea_orm::ConnectionTrait;
use sea_orm::sea_query::{Query, SimpleExpr};

use crate::leadership::Leadership;
use crate::metrics::ScanMetrics;
use crate::scan::Scanner;
use crate::settled::Settled;

pub(crate) struct Bench {
    pub(crate) scanner: Scanner,
    pub(crate) database: Database,
    pub(crate) queue: Arc<InProcessQueue>,
    pub(crate) clock: Arc<ManualClock>,
}

/// Noon of a day, in whole seconds.
pub(crate) fn noon() -> DateTime<Utc> {
    DateTime::from_timestamp(1_795_262_400, 0).unwrap()
}

impl Bench {
    pub(crate) async fn new(page_size: u32) -> Self {
        let settings = DatabaseSettings {
            url: Secret::new("sqlite::memory:"),
            max_connections: 1,
            acquire_timeout: std::time::Duration::from_secs(60),
        };
        let database = Database::connect(settings).await.unwrap();
        migrations::platform::create_missing(&database).await.unwrap();
        migrations::migrate(&database).await.unwrap();
        let clock = Arc::new(ManualClock::new(noon()));
        let queue = InProcessQueue::new();
        let scanner = Scanner {
            store: Arc::new(database.clone()),
            publisher: queue.clone(),
            clock: clock.clone(),
            randomness: Arc::new(SeededRandomness::new(1)),
            providers: Providers::new(&[], &BTreeMap::new()).unwrap(),
            windows: RefreshWindows {
                early: TimeDelta::minutes(30),
                urgent: TimeDelta::minutes(10),
                shortest_interval: TimeDelta::minutes(1),
            },
            claim: TimeDelta::minutes(5),
            page_size,
            metrics: ScanMetrics::off(),
            activity: Arc::default(),
            leadership: Leadership::without_election(),
            settled: Settled::default(),
        };
        Self { scanner, database, queue, clock }
    }

    /// An active connection of Fynd.
    pub(crate) async fn add(&self, id: i64, expires_at: Option<DateTime<Utc>>) {
        let mut connection = Query::insert();
        connection
            .into_table(Connection::Table)
            .columns([Connection::Id, Connection::IsActive, Connection::AccessTokenExpiryAt])
            .values_panic([
                id.into(),
                "active".into(),
                SimpleExpr::value(expires_at.map(|time| time.naive_utc())),
            ]);
        self.database.connection().execute(&connection).await.unwrap();
        let mut channel = Query::insert();
        channel
            .into_table(Channels::Table)
            .columns([Channels::ConnectionId, Channels::IntegrationType])
            .values_panic([id.into(), "15".into()]);
        self.database.connection().execute(&channel).await.unwrap();
    }

    pub(crate) async fn execute(&self, statement: &str) {
        self.database.connection().execute_unprepared(statement).await.unwrap();
    }

    /// Takes everything that is queued.
    pub(crate) async fn messages(&self) -> Vec<RefreshMessage> {
        let mut consumer = self.queue.consumer();
        let mut messages = Vec::new();
        while self.queue.depth().ready > 0 {
            let delivery = consumer.next().await.unwrap();
            messages.push(RefreshMessage::decode(&delivery.body).unwrap());
            delivery.settle.acknowledge().await.unwrap();
        }
        messages
    }

    pub(crate) async fn ids(&self) -> Vec<i64> {
        self.messages().await.iter().map(|message| message.connection_id.0).collect()
    }
}
