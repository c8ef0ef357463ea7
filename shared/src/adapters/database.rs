//! MySQL, MariaDB and SQLite through SeaORM: one set of statements for all three.
//!
//! Rows are read column by column and never as whole models: a model would need `Debug`, and tokens must not have it.

mod active;
mod asked;
mod attempt;
mod census;
mod claim;
mod commit;
mod connect;
mod error;
mod failure;
mod kept_answer;
mod lease;
mod load;
mod pool;
mod release;
mod round_trip;
mod scan;
mod sealed;
mod server_clock;
mod settled;
mod span;
mod standing;
pub mod table;
mod together;
mod value;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{DatabaseConnection, DbBackend};

pub use connect::DatabaseSettings;
pub use round_trip::RoundTrips;
pub use sealed::Sealing;

use crate::ports::clock::Clock;

/// The store. Cheap to clone; clones share the pool.
#[derive(Clone)]
pub struct Database {
    connection: pool::Pool,
    backend: DbBackend,
    sealing: Option<Arc<Sealing>>,
    clock: Option<Arc<dyn Clock>>,
    server_clock: Arc<server_clock::ServerClock>,
    round_trips: Option<Arc<dyn RoundTrips>>,
    reads: Arc<load::Reads>,
    commits: Arc<commit::Commits>,
    failures: Arc<failure::Failures>,
    attempts: Arc<attempt::Attempts>,
    releases: Arc<release::Releases>,
}

impl Database {
    /// Kinds of statements that refreshes have under way at the same time, each gathered by itself: loads, channels, commits,
    /// failures, attempts and releases.
    pub const KINDS: usize = 6;
    /// How many of all kinds together are under way at most. Each takes a connection of the pool.
    pub const ROUND_TRIPS: usize = 4 * together::FLIGHTS + 2 * together::RARE_FLIGHTS;

    /// Takes leases by this clock where the database is part of the process and has none of its own: SQLite. Without one it is
    /// the machine's.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        // What gathers for one round trip is judged by the same clock.
        Self { clock: Some(clock), ..self }.gathering_anew()
    }

    fn gathering_anew(self) -> Self {
        Self {
            reads: Arc::default(),
            commits: Arc::default(),
            failures: Arc::default(),
            attempts: Arc::default(),
            releases: Arc::default(),
            ..self
        }
    }

    /// Gives up a statement that has no answer after this time, where it would wait for longer: for who has to ask again sooner.
    /// What looks at the whole fleet may take its time.
    #[must_use]
    pub fn answering_within(self, longest: Duration) -> Self {
        // What gathers for one round trip waits for the same time.
        Self { connection: self.connection.clone().sooner(longest), ..self }.gathering_anew()
    }

    /// The pool itself, for migrations: its statements may take as long as they like.
    pub fn connection(&self) -> &DatabaseConnection {
        &self.connection
    }
}
