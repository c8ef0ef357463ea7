//! On SQLite; real MariaDB is in `tests/flow`.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::*;
use crate::adapters::database::DatabaseSettings;
use crate::adapters::embedded::clock::SeededRandomness;
use crate::domain::connection::Generation;
use crate::domain::connection::LoadedConnection;
use crate::migrations;
use crate::ports::secrets::SecretStore;
use crate::ports::store::{Commit, Committed, RefreshStore};

const KEY: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn keys(primary: &str) -> Arc<Sealing> {
    let text = format!("primary = \"{primary}\"\n[keys]\nk1 = \"{KEY}\"\n");
    let keys = KeyRing::parse("keys.toml", &Secret::new(text)).ok().unwrap();
    Arc::new(Sealing::new(keys, Arc::new(SeededRandomness::new(1))))
}

/// Two connections of Fynd with tokens in plain text.
async fn database() -> Database {
    let settings = DatabaseSettings {
        url: Secret::new("sqlite::memory:"),
        max_connections: 1,
        acquire_timeout: Duration::from_secs(60),
    };
    let database = Database::connect(settings).await.unwrap();
    migrations::platform::create_missing(&database).await.unwrap();
    migrations::migrate(&database).await.unwrap();
    for statement in [
        r#"INSERT INTO ie_appinstall_connection (id, isActive, accessToken, inputFields) VALUES
           (1, 'active', 'plain-1', '{"user":"a","password":"b"}'), (2, 'active', 'plain-2', '{"user":"c"}')"#,
        "INSERT INTO channels (connectionId, integrationType) VALUES (1, '15'), (1, '15'), (2, '16')",
        "INSERT INTO token_refresh (connection_id, failures) VALUES (1, 3), (2, 0)",
    ] {
        execute(&database, statement).await;
    }
    database
}

async fn execute(database: &Database, statement: &str) {
    database.connection().execute_unprepared(statement).await.unwrap();
}

async fn stored(database: &Database, id: i64) -> String {
    let statement = format!("SELECT accessToken FROM ie_appinstall_connection WHERE id = {id}");
    let row = database.connection().query_one_raw(Statement::from_string(DbBackend::Sqlite, statement)).await;
    row.unwrap().unwrap().try_get_by_index(0).unwrap()
}

async fn load(database: &Database, id: i64) -> Result<LoadedConnection, StoreError> {
    database.load(ConnectionId(id), "fynd", None).await.map(Option::unwrap)
}

fn token(loaded: Result<LoadedConnection, StoreError>) -> String {
    let loaded = loaded.unwrap_or_else(|error| panic!("{error}"));
    loaded.access_token.unwrap().expose().to_owned()
}

async fn commit(database: &Database, id: i64, token: &str) {
    let loaded = load(database, id).await.ok().unwrap();
    let commit = Commit {
        connection_id: ConnectionId(id),
        spent: Generation::FIRST,
        loaded_expiry: None,
        loaded_token: loaded.stored_token,
        loaded_grant: loaded.stored_grant,
        access_token: Secret::new(token),
        generated_at: DateTime::UNIX_EPOCH + TimeDelta::days(20_000),
        expires_at: Some(DateTime::UNIX_EPOCH + TimeDelta::days(20_001)),
        lifetime: Some(TimeDelta::days(1)),
        refresh_token: Some(Secret::new(format!("refresh-{token}"))),
        refresh_token_expires_at: None,
        refresh_token_fingerprint: None,
        refresh_at: None,
    };
    assert_eq!(database.commit(&commit).await, Ok(Committed::Applied(Generation(1))));
}

#[tokio::test]
async fn a_token_is_sealed_on_its_way_in_and_plain_on_its_way_out() {
    let database = database().await.with_sealing(Some(keys("k1")));
    assert_eq!(token(load(&database, 1).await), "plain-1", "plain rows stay readable");
    commit(&database, 1, "s3cret").await;
    let text = stored(&database, 1).await;
    assert!(text.starts_with("freshet:1:k1:") && !text.contains("s3cret"), "{text}");
    let loaded = load(&database, 1).await.ok().unwrap();
    assert_eq!(loaded.refresh_token.as_ref().unwrap().expose(), "refresh-s3cret");
    assert_eq!(token(Ok(loaded)), "s3cret");
    let under = database.secret(ConnectionId(1), SecretColumn::RefreshToken).await.ok().unwrap().unwrap();
    assert!(under.expose().starts_with("freshet:1:k1:"));
    let reading = database.with_sealing(Some(keys("")));
    assert_eq!(token(load(&reading, 1).await), "s3cret", "without a primary key it still opens");
    commit(&reading, 2, "next").await;
    assert_eq!(stored(&reading, 2).await, "next");
}

