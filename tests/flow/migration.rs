//! `freshet migrate` on databases as they may be found.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use freshet_shared::adapters::database::{Database, DatabaseSettings};
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::secret::Secret;
use freshet_shared::migrations::{self, IndexReport, MigrationError};
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};
use reqwest::Url;
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use uuid::Uuid;

const EXPIRY_INDEX: &str = "ie_appinstall_connection.ix_freshet_connection_expiry";
const CHANNEL_INDEX: &str = "channels.ix_freshet_channel_connection";
const MIGRATIONS: [&str; 5] = [
    "m20261121_000001_companion_tables",
    "m20261122_000001_grants",
    "m20261125_000001_kept_answers",
    "m20261125_000001_noted_tokens",
    "m20261125_000001_traces",
];
const COMPANIONS: [&str; 4] = ["producer_lease", "provider_control", "refresh_attempt", "token_refresh"];

#[tokio::test]
async fn without_the_platforms_tables_it_says_what_to_do() -> Result<()> {
    let fleet = TestFleet::found_without_tables(|_| ()).await?;
    let refused = migrations::migrate(&fleet.store).await.err().context("it migrated nothing")?;
    assert!(matches!(refused, MigrationError::NoPlatformTable("ie_appinstall_connection")), "{refused:?}");
    assert!(refused.to_string().contains("freshet migrate --platform-tables"), "{refused}");
    assert_eq!(tables(&fleet).await?, Vec::<String>::new(), "nothing was created");
    fleet.dissolve().await
}

#[tokio::test]
async fn an_unmigrated_database_is_refused_at_the_start_of_both_sides() -> Result<()> {
    let fleet = TestFleet::found_without_tables(|_| ()).await?;
    for with_platform_tables in [false, true] {
        if with_platform_tables {
            migrations::platform::create_missing(&fleet.store).await?;
        }
        let producer = fleet.producer().await.err().context("the producer started")?;
        let worker = fleet.worker().await.err().context("the worker started")?;
        for refused in [producer, worker] {
            assert!(format!("{refused:#}").contains("run `freshet migrate`"), "{refused:#}");
        }
    }
    fleet.dissolve().await
}

#[tokio::test]
async fn it_adds_tables_and_indexes_once_and_leaves_the_platforms_columns_alone() -> Result<()> {
    let fleet = TestFleet::found_without_tables(|_| ()).await?;
    migrations::platform::create_missing(&fleet.store).await?;
    let before = platform_columns(&fleet).await?;
    assert!(!migrations::is_current(&fleet.store).await?);
    let report = migrations::migrate(&fleet.store).await?;
    assert_eq!(report.applied, MIGRATIONS);
    let created = |name: &str| (name.to_owned(), IndexReport::Created);
    assert_eq!(report.indexes, [created(EXPIRY_INDEX), created(CHANNEL_INDEX)]);
    assert!(!report.is_unchanged());
    assert!(migrations::is_current(&fleet.store).await?);
    assert_eq!(platform_columns(&fleet).await?, before);
    let mut expected = vec!["channels", "freshet_migrations", "ie_appinstall_connection"];
    expected.extend(COMPANIONS);
    expected.sort_unstable();
    assert_eq!(tables(&fleet).await?, expected);
    assert_eq!(
        indexes(&fleet).await?,
        [
            "channels.ix_freshet_channel_connection(connectionId,integrationType)",
            "ie_appinstall_connection.ix_freshet_connection_expiry(isActive,accessTokenExpiryAt,id)",
            "refresh_attempt.ix_refresh_attempt_at(at)",
            "refresh_attempt.ix_refresh_attempt_connection(connection_id,at)",
            "token_refresh.ix_token_refresh_grant_end(refresh_token_expires_at,connection_id)",
            "token_refresh.ix_token_refresh_next_attempt(next_attempt_at,connection_id)",
            "token_refresh.ix_token_refresh_refresh_at(refresh_at,connection_id)",
        ]
    );

    let second = migrations::migrate(&fleet.store).await?;
    assert!(second.is_unchanged(), "{second:?}");
    assert_eq!(platform_columns(&fleet).await?, before);
    fleet.dissolve().await
}

#[tokio::test]
async fn a_text_column_is_indexed_by_its_beginning() -> Result<()> {
    let fleet = TestFleet::found_without_tables(|_| ()).await?;
    migrations::platform::create_missing(&fleet.store).await?;
    fleet.execute("ALTER TABLE ie_appinstall_connection MODIFY isActive TEXT NULL", []).await?;
    fleet.execute("ALTER TABLE channels MODIFY integrationType LONGTEXT NULL", []).await?;
    let report = migrations::migrate(&fleet.store).await?;
    assert!(report.indexes.iter().all(|(_, index)| *index == IndexReport::Created), "{report:?}");
    let found = indexes(&fleet).await?;
    assert_eq!(
        found[..2],
        [
            "channels.ix_freshet_channel_connection(connectionId,integrationType:32)",
            "ie_appinstall_connection.ix_freshet_connection_expiry(isActive:32,accessTokenExpiryAt,id)",
        ]
    );
    assert!(migrations::migrate(&fleet.store).await?.is_unchanged());
    fleet.add([NewConnection::fynd(1, 300)]).await?;
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, 1);
    assert_eq!(fleet.work_off(1).await?[0].outcome.as_str(), "refreshed");
    fleet.dissolve().await
}

