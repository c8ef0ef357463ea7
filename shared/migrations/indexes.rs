//! The indexes on the platform's tables that keep a scan's cost at what is due. Recommended, not required.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use sea_orm_migration::SchemaManager;

/// What became of a recommended index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum IndexReport {
    /// It, or one that begins with the same columns, is there already.
    Present,
    /// It was created.
    Created,
    /// It could not be created; the statement is for somebody who may.
    NotCreated {
        /// What to run.
        statement: String,
        /// What the database says.
        problem: String,
    },
}

struct Recommended {
    name: &'static str,
    table: &'static str,
    columns: &'static [&'static str],
}

const RECOMMENDED: [Recommended; 2] = [
    Recommended {
        name: "ix_freshet_connection_expiry",
        table: "ie_appinstall_connection",
        columns: &["isActive", "accessTokenExpiryAt", "id"],
    },
    Recommended {
        name: "ix_freshet_channel_connection",
        table: "channels",
        columns: &["connectionId", "integrationType"],
    },
];

/// Characters of a text column that go into an index; MySQL wants a number there.
const TEXT_PREFIX: u16 = 32;

pub(super) async fn ensure(manager: &SchemaManager<'_>) -> Result<Vec<(String, IndexReport)>, DbErr> {
    let mut reports = Vec::new();
    for index in &RECOMMENDED {
        let report = if is_present(manager, index).await? {
            IndexReport::Present
        } else {
            create(manager, index).await?
        };
        reports.push((format!("{}.{}", index.table, index.name), report));
    }
    Ok(reports)
}

/// By name or, because operators name indexes as they like, by its leading columns.
async fn is_present(manager: &SchemaManager<'_>, index: &Recommended) -> Result<bool, DbErr> {
    if manager.has_index(index.table, index.name).await? {
        return Ok(true);
    }
    if manager.get_database_backend() == DbBackend::Sqlite {
        return Ok(false);
    }
    let rows = manager
        .get_connection()
        .query_all_raw(Statement::from_sql_and_values(
            manager.get_database_backend(),
            "SELECT CAST(INDEX_NAME AS CHAR) AS name, CAST(COLUMN_NAME AS CHAR) AS part FROM information_schema.STATISTICS \
             WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? ORDER BY INDEX_NAME, SEQ_IN_INDEX",
            [index.table.into()],
        ))
        .await?;
    let mut columns: std::collections::BTreeMap<String, Vec<String>> = std::collections::BTreeMap::new();
    for row in &rows {
        columns.entry(row.try_get("", "name")?).or_default().push(row.try_get("", "part")?);
    }
    let wanted = index.columns;
    Ok(columns.values().any(|columns| {
        columns.len() >= wanted.len()
            && columns.iter().zip(wanted).all(|(column, wanted)| column.eq_ignore_ascii_case(wanted))
    }))
}

async fn create(manager: &SchemaManager<'_>, index: &Recommended) -> Result<IndexReport, DbErr> {
    let backend = manager.get_database_backend();
    let mut columns = Vec::new();
    for column in index.columns {
        let prefix = if needs_prefix(manager, index.table, column).await? {
            format!("({TEXT_PREFIX})")
        } else {
            String::new()
        };
        columns.push(match backend {
            DbBackend::Sqlite => format!("\"{column}\""),
            _ => format!("`{column}`{prefix}"),
        });
    }
    let statement = format!("CREATE INDEX {} ON {} ({})", index.name, index.table, columns.join(", "));
    match manager.get_connection().execute_unprepared(&statement).await {
        Ok(_) => Ok(IndexReport::Created),
        Err(error) => Ok(IndexReport::NotCreated { statement, problem: error.to_string() }),
    }
}

async fn needs_prefix(manager: &SchemaManager<'_>, table: &str, column: &str) -> Result<bool, DbErr> {
    let backend = manager.get_database_backend();
    if backend == DbBackend::Sqlite {
        return Ok(false);
    }
    let row = manager
        .get_connection()
        .query_one_raw(Statement::from_sql_and_values(
            backend,
            "SELECT CAST(DATA_TYPE AS CHAR) AS type FROM information_schema.COLUMNS \
             WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = ? AND COLUMN_NAME = ?",
            [table.into(), column.into()],
        ))
        .await?;
    let data_type: Option<String> = row.map(|row| row.try_get("", "type")).transpose()?;
    Ok(data_type.is_some_and(|data_type| data_type.ends_with("text") || data_type.ends_with("blob")))
}
