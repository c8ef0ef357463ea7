//! What leads from a row to the trace of its last attempt, and from a retry to the attempt before it.

use sea_orm::DbErr;
use sea_orm::sea_query::{ColumnDef, Table};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait};

use crate::adapters::database::table::{RefreshAttempt, TokenRefresh};

/// Adds `token_refresh.last_trace` (a W3C `traceparent`) and `refresh_attempt.trace_id`. The version before reads and writes
/// both tables as ever.
pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261125_000001_traces"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let last_trace = ColumnDef::new(TokenRefresh::LastTrace).string_len(55).to_owned();
        let trace_id = ColumnDef::new(RefreshAttempt::TraceId).string_len(32).to_owned();
        let columns = [
            (
                "token_refresh",
                "last_trace",
                Table::alter().table(TokenRefresh::Table).add_column(last_trace).to_owned(),
            ),
            (
                "refresh_attempt",
                "trace_id",
                Table::alter().table(RefreshAttempt::Table).add_column(trace_id).to_owned(),
            ),
        ];
        for (table, column, add) in columns {
            // MySQL commits each statement by itself; a run that was cut off has to be able to go on.
            if !manager.has_column(table, column).await? {
                manager.alter_table(add).await?;
            }
        }
        Ok(())
    }
}