#[tokio::test]
async fn a_secret_that_does_not_open_is_an_error_that_names_it() {
    let database = database().await.with_sealing(Some(keys("k1")));
    commit(&database, 1, "s3cret").await;
    execute(
        &database,
        "UPDATE ie_appinstall_connection SET accessToken = \
         (SELECT accessToken FROM ie_appinstall_connection WHERE id = 1) WHERE id = 2",
    )
    .await;
    let check = |error: StoreError, words: &[&str], before: u32| {
        let StoreError::UnreadableSecret { problem, failures, .. } = error else { panic!("{error}") };
        assert_eq!(failures, before);
        words.iter().for_each(|word| assert!(problem.contains(word), "no `{word}` in: {problem}"));
        assert!(!problem.contains("s3cret"), "{problem}");
    };
    let copied = load(&database, 2).await.err().unwrap();
    check(copied, &["accessToken of connection 2", "`k1`", "copied from another place"], 0);
    execute(&database, "UPDATE token_refresh SET failures = 3").await;
    let keyless = database.clone().with_sealing(None);
    let keyless = load(&keyless, 1).await.err().unwrap();
    check(keyless, &["accessToken of connection 1", "`k1`", "encryption.key_file"], 3);
    let fields = r#"{"password":"freshet:1:k1:AAAA"}"#;
    let statement = format!(
        "UPDATE ie_appinstall_connection SET accessToken = 'plain', inputFields = '{fields}' WHERE id = 2"
    );
    execute(&database, &statement).await;
    let cut = load(&database, 2).await.err().unwrap();
    check(cut, &["inputFields.password of connection 2"], 3);
}

#[tokio::test]
async fn stored_secrets_come_in_pages_with_the_channels_that_matter() {
    let database = database().await;
    let types = ["15".to_owned(), "17".to_owned()];
    let page = database.secrets_after(None, 1, &types).await.ok().unwrap();
    assert_eq!(page.len(), 1);
    assert_eq!((page[0].connection_id.0, page[0].integration_types.as_slice()), (1, &types[..1]));
    assert_eq!(page[0].access_token.as_ref().unwrap().expose(), "plain-1");
    assert!(page[0].refresh_token.is_none());
    let next = database.secrets_after(Some(ConnectionId(1)), 9, &types).await.ok().unwrap();
    assert_eq!(next.len(), 1);
    assert!(next[0].integration_types.is_empty() && next[0].input_fields.is_some());
    assert!(database.secrets_after(Some(ConnectionId(2)), 9, &types).await.ok().unwrap().is_empty());
}

#[tokio::test]
async fn a_column_is_swapped_only_if_it_holds_exactly_what_was_read() {
    let database = database().await;
    let swap = async |read: &str| {
        let (read, new) = (Secret::new(read), Secret::new("new"));
        database.swap_secret(ConnectionId(1), SecretColumn::AccessToken, &read, &new).await.unwrap()
    };
    for other in ["PLAIN-1", "plain-1 ", "plain-", ""] {
        assert!(!swap(other).await, "{other}");
    }
    assert_eq!(stored(&database, 1).await, "plain-1");
    assert!(swap("plain-1").await);
    assert_eq!((stored(&database, 1).await, stored(&database, 2).await), ("new".into(), "plain-2".into()));
    assert!(!swap("plain-1").await);
    let now = database.secret(ConnectionId(1), SecretColumn::AccessToken).await.ok().unwrap();
    assert_eq!(now.unwrap().expose(), "new");
    for (id, column) in [(1, SecretColumn::RefreshToken), (3, SecretColumn::AccessToken)] {
        assert!(database.secret(ConnectionId(id), column).await.ok().unwrap().is_none());
    }
}
