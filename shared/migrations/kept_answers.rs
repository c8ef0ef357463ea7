//! Where the raw answer of a provider waits that could not be read or stored.

use sea_orm::sea_query::{ColumnDef, Table};
use sea_orm::{DbBackend, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait};

use crate::adapters::database::table::TokenRefresh;

/// Adds `token_refresh.kept_answer`. The version before reads and writes the table as ever.
pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261125_000001_kept_answers"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // MySQL commits each statement by itself; a run that was cut off has to be able to go on.
        if manager.has_column("token_refresh", "kept_answer").await? {
            return Ok(());
        }
        let mut column = ColumnDef::new(TokenRefresh::KeptAnswer);
        match manager.get_database_backend() {
            DbBackend::Sqlite => column.text(),
            // An answer may be larger than 64 kB, and is sealed in base64.
            _ => column.custom("MEDIUMTEXT"),
        };
        manager.alter_table(Table::alter().table(TokenRefresh::Table).add_column(column).to_owned()).await
    }
}
