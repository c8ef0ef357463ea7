//! Which tokens a plan and a noted end belong to.

use sea_orm::DbErr;
use sea_orm::sea_query::{ColumnDef, Table};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait};

use super::companion_tables::time;
use crate::adapters::database::table::TokenRefresh;

/// Adds `token_refresh.noted_expiry` and `token_refresh.refresh_token_fingerprint`. The version before reads and writes the
/// table as ever; what it plans for a row that this version has stored a token for is judged by the window alone.
pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261125_000001_noted_tokens"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = [
            ("noted_expiry", time(manager.get_database_backend(), TokenRefresh::NotedExpiry)),
            (
                "refresh_token_fingerprint",
                ColumnDef::new(TokenRefresh::RefreshTokenFingerprint).string_len(32).to_owned(),
            ),
        ];
        // MySQL commits each statement by itself; a run that was cut off has to be able to go on.
        for (name, column) in columns {
            if !manager.has_column("token_refresh", name).await? {
                manager
                    .alter_table(Table::alter().table(TokenRefresh::Table).add_column(column).to_owned())
                    .await?;
            }
        }
        Ok(())
    }
}
