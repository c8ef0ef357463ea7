//! What grants with refresh tokens, and plans for tokens of any life, need beside the first tables.

use sea_orm::DbErr;
use sea_orm::sea_query::{ColumnDef, Index, Table};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait};

use crate::adapters::database::table::TokenRefresh;

/// Adds `token_refresh.waiting_fingerprint`, `token_refresh.attempt_grant` and the indexes by which plans and ending refresh tokens are found. The version
/// before reads and writes the table as ever.
pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261122_000001_grants"
    }
}

const TABLE: &str = "token_refresh";

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // MySQL commits each statement by itself; a run that was cut off has to be able to go on.
        let columns = [
            ("waiting_fingerprint", TokenRefresh::WaitingFingerprint),
            ("attempt_grant", TokenRefresh::AttemptGrant),
        ];
        for (name, column) in columns {
            if manager.has_column(TABLE, name).await? {
                continue;
            }
            let column = ColumnDef::new(column).string_len(32).to_owned();
            manager
                .alter_table(Table::alter().table(TokenRefresh::Table).add_column(column).to_owned())
                .await?;
        }
        let indexes = [
            ("ix_token_refresh_refresh_at", TokenRefresh::RefreshAt),
            ("ix_token_refresh_grant_end", TokenRefresh::RefreshTokenExpiresAt),
        ];
        for (name, column) in indexes {
            if !manager.has_index(TABLE, name).await? {
                let index = Index::create()
                    .name(name)
                    .table(TokenRefresh::Table)
                    .col(column)
                    .col(TokenRefresh::ConnectionId)
                    .to_owned();
                manager.create_index(index).await?;
            }
        }
        Ok(())
    }
}
