//! A lease that one process holds at a time, by the database's clock and nobody else's.

use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement, Value};

use super::Database;
use super::error::during;
use crate::domain::leadership::Lease;
use crate::ports::store::{LeaseStore, StoreError};

/// The same in the words of each server.
struct Words {
    /// name
    create: &'static str,
    /// holder, holder, length, name, holder: what is counted by the old values stands before they are overwritten.
    take: &'static str,
    /// name
    read: &'static str,
    /// name, holder
    release: &'static str,
}

/// MySQL and MariaDB; the length in microseconds.
const MYSQL: Words = Words {
    create: "INSERT IGNORE INTO producer_lease (name, holder, term, expires_at) VALUES (?, '', 0, '1970-01-02 00:00:00')",
    take: "UPDATE producer_lease SET \
             term = term + CASE WHEN holder = ? AND expires_at > UTC_TIMESTAMP(6) THEN 0 ELSE 1 END, \
             holder = ?, expires_at = UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND \
           WHERE name = ? AND (holder = ? OR expires_at <= UTC_TIMESTAMP(6))",
    read: "SELECT holder, term, CAST(TIMESTAMPDIFF(MICROSECOND, UTC_TIMESTAMP(6), expires_at) AS SIGNED) AS free_in \
           FROM producer_lease WHERE name = ?",
    release: "UPDATE producer_lease SET expires_at = UTC_TIMESTAMP(6) WHERE name = ? AND holder = ?",
};

/// SQLite, whose clock has milliseconds.
const SQLITE: Words = Words {
    create: "INSERT OR IGNORE INTO producer_lease (name, holder, term, expires_at) VALUES (?, '', 0, '1970-01-02 00:00:00.000')",
    take: "UPDATE producer_lease SET \
             term = term + CASE WHEN holder = ? AND expires_at > strftime('%Y-%m-%d %H:%M:%f', 'now') THEN 0 ELSE 1 END, \
             holder = ?, expires_at = strftime('%Y-%m-%d %H:%M:%f', 'now', (? / 1000000.0) || ' seconds') \
           WHERE name = ? AND (holder = ? OR expires_at <= strftime('%Y-%m-%d %H:%M:%f', 'now'))",
    read: "SELECT holder, term, CAST((julianday(expires_at) - julianday('now')) * 86400000000.0 AS INTEGER) AS free_in \
           FROM producer_lease WHERE name = ?",
    release: "UPDATE producer_lease SET expires_at = strftime('%Y-%m-%d %H:%M:%f', 'now') WHERE name = ? AND holder = ?",
};

impl Database {
    async fn take(&self, name: &str, holder: &str, length: Duration) -> Result<Lease, DbErr> {
        let words = self.words();
        let microseconds = i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
        let values: [Value; 5] =
            [holder.into(), holder.into(), microseconds.into(), name.into(), holder.into()];
        // Repeating it changes nothing, so that a reply of the database's may be lost.
        self.connection.execute_raw(self.lease_statement(words.take, values)).await?;
        let row = self.connection.query_one_raw(self.lease_statement(words.read, [name.into()])).await?;
        let Some(row) = row else {
            // Free, and there from the next question on.
            self.connection.execute_raw(self.lease_statement(words.create, [name.into()])).await?;
            return Ok(Lease::Others { free_in: Duration::ZERO });
        };
        // Who holds it is read and not guessed from a number of rows: it may have changed hands since, and then it is not ours.
        let free_in = row.try_get::<i64>("", "free_in")?;
        if row.try_get::<String>("", "holder")? == holder && free_in > 0 {
            return Ok(Lease::Ours { term: row.try_get("", "term")? });
        }
        Ok(Lease::Others { free_in: Duration::from_micros(free_in.try_into().unwrap_or(0)) })
    }

    fn words(&self) -> &'static Words {
        if self.backend == DbBackend::Sqlite { &SQLITE } else { &MYSQL }
    }

    fn lease_statement<const N: usize>(&self, text: &str, values: [Value; N]) -> Statement {
        Statement::from_sql_and_values(self.backend, text, values)
    }
}

#[async_trait]
impl LeaseStore for Database {
    async fn take_lease(&self, name: &str, holder: &str, length: Duration) -> Result<Lease, StoreError> {
        self.take(name, holder, length).await.map_err(during("take the lease"))
    }

    async fn release_lease(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        let statement = self.lease_statement(self.words().release, [name.into(), holder.into()]);
        self.connection.execute_raw(statement).await.map_err(during("release the lease"))?;
        Ok(())
    }
}
