//! A lease that one process holds at a time, by the database's clock and nobody else's.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement, Value};

use super::Database;
use super::error::during;
use crate::adapters::system::SystemClock;
use crate::domain::leadership::Lease;
use crate::ports::clock::Clock;
use crate::ports::store::{LeaseStore, StoreError};

/// The same in the words of each server. `now` is the database's clock; SQLite has none of its own, and is told.
struct Words {
    /// name
    create: &'static str,
    /// holder, now, holder, until, name, holder, now: what is counted by the old values stands before they are overwritten.
    take: &'static str,
    /// now, name
    read: &'static str,
    /// now, name, holder
    release: &'static str,
}

/// MySQL and MariaDB, which are told nothing of the time but the length, in microseconds.
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

const SQLITE: Words = Words {
    create: "INSERT OR IGNORE INTO producer_lease (name, holder, term, expires_at) VALUES (?, '', 0, '1970-01-02 00:00:00')",
    take: "UPDATE producer_lease SET term = term + CASE WHEN holder = ? AND expires_at > ? THEN 0 ELSE 1 END, \
             holder = ?, expires_at = ? WHERE name = ? AND (holder = ? OR expires_at <= ?)",
    read: "SELECT holder, term, \
             CAST(ROUND((julianday(expires_at) - julianday(?)) * 86400000.0) AS INTEGER) * 1000 AS free_in \
           FROM producer_lease WHERE name = ?",
    release: "UPDATE producer_lease SET expires_at = ? WHERE name = ? AND holder = ?",
};

impl Database {
    async fn take(&self, name: &str, holder: &str, length: Duration) -> Result<Lease, DbErr> {
        // Repeating it changes nothing, so that a reply of the database's may be lost.
        self.connection.execute_raw(self.taking(name, holder, length)).await?;
        let reading = match self.sqlite_now() {
            Some(now) => self.lease_statement(SQLITE.read, [now, name.into()]),
            None => self.lease_statement(MYSQL.read, [name.into()]),
        };
        let Some(row) = self.connection.query_one_raw(reading).await? else {
            // Free, and there from the next question on.
            self.connection.execute_raw(self.lease_statement(self.words().create, [name.into()])).await?;
            return Ok(Lease::Others { free_in: Duration::ZERO });
        };
        // Who holds it is read and not guessed from a number of rows: it may have changed hands since, and then it is not ours.
        let free_in = row.try_get::<i64>("", "free_in")?;
        if row.try_get::<String>("", "holder")? == holder && free_in > 0 {
            return Ok(Lease::Ours { term: row.try_get("", "term")? });
        }
        Ok(Lease::Others { free_in: Duration::from_micros(free_in.try_into().unwrap_or(0)) })
    }

    fn taking(&self, name: &str, holder: &str, length: Duration) -> Statement {
        let Some(now) = self.sqlite_clock() else {
            let microseconds = i64::try_from(length.as_micros()).unwrap_or(i64::MAX);
            let values = [holder.into(), holder.into(), microseconds.into(), name.into(), holder.into()];
            return self.lease_statement(MYSQL.take, values);
        };
        let until = TimeDelta::from_std(length).ok().and_then(|length| now.checked_add_signed(length));
        let (now, until) = (self.instant(now), self.instant(until.unwrap_or(DateTime::<Utc>::MAX_UTC)));
        let values = [holder.into(), now.clone(), holder.into(), until, name.into(), holder.into(), now];
        self.lease_statement(SQLITE.take, values)
    }

    fn words(&self) -> &'static Words {
        if self.backend == DbBackend::Sqlite { &SQLITE } else { &MYSQL }
    }

    /// The clock of a database that is part of this process; `None`: it has its own.
    fn sqlite_clock(&self) -> Option<DateTime<Utc>> {
        let now = || self.clock.as_ref().map_or_else(|| SystemClock.now(), |clock| clock.now());
        (self.backend == DbBackend::Sqlite).then(now)
    }

    fn sqlite_now(&self) -> Option<Value> {
        self.sqlite_clock().map(|now| self.instant(now))
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
        let statement = match self.sqlite_now() {
            Some(now) => self.lease_statement(SQLITE.release, [now, name.into(), holder.into()]),
            None => self.lease_statement(MYSQL.release, [name.into(), holder.into()]),
        };
        self.connection.execute_raw(statement).await.map_err(during("release the lease"))?;
        Ok(())
    }
}
