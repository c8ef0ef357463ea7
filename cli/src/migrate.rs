//! `freshet migrate`.

use std::process::ExitCode;

use freshet_shared::adapters::database::Database;
use freshet_shared::migrations::{self, IndexReport};

/// Migrates, and says what was done. Exit code 0 also where an index could not be created: it is a recommendation.
///
/// # Errors
/// If the platform's tables are missing or the database refuses.
#[expect(clippy::print_stdout, reason = "the report is what was asked for")]
pub async fn migrate(database: &Database, with_platform_tables: bool) -> anyhow::Result<ExitCode> {
    if with_platform_tables {
        migrations::platform::create_missing(database).await?;
    }
    let report = migrations::migrate(database).await?;
    for name in &report.applied {
        println!("applied {name}");
    }
    for (name, index) in &report.indexes {
        match index {
            IndexReport::Present => {}
            IndexReport::Created => println!("created index {name}"),
            IndexReport::NotCreated { statement, problem } => {
                println!(
                    "index {name} is recommended but could not be created ({problem}); let an administrator run:"
                );
                println!("  {statement};");
            }
        }
    }
    if report.is_unchanged() {
        println!("the database is as it should be; nothing was changed");
    }
    Ok(ExitCode::SUCCESS)
}
