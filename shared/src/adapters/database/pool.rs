//! The pool, of whose statements each has an end: with an answer, or without one when its time is over.
//!
//! A server that stands still, or a network that lost its other half, closes no connection and says nothing. Whoever waits for it
//! without a limit waits for ever, and so does everybody who waits for the connection. SQLite is part of this process, and
//! answers whenever the process does.

mod arguments;
mod idleness;
mod lent;
mod silence;
mod transaction;

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr, Statement,
    TransactionTrait,
};
use tokio::time::timeout;

use super::error::no_answer;
pub(super) use idleness::Idleness;
use lent::Lent;
pub(super) use silence::Silence;
pub(super) use transaction::Transaction;

/// So much longer than another one may take what looks at the whole fleet: it is meant to be long.
const LONG: u32 = 20;

/// How long connections are said goodbye to. Whoever has not let go of one by then has no answer to hope for.
const LONGEST_GOODBYE: Duration = Duration::from_secs(2);

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct Pool {
    connections: DatabaseConnection,
    silence: Arc<Silence>,
    /// How long a statement may take, with the wait for its connection; `None`: as long as it likes.
    limit: Option<Duration>,
    /// The same for one that looks at the whole fleet.
    long_limit: Option<Duration>,
}

impl Pool {
    /// Whose statements may take as long as they like. `silence` is noted for the options of the connections.
    pub(super) fn of(connections: DatabaseConnection, silence: Arc<Silence>) -> Self {
        Self { connections, silence, limit: None, long_limit: None }
    }

    /// Gives each statement an end.
    pub(super) fn limited(self, limit: Duration) -> Self {
        Self { limit: Some(limit), long_limit: Some(limit.saturating_mul(LONG)), ..self }
    }

    /// Gives those statements that have an end an earlier one, unless they look at the whole fleet.
    pub(super) fn sooner(self, longest: Duration) -> Self {
        Self { limit: self.limit.map(|limit| limit.min(longest)), ..self }
    }

    /// For a statement that looks at the whole fleet.
    pub(super) fn patiently(&self) -> Self {
        Self { limit: self.long_limit, ..self.clone() }
    }

    /// How long a statement may take.
    pub(super) fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// Statements that come about together or not at all. By another name than SeaORM's, whose statements have no end.
    pub(super) async fn open_transaction(&self) -> Result<Transaction, DbErr> {
        if self.is_embedded() {
            return Ok(Transaction::embedded(self.connections.begin().await?));
        }
        let opening = async { Transaction::of_server(self.lend().await?, self.limit).await };
        within(self.limit, opening).await
    }

    /// Ends all connections after their statement, but does not wait for long for a server's.
    pub(super) async fn close(&self) {
        let closing = self.connections.close_by_ref();
        // A pool that is closed already, or does not come to an end, has nothing to say that anybody could act on.
        if self.is_embedded() {
            let _ = closing.await;
        } else {
            let _ = timeout(LONGEST_GOODBYE, closing).await;
        }
    }

    fn is_embedded(&self) -> bool {
        self.connections.get_database_backend() == DbBackend::Sqlite
    }

    async fn lend(&self) -> Result<Lent, DbErr> {
        let lending = self.connections.get_mysql_connection_pool().acquire().await;
        lending
            .map(|connection| Lent::new(connection, self.silence.clone()))
            .map_err(|error| DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error))))
    }
}

/// SeaORM's own: for SQLite's transactions and for migrations, whose statements have no end.
impl Deref for Pool {
    type Target = DatabaseConnection;

    fn deref(&self) -> &DatabaseConnection {
        &self.connections
    }
}

#[async_trait]
impl ConnectionTrait for Pool {
    fn get_database_backend(&self) -> DbBackend {
        self.connections.get_database_backend()
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        if self.is_embedded() {
            return self.connections.execute_raw(statement).await;
        }
        within(self.limit, async { self.lend().await?.execute(statement).await }).await
    }

    async fn execute_unprepared(&self, text: &str) -> Result<ExecResult, DbErr> {
        if self.is_embedded() {
            return self.connections.execute_unprepared(text).await;
        }
        within(self.limit, async { self.lend().await?.execute_unprepared(text.to_owned()).await }).await
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        if self.is_embedded() {
            return self.connections.query_one_raw(statement).await;
        }
        within(self.limit, async { self.lend().await?.query_one(statement).await }).await
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        if self.is_embedded() {
            return self.connections.query_all_raw(statement).await;
        }
        within(self.limit, async { self.lend().await?.query_all(statement).await }).await
    }
}

/// What this comes to, if it does so in time.
async fn within<T>(
    limit: Option<Duration>,
    work: impl Future<Output = Result<T, DbErr>>,
) -> Result<T, DbErr> {
    match limit {
        Some(limit) => timeout(limit, work).await.unwrap_or_else(|_| Err(no_answer(limit))),
        None => work.await,
    }
}
