//! How long the server keeps a session of which it hears nothing, and what lies idle meanwhile.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use freshet_shared::adapters::database::Database;
use freshet_shared::configuration::DatabaseSection;
use freshet_shared::domain::secret::Secret;
use freshet_tests::fleet::PATIENCE;
use freshet_tests::services::MariaDb;
use freshet_tests::waiting::eventually;
use sea_orm::{ConnectOptions, ConnectionTrait, DatabaseConnection, Statement, TransactionTrait};

use super::network::Network;

/// How long a statement may take; a session may be silent for twice as long.
const LONGEST_STATEMENT: Duration = Duration::from_secs(3);
const LONGEST_SILENCE: Duration = Duration::from_secs(6);
/// What a loaded machine adds.
const SLACK: Duration = Duration::from_secs(3);
const CONNECTIONS: u32 = 3;

/// A session of somebody else's, on a server that has one row.
async fn somebody_else_on(server: &MariaDb) -> Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(server.url());
    options.max_connections(1).sqlx_logging(false);
    let connection = sea_orm::Database::connect(options).await?;
    for statement in [
        "CREATE DATABASE forgotten",
        "CREATE TABLE forgotten.held (id INT PRIMARY KEY, changes INT NOT NULL) ENGINE = InnoDB",
        "INSERT INTO forgotten.held VALUES (1, 0)",
        "SET SESSION innodb_lock_wait_timeout = 1",
    ] {
        connection.execute_unprepared(statement).await?;
    }
    Ok(connection)
}

async fn pool(url: &str) -> Result<Database> {
    let section = DatabaseSection {
        url: None,
        max_connections: CONNECTIONS,
        acquire_timeout: PATIENCE,
        statement_timeout: LONGEST_STATEMENT,
    };
    Ok(Database::open(&Secret::new(format!("{url}/forgotten")), &section).await?)
}

const CHANGE: &str = "UPDATE forgotten.held SET changes = changes + 1";

async fn number(connection: &DatabaseConnection, query: &str, column: &str) -> Result<i64> {
    let statement = Statement::from_string(connection.get_database_backend(), query);
    let row = connection.query_one_raw(statement).await?.context("no row")?;
    Ok(row.try_get::<String>("", column)?.parse()?)
}

/// Of sessions that ended without a goodbye.
async fn aborted(somebody: &DatabaseConnection) -> Result<i64> {
    number(somebody, "SHOW GLOBAL STATUS LIKE 'Aborted_clients'", "Value").await
}

async fn sessions(somebody: &DatabaseConnection) -> Result<i64> {
    let query = "SELECT CAST(COUNT(*) AS CHAR) AS sessions FROM information_schema.processlist WHERE db = 'forgotten'";
    number(somebody, query, "sessions").await
}

#[tokio::test]
async fn a_transaction_whose_connection_is_lost_lets_go_of_its_rows() -> Result<()> {
    let server = MariaDb::start().await?;
    let network = Network::to(&server.url()).await?;
    let somebody = somebody_else_on(&server).await?;
    let pool = pool(&network.url()).await?;
    let transaction = pool.connection().begin().await?;
    transaction.execute_unprepared(CHANGE).await?;

    ensure!(network.lose_all() > 0, "nobody was connected");
    let lost = Instant::now();
    ensure!(somebody.execute_unprepared(CHANGE).await.is_err(), "nobody held the row");
    eventually("somebody else changes the row", LONGEST_SILENCE + PATIENCE, async || {
        somebody.execute_unprepared(CHANGE).await.map(drop).context("it is held")
    })
    .await?;
    let held_for = lost.elapsed();
    assert!(held_for < LONGEST_SILENCE + SLACK, "the row was held for {held_for:?}");
    let changes = number(&somebody, "SELECT CAST(changes AS CHAR) AS changes FROM forgotten.held", "changes");
    assert_eq!(changes.await?, 1, "what was lost is rolled back");
    Ok(())
}

#[tokio::test]
async fn connections_that_lie_idle_are_closed_before_the_server_ends_their_sessions() -> Result<()> {
    let server = MariaDb::start().await?;
    let somebody = somebody_else_on(&server).await?;
    let aborted_before = aborted(&somebody).await?;
    let pool = pool(&server.url()).await?;
    for _ in 0..2 {
        let mut open = Vec::new();
        for _ in 0..CONNECTIONS {
            open.push(pool.connection().begin().await?);
        }
        for transaction in open {
            transaction.commit().await?;
        }
        ensure!(sessions(&somebody).await? > 0, "nothing lies idle");
        eventually("no session is left", LONGEST_SILENCE + PATIENCE, async || {
            let left = sessions(&somebody).await?;
            ensure!(left == 0, "{left} are");
            Ok(())
        })
        .await?;
    }
    pool.connection().execute_unprepared(CHANGE).await?;
    assert_eq!(aborted(&somebody).await?, aborted_before, "the server ended them");
    pool.close().await;
    Ok(())
}
