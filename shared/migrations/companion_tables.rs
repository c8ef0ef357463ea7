//! The first version of the companion tables.

use sea_orm::sea_query::{ColumnDef, Index, IndexCreateStatement, IntoIden, Table};
use sea_orm::{DbBackend, DbErr};
use sea_orm_migration::{MigrationName, MigrationTrait, SchemaManager, async_trait};

use crate::adapters::database::table::{ProducerLease, ProviderControl, RefreshAttempt, TokenRefresh};

/// Creates `token_refresh`, `producer_lease`, `provider_control` and `refresh_attempt`.
pub(super) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m20261121_000001_companion_tables"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let backend = manager.get_database_backend();
        let indexed = [
            ("token_refresh", token_refresh(backend), token_refresh_indexes()),
            ("refresh_attempt", refresh_attempt(backend), refresh_attempt_indexes()),
        ];
        for (name, mut table, indexes) in indexed {
            if backend != DbBackend::Sqlite {
                // Within its table an index needs no privilege but CREATE.
                for (_, index) in &indexes {
                    table.index(&mut index.clone());
                }
            }
            // MySQL commits each statement by itself; a run that was cut off has to be able to go on.
            manager.create_table(table).await?;
            for (index_name, index) in indexes {
                if !manager.has_index(name, index_name).await? {
                    manager.create_index(index).await?;
                }
            }
        }
        manager.create_table(producer_lease(backend)).await?;
        manager.create_table(provider_control(backend)).await
    }
}

fn token_refresh_indexes() -> Vec<(&'static str, IndexCreateStatement)> {
    let next_attempt = index("ix_token_refresh_next_attempt", TokenRefresh::Table)
        .col(TokenRefresh::NextAttemptAt)
        .col(TokenRefresh::ConnectionId)
        .to_owned();
    vec![("ix_token_refresh_next_attempt", next_attempt)]
}

fn refresh_attempt_indexes() -> Vec<(&'static str, IndexCreateStatement)> {
    let at = index("ix_refresh_attempt_at", RefreshAttempt::Table).col(RefreshAttempt::At).to_owned();
    let connection = index("ix_refresh_attempt_connection", RefreshAttempt::Table)
        .col(RefreshAttempt::ConnectionId)
        .col(RefreshAttempt::At)
        .to_owned();
    vec![("ix_refresh_attempt_at", at), ("ix_refresh_attempt_connection", connection)]
}

fn index<T: IntoIden>(name: &str, table: T) -> IndexCreateStatement {
    Index::create().name(name).table(table.into_iden()).to_owned()
}

/// A time with microseconds.
pub(super) fn time<C: IntoIden>(backend: DbBackend, column: C) -> ColumnDef {
    let mut definition = ColumnDef::new(column);
    match backend {
        DbBackend::Sqlite => definition.date_time(),
        _ => definition.custom("DATETIME(6)"),
    };
    definition
}

fn token_refresh(backend: DbBackend) -> sea_orm::sea_query::TableCreateStatement {
    let time = |column| time(backend, column);
    Table::create()
        .table(TokenRefresh::Table)
        .if_not_exists()
        .col(ColumnDef::new(TokenRefresh::ConnectionId).big_integer().not_null().primary_key())
        .col(ColumnDef::new(TokenRefresh::Generation).big_integer().not_null().default(0))
        .col(ColumnDef::new(TokenRefresh::State).string_len(16).not_null().default("active"))
        .col(time(TokenRefresh::RefreshAt))
        .col(time(TokenRefresh::NextAttemptAt))
        .col(time(TokenRefresh::QueuedUntil))
        .col(ColumnDef::new(TokenRefresh::ClaimId).big_integer())
        .col(ColumnDef::new(TokenRefresh::LeaseOwner).string_len(64))
        .col(time(TokenRefresh::LeaseUntil))
        .col(ColumnDef::new(TokenRefresh::AttemptId).string_len(36))
        .col(time(TokenRefresh::AttemptSentAt))
        .col(ColumnDef::new(TokenRefresh::Failures).integer().not_null().default(0))
        .col(ColumnDef::new(TokenRefresh::GrantFailures).integer().not_null().default(0))
        .col(ColumnDef::new(TokenRefresh::FailureClass).string_len(32))
        .col(ColumnDef::new(TokenRefresh::FailureDetail).string_len(500))
        .col(ColumnDef::new(TokenRefresh::LifetimeS).big_integer())
        .col(time(TokenRefresh::RefreshTokenExpiresAt))
        .col(time(TokenRefresh::LastSuccessAt))
        .to_owned()
}

fn producer_lease(backend: DbBackend) -> sea_orm::sea_query::TableCreateStatement {
    Table::create()
        .table(ProducerLease::Table)
        .if_not_exists()
        .col(ColumnDef::new(ProducerLease::Name).string_len(64).not_null().primary_key())
        .col(ColumnDef::new(ProducerLease::Holder).string_len(64).not_null())
        .col(ColumnDef::new(ProducerLease::Term).big_integer().not_null())
        .col(time(backend, ProducerLease::ExpiresAt).not_null())
        .to_owned()
}

fn provider_control(backend: DbBackend) -> sea_orm::sea_query::TableCreateStatement {
    Table::create()
        .table(ProviderControl::Table)
        .if_not_exists()
        .col(ColumnDef::new(ProviderControl::Provider).string_len(64).not_null().primary_key())
        .col(ColumnDef::new(ProviderControl::Paused).boolean().not_null().default(false))
        .col(ColumnDef::new(ProviderControl::PausedBy).string_len(128))
        .col(ColumnDef::new(ProviderControl::Reason).string_len(500))
        .col(time(backend, ProviderControl::UpdatedAt))
        .to_owned()
}

fn refresh_attempt(backend: DbBackend) -> sea_orm::sea_query::TableCreateStatement {
    Table::create()
        .table(RefreshAttempt::Table)
        .if_not_exists()
        .col(ColumnDef::new(RefreshAttempt::Id).big_integer().not_null().auto_increment().primary_key())
        .col(ColumnDef::new(RefreshAttempt::ConnectionId).big_integer().not_null())
        .col(ColumnDef::new(RefreshAttempt::Generation).big_integer().not_null())
        .col(time(backend, RefreshAttempt::At).not_null())
        .col(ColumnDef::new(RefreshAttempt::Outcome).string_len(16).not_null())
        .col(ColumnDef::new(RefreshAttempt::FailureClass).string_len(32))
        .col(ColumnDef::new(RefreshAttempt::FailureDetail).string_len(500))
        .to_owned()
}
