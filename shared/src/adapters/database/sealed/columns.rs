//! The columns as they stand, and writing them behind a compare-and-swap on their text.

use async_trait::async_trait;
use sea_orm::sea_query::{Alias, Expr, ExprTrait, Order, Query, SelectStatement, SimpleExpr};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult};

use super::super::Database;
use super::super::error::during;
use super::super::load::text;
use super::super::scan::has_channel;
use super::super::table::Connection;
use super::super::value::id;
use crate::domain::connection::ConnectionId;
use crate::domain::sealing::SecretColumn;
use crate::domain::secret::Secret;
use crate::ports::secrets::{SecretStore, StoredSecrets};
use crate::ports::store::StoreError;

#[async_trait]
impl SecretStore for Database {
    async fn secrets_after(
        &self,
        after: Option<ConnectionId>,
        limit: u32,
        integration_types: &[String],
    ) -> Result<Vec<StoredSecrets>, StoreError> {
        let operation = during("read stored secrets");
        let mut statement = select(&SecretColumn::ALL);
        statement.column(Connection::Id).order_by(Connection::Id, Order::Asc).limit(limit.into());
        for (index, integration_type) in integration_types.iter().enumerate() {
            // Compared by the database, as the scan's is, so that both mean the same under its collations.
            statement.expr_as(has_channel(integration_type), channel_of(index));
        }
        if let Some(after) = after {
            statement.and_where(Expr::col((Connection::Table, Connection::Id)).gt(after.0));
        }
        let rows = self.connection.query_all(&statement).await.map_err(&operation)?;
        rows.iter().map(|row| stored(row, integration_types).map_err(&operation)).collect()
    }

    async fn secret(
        &self,
        connection_id: ConnectionId,
        column: SecretColumn,
    ) -> Result<Option<Secret>, StoreError> {
        let operation = during("read a stored secret");
        let statement = select(&[column])
            .and_where(Expr::col((Connection::Table, Connection::Id)).eq(connection_id.0))
            .to_owned();
        let row = self.connection.query_one(&statement).await.map_err(&operation)?;
        row.map(|row| secret(&row, column).map_err(&operation)).transpose().map(Option::flatten)
    }

    async fn swap_secret(
        &self,
        connection_id: ConnectionId,
        column: SecretColumn,
        read: &Secret,
        new: &Secret,
    ) -> Result<bool, StoreError> {
        let stands = text(Expr::col((Connection::Table, iden(column))));
        let statement = Query::update()
            .table(Connection::Table)
            .value(iden(column), new.expose())
            .and_where(Expr::col((Connection::Table, Connection::Id)).eq(connection_id.0))
            .and_where(self.bytes(stands).eq(self.bytes(Expr::value(read.expose()))))
            .to_owned();
        let result = self.connection.execute(&statement).await.map_err(during("seal a stored secret"))?;
        Ok(result.rows_affected() > 0)
    }
}

impl Database {
    /// Byte by byte: under most collations `Token` equals `token`, and a space at the end does not count.
    fn bytes(&self, text: SimpleExpr) -> SimpleExpr {
        text.cast_as(Alias::new(match self.backend {
            DbBackend::Sqlite => "BLOB",
            _ => "BINARY",
        }))
    }
}

fn select(columns: &[SecretColumn]) -> SelectStatement {
    let mut select = Query::select();
    select.from(Connection::Table);
    for column in columns {
        let stands = Expr::col((Connection::Table, iden(*column)));
        select.expr_as(text(stands), column.as_str());
    }
    select
}

fn stored(row: &QueryResult, integration_types: &[String]) -> Result<StoredSecrets, DbErr> {
    let mut of = Vec::new();
    for (index, integration_type) in integration_types.iter().enumerate() {
        if row.try_get::<bool>("", &channel_of(index))? {
            of.push(integration_type.clone());
        }
    }
    Ok(StoredSecrets {
        connection_id: ConnectionId(id(row, "id")?),
        integration_types: of,
        access_token: secret(row, SecretColumn::AccessToken)?,
        refresh_token: secret(row, SecretColumn::RefreshToken)?,
        input_fields: secret(row, SecretColumn::InputFields)?,
    })
}

fn secret(row: &QueryResult, column: SecretColumn) -> Result<Option<Secret>, DbErr> {
    Ok(row.try_get::<Option<String>>("", column.as_str())?.map(Secret::new))
}

fn channel_of(index: usize) -> String {
    format!("channel_of_{index}")
}

fn iden(column: SecretColumn) -> Connection {
    match column {
        SecretColumn::AccessToken => Connection::AccessToken,
        SecretColumn::RefreshToken => Connection::RefreshToken,
        SecretColumn::InputFields => Connection::InputFields,
    }
}
