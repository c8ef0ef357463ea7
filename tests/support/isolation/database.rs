//! A database of a test's own.

use std::time::Duration;

use anyhow::{Context, Result};
use reqwest::Url;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection};

use super::cleanup::best_effort;
use super::unique_name;
use crate::environment::{MYSQL_URL, required};

/// An empty database with a unique name, dropped at the end.
pub struct TestDatabase {
    server: Url,
    name: String,
    dropped: bool,
}

impl TestDatabase {
    /// Creates the database on the server that `TEST_MYSQL_URL` names.
    pub async fn create() -> Result<Self> {
        let server = required(MYSQL_URL)?;
        let server = Url::parse(&server).with_context(|| format!("{MYSQL_URL} is not a URL"))?;
        let name = unique_name();
        execute(&server, &format!("CREATE DATABASE `{name}` CHARACTER SET utf8mb4"))
            .await
            .context("cannot create a database for the test")?;
        Ok(Self { server, name, dropped: false })
    }

    /// The database's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server's URL with this database in it.
    pub fn url(&self) -> String {
        let mut url = self.server.clone();
        url.set_path(&self.name);
        url.into()
    }

    /// A small pool of connections to this database, for what a test itself writes and reads.
    pub async fn connect(&self) -> Result<DatabaseConnection> {
        connect(self.url(), 4).await
    }

    /// Drops the database. Connections to it that are still open do not hinder that; open transactions do.
    pub async fn drop_database(mut self) -> Result<()> {
        self.dropped = true;
        drop_database(self.server.clone(), self.name.clone()).await
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        if !self.dropped {
            let removal = drop_database(self.server.clone(), self.name.clone());
            best_effort(&format!("the database {}", self.name), removal);
        }
    }
}

async fn drop_database(server: Url, name: String) -> Result<()> {
    execute(&server, &format!("DROP DATABASE IF EXISTS `{name}`")).await.with_context(|| {
        format!("cannot drop the database {name}: does a transaction still hold a table of it?")
    })
}

async fn execute(server: &Url, statement: &str) -> Result<()> {
    let connection = connect(server.as_str().to_owned(), 1).await?;
    // The server's own patience with a table that is held is a day.
    connection.execute_unprepared("SET SESSION lock_wait_timeout = 5").await?;
    connection.execute_unprepared(statement).await?;
    connection.close().await?;
    Ok(())
}

async fn connect(url: String, connections: u32) -> Result<DatabaseConnection> {
    let mut options = ConnectOptions::new(url);
    options.max_connections(connections).connect_timeout(Duration::from_secs(10)).sqlx_logging(false);
    Database::connect(options).await.context("no connection to the MySQL server of the tests")
}
