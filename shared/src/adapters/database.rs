//! MySQL, MariaDB and SQLite through SeaORM: one set of statements for all three.
//!
//! Rows are read column by column and never as whole models: a model would need `Debug`, and tokens must not have it.

mod asked;
mod attempt;
mod census;
mod claim;
mod commit;
mod connect;
mod error;
mod failure;
mod load;
mod scan;
mod sealed;
pub mod table;
mod value;

use std::sync::Arc;

use sea_orm::{DatabaseConnection, DbBackend};

pub use connect::DatabaseSettings;
pub use sealed::Sealing;

/// The store. Cheap to clone; clones share the pool.
#[derive(Clone)]
pub struct Database {
    connection: DatabaseConnection,
    backend: DbBackend,
    sealing: Option<Arc<Sealing>>,
    reads: Arc<load::Reads>,
    commits: Arc<commit::Commits>,
}

impl Database {
    /// The pool itself, for migrations.
    pub fn connection(&self) -> &DatabaseConnection {
        &self.connection
    }
}
