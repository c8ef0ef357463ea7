//! The platform's own tables, for a database that has none: `freshet dev`, a small installation, tests.

use sea_orm::sea_query::{ColumnDef, Table, TableCreateStatement};
use sea_orm::{ConnectionTrait, DbErr};

use crate::adapters::database::Database;
use crate::adapters::database::table::{Channels, Connection};

/// Creates those of the platform's tables that are missing; one that is there is left as it is.
///
/// # Errors
/// If the database refuses.
pub async fn create_missing(database: &Database) -> Result<(), DbErr> {
    for statement in [connections(), channels()] {
        database.connection().execute(&statement).await?;
    }
    Ok(())
}

fn connections() -> TableCreateStatement {
    Table::create()
        .table(Connection::Table)
        .if_not_exists()
        .col(ColumnDef::new(Connection::Id).big_integer().not_null().auto_increment().primary_key())
        .col(ColumnDef::new(Connection::IsActive).string_len(16))
        .col(ColumnDef::new(Connection::AccessToken).text())
        .col(ColumnDef::new(Connection::RefreshToken).text())
        .col(ColumnDef::new(Connection::State).string_len(255))
        .col(ColumnDef::new(Connection::AuthorizationCode).text())
        .col(ColumnDef::new(Connection::AccessTokenGeneratedOn).date_time())
        .col(ColumnDef::new(Connection::AccessTokenExpiryAt).date_time())
        .col(ColumnDef::new(Connection::InputFields).json())
        .to_owned()
}

fn channels() -> TableCreateStatement {
    Table::create()
        .table(Channels::Table)
        .if_not_exists()
        .col(ColumnDef::new(Channels::Id).big_integer().not_null().auto_increment().primary_key())
        .col(ColumnDef::new(Channels::ConnectionId).big_integer())
        .col(ColumnDef::new(Channels::AccountId).big_integer())
        .col(ColumnDef::new(Channels::ChannelId).string_len(255))
        .col(ColumnDef::new(Channels::IntegrationType).string_len(32))
        .col(ColumnDef::new(Channels::AdditionalDetails).json())
        .to_owned()
}
