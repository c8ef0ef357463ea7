//! A connection of the pool in the hands of one statement after another.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sea_orm::{DbErr, ExecResult, QueryResult, RuntimeErr, Statement};
use sqlx::mysql::{MySqlArguments, MySqlConnection};
use sqlx::pool::PoolConnection;
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Executor, MySql};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::arguments::arguments;
use super::silence::Silence;
use crate::adapters::database::error::is_end_of_session;

type Failing = fn(RuntimeErr) -> DbErr;

/// How long the pool may take to find out whether a connection that comes back is well, and a transaction to be rolled back.
const LONGEST_RETURN: Duration = Duration::from_secs(5);

/// Goes back into the pool where its last statement was answered, and is closed on the spot where it was not: an answer that
/// comes late would be taken for the next statement's, and nobody knows whether it comes at all.
pub(super) struct Lent {
    /// `None` only when it is given back.
    connection: Option<PoolConnection<MySql>>,
    silence: Arc<Silence>,
    is_answered: bool,
    /// Whether a transaction was begun and not committed.
    is_open: bool,
}

impl Lent {
    pub(super) fn new(connection: PoolConnection<MySql>, silence: Arc<Silence>) -> Self {
        Self { connection: Some(connection), silence, is_answered: true, is_open: false }
    }

    pub(super) async fn execute(&mut self, statement: Statement) -> Result<ExecResult, DbErr> {
        let executing = self.ask(DbErr::Exec, |connection| {
            async move { query(&statement)?.execute(connection).await }.boxed()
        });
        executing.await.map(ExecResult::from)
    }

    pub(super) async fn execute_unprepared(&mut self, text: String) -> Result<ExecResult, DbErr> {
        let executing = self.ask(DbErr::Exec, |connection| connection.execute(AssertSqlSafe(text)));
        executing.await.map(ExecResult::from)
    }

    pub(super) async fn query_one(&mut self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        let fetching = self.ask(DbErr::Query, |connection| {
            async move { query(&statement)?.fetch_optional(connection).await }.boxed()
        });
        Ok(fetching.await?.map(QueryResult::from))
    }

    pub(super) async fn query_all(&mut self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        let fetching = self.ask(DbErr::Query, |connection| {
            async move { query(&statement)?.fetch_all(connection).await }.boxed()
        });
        Ok(fetching.await?.into_iter().map(QueryResult::from).collect())
    }

    pub(super) async fn begin(&mut self) -> Result<(), DbErr> {
        self.is_open = true;
        self.execute_unprepared("BEGIN".to_owned()).await.map(drop)
    }

    pub(super) async fn commit(&mut self) -> Result<(), DbErr> {
        self.execute_unprepared("COMMIT".to_owned()).await?;
        self.is_open = false;
        Ok(())
    }

    /// Asks, and notes whether there was an answer. Whoever drops this before its end has none.
    async fn ask<T>(
        &mut self,
        failing: Failing,
        asking: impl for<'c> FnOnce(&'c mut MySqlConnection) -> BoxFuture<'c, Result<T, sqlx::Error>>,
    ) -> Result<T, DbErr> {
        let failed = |error| failing(RuntimeErr::SqlxError(Arc::new(error)));
        let Some(connection) = &mut self.connection else { return Err(failed(sqlx::Error::PoolClosed)) };
        self.is_answered = false;
        let result = asking(connection).await;
        self.is_answered = result.as_ref().err().is_none_or(is_answer);
        result.map_err(failed)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(mut connection) = self.connection.take() else { return };
        if !self.is_answered {
            self.silence.note();
        }
        let runtime = Handle::try_current().ok().filter(|_| self.is_answered);
        let Some(runtime) = runtime else {
            // Its place in the pool is free at once, and nothing is said to a server that may not listen. It rolls back what was
            // begun.
            drop(connection.detach());
            return;
        };
        if self.is_open {
            let mut lent = Self::new(connection, self.silence.clone());
            runtime.spawn(timeout(LONGEST_RETURN, async move {
                // Where it is not answered the connection is closed, which comes to the same.
                let _ = lent.execute_unprepared("ROLLBACK".to_owned()).await;
            }));
            return;
        }
        // By itself it would wait for the server's word without a limit, and hold its place in the pool meanwhile.
        runtime.spawn(timeout(LONGEST_RETURN, connection.return_to_pool()));
    }
}

/// Whether the connection is where it was before the statement: the server refused it, or we cannot read what it answered.
fn is_answer(error: &sqlx::Error) -> bool {
    let is_lost = matches!(
        error,
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed
    );
    !is_lost && !is_end_of_session(error)
}

fn query(statement: &Statement) -> Result<Query<'_, MySql, MySqlArguments>, sqlx::Error> {
    let arguments = arguments(statement.values.as_ref())?;
    Ok(sqlx::query_with(AssertSqlSafe(statement.sql.as_str()), arguments))
}
