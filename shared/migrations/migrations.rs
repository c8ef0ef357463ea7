//! The companion tables and the recommended indexes. Migrations are additive: a version can run beside the one before.

mod companion_tables;
mod grants;
mod indexes;
mod kept_answers;
mod noted_tokens;
pub mod platform;
mod traces;

use sea_orm::{ConnectionTrait, DbErr};
use sea_orm_migration::{MigrationTrait, MigratorTrait};
use thiserror::Error;

use crate::adapters::database::Database;

pub use indexes::IndexReport;

/// Runs the migrations in order and remembers them in `freshet_migrations`.
struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(companion_tables::Migration),
            Box::new(grants::Migration),
            Box::new(kept_answers::Migration),
            Box::new(noted_tokens::Migration),
            Box::new(traces::Migration),
        ]
    }

    fn migration_table_name() -> sea_orm::DynIden {
        sea_orm::sea_query::IntoIden::into_iden("freshet_migrations")
    }
}

/// What a migration did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MigrationReport {
    /// Names of the migrations that were run.
    pub applied: Vec<String>,
    /// What became of each recommended index.
    pub indexes: Vec<(String, IndexReport)>,
}

impl MigrationReport {
    /// Whether the database was as it should be already.
    pub fn is_unchanged(&self) -> bool {
        self.applied.is_empty() && self.indexes.iter().all(|(_, report)| *report == IndexReport::Present)
    }
}

/// A migration that cannot be run.
#[derive(Debug, Error)]
pub enum MigrationError {
    /// The platform's tables are not there.
    #[error(
        "table `{0}` does not exist: database.url does not name the platform's database; for an empty one of your own run `freshet migrate --platform-tables`"
    )]
    NoPlatformTable(&'static str),
    /// The database refuses.
    #[error("the database refused the migration")]
    Database(#[from] DbErr),
}

/// Brings the database up to this version. The platform's own columns are never altered; a second run changes nothing, and
/// neither does one on the database of a later version.
///
/// # Errors
/// If the platform's tables are missing or the database refuses.
pub async fn migrate(database: &Database) -> Result<MigrationReport, MigrationError> {
    let connection = database.connection();
    let manager = sea_orm_migration::SchemaManager::new(connection);
    for table in ["ie_appinstall_connection", "channels"] {
        if !manager.has_table(table).await? {
            return Err(MigrationError::NoPlatformTable(table));
        }
    }
    if is_current(database).await? {
        // After a way back from a later version that one's migrations are there, too, of which the library would say that it
        // misses them.
        return Ok(MigrationReport { applied: Vec::new(), indexes: indexes::ensure(&manager).await? });
    }
    let pending = Migrator::get_pending_migrations(connection).await?;
    let applied: Vec<String> = pending.iter().map(|migration| migration.name().to_owned()).collect();
    Migrator::up(connection, None).await?;
    Ok(MigrationReport { applied, indexes: indexes::ensure(&manager).await? })
}

/// Whether the database has been migrated far enough for this version.
///
/// # Errors
/// If it cannot be read.
pub async fn is_current(database: &Database) -> Result<bool, DbErr> {
    let manager = sea_orm_migration::SchemaManager::new(database.connection());
    if !manager.has_table("freshet_migrations").await? {
        return Ok(false);
    }
    let statement =
        sea_orm::sea_query::Query::select().column("version").from("freshet_migrations").to_owned();
    let rows = database.connection().query_all(&statement).await?;
    let mut applied = Vec::with_capacity(rows.len());
    for row in &rows {
        applied.push(row.try_get::<String>("", "version")?);
    }
    Ok(Migrator::migrations().iter().all(|migration| applied.iter().any(|name| name == migration.name())))
}
