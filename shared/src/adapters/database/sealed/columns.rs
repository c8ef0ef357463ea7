//! The columns as they stand, and writing them behind a compare-and-swap on their text.

use async_trait::async_trait;
use sea_orm::sea_query::{Alias, Expr, ExprTrait, Order, Query, SelectStatement, SimpleExpr};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult};

use super::super::Database;
use super::super::error::during;
use super::super::load::text;
use super::super::scan::has_channel;
use super::super::table::{Connection, TokenRefresh};
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
        let holds_what_was_read = self.bytes(text(stands(column))).eq(self.bytes(Expr::value(read.expose())));
        let mut statement = Query::update();
        match platforms(column) {
            Some(iden) => statement
                .table(Connection::Table)
                .value(iden, new.expose())
                .and_where(Expr::col((Connection::Table, Connection::Id)).eq(connection_id.0)),
            None => statement
                .table(TokenRefresh::Table)
                .value(TokenRefresh::KeptAnswer, new.expose())
                .and_where(Expr::col((TokenRefresh::Table, TokenRefresh::ConnectionId)).eq(connection_id.0)),
        };
        statement.and_where(holds_what_was_read);
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
    select.from(Connection::Table).left_join(
        TokenRefresh::Table,
        Expr::col((TokenRefresh::Table, TokenRefresh::ConnectionId))
            .equals((Connection::Table, Connection::Id)),
    );
    for column in columns {
        select.expr_as(text(stands(*column)), column.as_str());
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
        kept_answer: secret(row, SecretColumn::KeptAnswer)?,
    })
}

fn secret(row: &QueryResult, column: SecretColumn) -> Result<Option<Secret>, DbErr> {
    Ok(row.try_get::<Option<String>>("", column.as_str())?.map(Secret::new))
}

fn channel_of(index: usize) -> String {
    format!("channel_of_{index}")
}

/// Where it stands.
fn stands(column: SecretColumn) -> SimpleExpr {
    match platforms(column) {
        Some(iden) => Expr::col((Connection::Table, iden)),
        None => Expr::col((TokenRefresh::Table, TokenRefresh::KeptAnswer)),
    }
}

/// The platform's column; `None` for the one that is ours.
fn platforms(column: SecretColumn) -> Option<Connection> {
    match column {
        SecretColumn::AccessToken => Some(Connection::AccessToken),
        SecretColumn::RefreshToken => Some(Connection::RefreshToken),
        SecretColumn::InputFields => Some(Connection::InputFields),
        SecretColumn::KeptAnswer => None,
    }
}