#[tokio::test]
async fn an_index_of_another_name_that_serves_is_accepted_and_one_that_does_not_is_not() -> Result<()> {
    let fleet = TestFleet::found_without_tables(|_| ()).await?;
    migrations::platform::create_missing(&fleet.store).await?;
    let serves = "CREATE INDEX theirs ON ie_appinstall_connection (isActive, accessTokenExpiryAt, id, state)";
    fleet.execute(serves, []).await?;
    // The other way round it helps nobody who looks for a connection's channels.
    fleet.execute("CREATE INDEX theirs ON channels (integrationType, connectionId)", []).await?;
    let report = migrations::migrate(&fleet.store).await?;
    assert_eq!(
        report.indexes,
        [(EXPIRY_INDEX.to_owned(), IndexReport::Present), (CHANNEL_INDEX.to_owned(), IndexReport::Created)]
    );
    fleet.dissolve().await
}

#[tokio::test]
async fn a_run_that_was_cut_off_goes_on() -> Result<()> {
    let fleet = TestFleet::found().await?;
    let complete = (tables(&fleet).await?, indexes(&fleet).await?);
    fleet.add([NewConnection::fynd(1, 300)]).await?;
    fleet.scan(Lane::Urgent).await?;
    fleet.work_off(1).await?;
    let stored = fleet.stored(1).await?;
    // Cut off after the first table, and once more before its index.
    for statement in [
        "DELETE FROM freshet_migrations",
        "DROP TABLE refresh_attempt, producer_lease, provider_control",
        "DROP INDEX ix_token_refresh_next_attempt ON token_refresh",
    ] {
        fleet.execute(statement, []).await?;
    }
    assert!(!migrations::is_current(&fleet.store).await?);
    let report = migrations::migrate(&fleet.store).await?;
    assert_eq!(report.applied, MIGRATIONS);
    assert_eq!((tables(&fleet).await?, indexes(&fleet).await?), complete);
    assert_eq!(fleet.stored(1).await?, stored, "what was there is kept");
    assert!(migrations::is_current(&fleet.store).await?);
    fleet.dissolve().await
}

#[tokio::test]
async fn who_may_not_index_is_told_the_statement_and_the_rest_works() -> Result<()> {
    let mut fleet = TestFleet::found_without_tables(|_| ()).await?;
    migrations::platform::create_missing(&fleet.store).await?;
    let user = format!("freshet_{}", &Uuid::new_v4().simple().to_string()[..12]);
    let database = fleet.database.name().to_owned();
    fleet.execute(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'limited'"), []).await?;
    let outcome = async {
        let grant = format!("GRANT SELECT, INSERT, UPDATE, DELETE, CREATE ON `{database}`.* TO '{user}'@'%'");
        fleet.execute(&grant, []).await?;
        // Its own table it may change. A server without `CREATE` in the same grant wants the table to be there.
        let own = format!("GRANT CREATE, ALTER, INDEX ON `{database}`.token_refresh TO '{user}'@'%'");
        fleet.execute(&own, []).await?;
        let history = format!("GRANT CREATE, ALTER ON `{database}`.refresh_attempt TO '{user}'@'%'");
        fleet.execute(&history, []).await?;
        with_limited_rights(&mut fleet, &user).await
    }
    .await;
    fleet.execute(&format!("DROP USER '{user}'@'%'"), []).await?;
    outcome?;
    fleet.dissolve().await
}

async fn with_limited_rights(fleet: &mut TestFleet, user: &str) -> Result<()> {
    let mut url = Url::parse(&fleet.database.url())?;
    ensure!(url.set_username(user).is_ok() && url.set_password(Some("limited")).is_ok(), "no user in a URL");
    let limited = connect(url.as_str()).await?;
    let report = migrations::migrate(&limited).await?;
    assert_eq!(report.applied, MIGRATIONS);
    let statements = [
        (
            EXPIRY_INDEX,
            "CREATE INDEX ix_freshet_connection_expiry ON ie_appinstall_connection (`isActive`, `accessTokenExpiryAt`, `id`)",
        ),
        (
            CHANNEL_INDEX,
            "CREATE INDEX ix_freshet_channel_connection ON channels (`connectionId`, `integrationType`)",
        ),
    ];
    for ((name, index), (expected, advised)) in report.indexes.iter().zip(statements) {
        assert_eq!(name, expected);
        let IndexReport::NotCreated { statement, problem } = index else {
            anyhow::bail!("{name}: {index:?}");
        };
        assert_eq!(statement, advised);
        assert!(problem.contains("INDEX command denied"), "{problem}");
        assert!(!problem.contains("limited"), "{problem}");
    }
    assert!(migrations::is_current(&limited).await?);
    let own = indexes(fleet).await?;
    assert_eq!(own.len(), 5, "those of its own tables are there: {own:?}");

    fleet.environment.insert("FRESHET_DATABASE__URL".into(), url.into());
    fleet.add([NewConnection::fynd(1, 300)]).await?;
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, 1);
    assert_eq!(fleet.work_off(1).await?[0].outcome.as_str(), "refreshed");

    // An administrator runs what was advised.
    for (_, statement) in statements {
        fleet.execute(statement, []).await?;
    }
    assert!(migrations::migrate(&limited).await?.is_unchanged());
    limited.close().await;
    Ok(())
}

