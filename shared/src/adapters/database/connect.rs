//! Opening the pool, with sessions that mean the same on every server.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectOptions, DbBackend};
use sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sqlx::{AssertSqlSafe, Executor};

use super::Database;
use super::error::during;
use super::pool::{Idleness, Pool, Silence};
use crate::configuration::DatabaseSection;
use crate::domain::secret::Secret;
use crate::persistence::{Patience, persist};
use crate::ports::store::StoreError;

/// What the pool needs to know.
pub struct DatabaseSettings {
    /// `mysql://`, `mariadb://` or `sqlite:`; holds a password.
    pub url: Secret,
    /// Connections at most. SQLite gets one: its writers would only wait for each other.
    pub max_connections: u32,
    /// How long a statement waits for a connection, as part of the time in which it has to be answered.
    pub acquire_timeout: Duration,
}

/// Our sessions are strict, so that a value that does not fit is refused and never cut; and they read committed rows,
/// so that claims of several producers do not block each other's gaps. Who waits for a lock keeps a whole group waiting, so
/// nobody waits long; what was held is tried again. sqlx itself sets utf8mb4 and, unless the URL says
/// otherwise, UTC; times are UTC by contract, whatever the URL says.
const MYSQL_SESSION: &str = "SET SESSION sql_mode = CONCAT(@@sql_mode, ',STRICT_TRANS_TABLES'), SESSION time_zone = '+00:00', \
     SESSION innodb_lock_wait_timeout = 2";
const MYSQL_ISOLATION: &str = "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED";

/// How long a start waits for the database.
const START_PATIENCE: Patience =
    Patience::within(Duration::from_millis(200), Duration::from_secs(5), Duration::from_secs(60));

impl Database {
    /// Opens the pool, patiently: a database that restarts is waited for. A statement that is not answered in time is given up,
    /// and a server ends a session of which it hears nothing for twice that time.
    ///
    /// # Errors
    /// As for [`Self::connect`].
    pub async fn open(url: &Secret, section: &DatabaseSection) -> Result<Self, StoreError> {
        let settings = || DatabaseSettings {
            url: url.clone(),
            max_connections: section.max_connections,
            acquire_timeout: section.acquire_timeout,
        };
        let database = persist(
            START_PATIENCE,
            || Self::connect_with(settings(), Some(Idleness::twice(section.statement_timeout))),
            |error| matches!(error, StoreError::Unavailable { .. }),
            |error, wait| tracing::warn!(%error, ?wait, "waiting for the database"),
        )
        .await?;
        Ok(Self { connection: database.connection.limited(section.statement_timeout), ..database })
    }

    /// Opens the pool and makes sure that the server answers. Statements may take as long as they like.
    ///
    /// # Errors
    /// If the URL is of no known kind, or the server does not answer or let us in.
    pub async fn connect(settings: DatabaseSettings) -> Result<Self, StoreError> {
        Self::connect_with(settings, None).await
    }

    async fn connect_with(
        settings: DatabaseSettings,
        idleness: Option<Idleness>,
    ) -> Result<Self, StoreError> {
        const OPERATION: &str = "accept a connection";
        let refused = |problem: &str| StoreError::Refused { operation: OPERATION, problem: problem.into() };
        let url = settings.url.expose();
        let (url, is_sqlite) = match url.split_once(':') {
            Some(("mysql", _)) => (url.to_owned(), false),
            Some(("mariadb", rest)) => (format!("mysql:{rest}"), false),
            Some(("sqlite", _)) => (url.to_owned(), true),
            _ => return Err(refused("database.url must begin with mysql://, mariadb:// or sqlite:")),
        };
        let mut options = ConnectOptions::new(url);
        options
            .max_connections(if is_sqlite { 1 } else { settings.max_connections })
            .acquire_timeout(settings.acquire_timeout)
            .sqlx_logging(false)
            // A ping before every statement would cost as much as the statement.
            .test_before_acquire(false);
        if is_sqlite {
            // A database in memory lives as long as its one connection.
            options.min_connections(1).idle_timeout(None).max_lifetime(None);
        } else if let Some(idleness) = idleness {
            options.idle_timeout(idleness.longest_in_pool());
        }
        options.map_sqlx_sqlite_opts(|options| {
            options
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Normal)
                .busy_timeout(Duration::from_secs(5))
        });
        let silence = Arc::new(Silence::of_sessions(idleness));
        let heard = silence.clone();
        options.map_sqlx_mysql_pool_opts(move |pool| {
            let heard = heard.clone();
            let pool = pool.before_acquire(move |connection, idle| {
                let heard = heard.clone();
                Box::pin(async move { Ok(heard.is_well(connection, idle.age, idle.idle_for).await) })
            });
            let silence =
                idleness.map_or_else(String::new, |idleness| format!(", {}", idleness.session_setting()));
            let session = format!("{MYSQL_SESSION}{silence}");
            pool.after_connect(move |connection, _| {
                let session = session.clone();
                Box::pin(async move {
                    // A constant and a number.
                    connection.execute(AssertSqlSafe(session)).await?;
                    connection.execute(MYSQL_ISOLATION).await?;
                    Ok(())
                })
            })
        });
        let connection = sea_orm::Database::connect(options).await.map_err(during(OPERATION))?;
        let backend = connection.get_database_backend();
        debug_assert_eq!(backend == DbBackend::Sqlite, is_sqlite);
        Ok(Self {
            connection: Pool::of(connection, silence),
            backend,
            sealing: None,
            clock: None,
            server_clock: Arc::default(),
            round_trips: None,
            reads: Arc::default(),
            commits: Arc::default(),
            failures: Arc::default(),
            attempts: Arc::default(),
            releases: Arc::default(),
        })
    }

    /// Ends all connections after their statement. A server that does not answer is not waited for.
    pub async fn close(&self) {
        self.connection.close().await;
    }
}
