//! Statements that come about together or not at all, each with an end.

use std::time::Duration;

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, Statement};
use tokio::sync::Mutex;

use super::lent::Lent;
use super::within;

/// Rolled back where it is dropped before it is committed.
pub(in crate::adapters::database) struct Transaction(Kind);

enum Kind {
    Embedded(DatabaseTransaction),
    Server(Open),
}

/// On a server, with an end for each of its statements.
struct Open {
    /// One statement after another.
    connection: Mutex<Lent>,
    limit: Option<Duration>,
}

impl Transaction {
    pub(super) fn embedded(transaction: DatabaseTransaction) -> Self {
        Self(Kind::Embedded(transaction))
    }

    pub(super) async fn of_server(mut connection: Lent, limit: Option<Duration>) -> Result<Self, DbErr> {
        connection.begin().await?;
        Ok(Self(Kind::Server(Open { connection: Mutex::new(connection), limit })))
    }

    pub(in crate::adapters::database) async fn commit(self) -> Result<(), DbErr> {
        match self.0 {
            Kind::Embedded(transaction) => transaction.commit().await,
            Kind::Server(mut open) => within(open.limit, open.connection.get_mut().commit()).await,
        }
    }
}

#[async_trait]
impl ConnectionTrait for Transaction {
    fn get_database_backend(&self) -> DbBackend {
        match &self.0 {
            Kind::Embedded(transaction) => transaction.get_database_backend(),
            Kind::Server(_) => DbBackend::MySql,
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match &self.0 {
            Kind::Embedded(transaction) => transaction.execute_raw(statement).await,
            Kind::Server(open) => {
                within(open.limit, async { open.connection.lock().await.execute(statement).await }).await
            }
        }
    }

    async fn execute_unprepared(&self, text: &str) -> Result<ExecResult, DbErr> {
        match &self.0 {
            Kind::Embedded(transaction) => transaction.execute_unprepared(text).await,
            Kind::Server(open) => {
                let execute =
                    async { open.connection.lock().await.execute_unprepared(text.to_owned()).await };
                within(open.limit, execute).await
            }
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match &self.0 {
            Kind::Embedded(transaction) => transaction.query_one_raw(statement).await,
            Kind::Server(open) => {
                within(open.limit, async { open.connection.lock().await.query_one(statement).await }).await
            }
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match &self.0 {
            Kind::Embedded(transaction) => transaction.query_all_raw(statement).await,
            Kind::Server(open) => {
                within(open.limit, async { open.connection.lock().await.query_all(statement).await }).await
            }
        }
    }
}