#[tokio::test]
async fn a_file_of_sqlite_is_migrated_alike() -> Result<()> {
    let file = SqliteFile::new();
    let database = connect(&file.url()).await?;
    let refused = migrations::migrate(&database).await.err().context("it migrated nothing")?;
    assert!(matches!(refused, MigrationError::NoPlatformTable(_)), "{refused:?}");
    migrations::platform::create_missing(&database).await?;
    let report = migrations::migrate(&database).await?;
    assert!(report.indexes.iter().all(|(_, index)| *index == IndexReport::Created), "{report:?}");
    assert_eq!(report.applied, MIGRATIONS);
    let names = sqlite_names(&database).await?;
    for name in COMPANIONS.into_iter().chain([
        "ix_freshet_channel_connection",
        "ix_freshet_connection_expiry",
        "ix_refresh_attempt_at",
        "ix_refresh_attempt_connection",
        "ix_token_refresh_grant_end",
        "ix_token_refresh_next_attempt",
        "ix_token_refresh_refresh_at",
    ]) {
        assert!(names.iter().any(|found| found == name), "{name} is not among {names:?}");
    }
    assert!(migrations::migrate(&database).await?.is_unchanged());
    database.close().await;

    // It stays in the file.
    let again = connect(&file.url()).await?;
    assert!(migrations::is_current(&again).await?);
    assert_eq!(sqlite_names(&again).await?, names);
    again.close().await;
    Ok(())
}

/// A file that goes with the test, and SQLite's own files beside it.
struct SqliteFile(PathBuf);

impl SqliteFile {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("freshet-test-{}.db", Uuid::new_v4().simple())))
    }

    fn url(&self) -> String {
        format!("sqlite://{}?mode=rwc", self.0.display())
    }
}

impl Drop for SqliteFile {
    fn drop(&mut self) {
        for suffix in ["", "-wal", "-shm"] {
            // Not every one of them is there.
            let _ = std::fs::remove_file(format!("{}{suffix}", self.0.display()));
        }
    }
}

async fn connect(url: &str) -> Result<Database> {
    let settings = DatabaseSettings { url: Secret::new(url), max_connections: 2, acquire_timeout: PATIENCE };
    Ok(Database::connect(settings).await?)
}

async fn sqlite_names(database: &Database) -> Result<Vec<String>> {
    let query = "SELECT name FROM sqlite_master ORDER BY name";
    let rows = database.connection().query_all_raw(Statement::from_string(DbBackend::Sqlite, query)).await?;
    rows.iter().map(|row| Ok(row.try_get("", "name")?)).collect()
}

/// The one column of a query, as texts.
async fn texts(fleet: &TestFleet, query: &str) -> Result<Vec<String>> {
    let statement = Statement::from_string(DbBackend::MySql, query);
    let rows = fleet.store.connection().query_all_raw(statement).await?;
    rows.iter().map(|row| Ok(row.try_get_by_index(0)?)).collect()
}

async fn tables(fleet: &TestFleet) -> Result<Vec<String>> {
    let query = "SELECT CAST(TABLE_NAME AS CHAR) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() ORDER BY 1";
    texts(fleet, query).await
}

async fn platform_columns(fleet: &TestFleet) -> Result<Vec<String>> {
    let query = "SELECT CAST(CONCAT_WS(' ', TABLE_NAME, ORDINAL_POSITION, COLUMN_NAME, COLUMN_TYPE, IS_NULLABLE, \
         COLUMN_DEFAULT, EXTRA, CHARACTER_SET_NAME, COLLATION_NAME) AS CHAR) FROM information_schema.COLUMNS \
         WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN ('channels', 'ie_appinstall_connection') ORDER BY 1";
    let columns = texts(fleet, query).await?;
    ensure!(columns.len() == 15, "{columns:?}");
    Ok(columns)
}

/// As `table.index(column:prefix,…)`, without the primary keys.
async fn indexes(fleet: &TestFleet) -> Result<Vec<String>> {
    let query = "SELECT CAST(CONCAT(TABLE_NAME, '.', INDEX_NAME, '(', GROUP_CONCAT(CONCAT_WS(':', COLUMN_NAME, SUB_PART) \
         ORDER BY SEQ_IN_INDEX), ')') AS CHAR) FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = DATABASE() \
         AND INDEX_NAME <> 'PRIMARY' GROUP BY TABLE_NAME, INDEX_NAME ORDER BY 1";
    texts(fleet, query).await
}
