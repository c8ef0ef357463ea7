use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use freshet_shared::adapters::database::{Database, DatabaseSettings};
use freshet_shared::adapters::embedded::clock::SeededRandomness;
use freshet_shared::domain::connection::ConnectionId;
use freshet_shared::domain::sealing::{Place, SecretColumn, open};
use freshet_shared::domain::secret::Secret;
use freshet_shared::migrations;
use freshet_shared::ports::randomness::Randomness;
use freshet_shared::ports::secrets::{SecretStore, StoredSecrets};
use freshet_shared::ports::store::StoreError;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::*;

const FIRST: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
const SECOND: &str = "ZmVkY2JhOTg3NjU0MzIxMGZlZGNiYTk4NzY1NDMyMTA=";

fn keys(primary: &str, held: &[(&str, &str)]) -> KeyRing {
    let held: String = held.iter().map(|(id, key)| format!("\"{id}\" = \"{key}\"\n")).collect();
    let text = Secret::new(format!("primary = \"{primary}\"\n[keys]\n{held}"));
    KeyRing::parse("keys.toml", &text).unwrap_or_else(|error| panic!("{error}"))
}

fn old() -> KeyRing {
    keys("k1", &[("k1", FIRST)])
}

fn both() -> KeyRing {
    keys("k2", &[("k1", FIRST), ("k2", SECOND)])
}

/// Four connections: of Fynd, of Very, of somebody else, and one without secrets.
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
        r#"INSERT INTO ie_appinstall_connection (id, accessToken, refreshToken, inputFields) VALUES
           (11, 'a-11', 'r-11', '{"id":"x","password":"p-11"}'), (12, 'a-12', NULL, '{"secret":"s-12"}'),
           (13, 'a-13', 'r-13', '{"password":"p-13"}'), (14, NULL, '', '{"id":"y","password":null}')"#,
        "INSERT INTO channels (connectionId, integrationType) VALUES (11, '15'), (12, '21'), (13, '99'), (14, '15')",
    ] {
        execute(&database, statement).await;
    }
    database
}

async fn execute(database: &Database, statement: &str) {
    database.connection().execute_unprepared(statement).await.unwrap();
}

async fn number(database: &Database, condition: &str) -> i64 {
    let query = format!("SELECT COUNT(*) FROM ie_appinstall_connection WHERE {condition}");
    let statement = Statement::from_string(DbBackend::Sqlite, query);
    let row = database.connection().query_one_raw(statement).await.unwrap();
    row.unwrap().try_get_by_index(0).unwrap()
}

fn rotation<'a>(
    store: &'a dyn SecretStore,
    keys: &'a KeyRing,
    randomness: &'a SeededRandomness,
) -> Rotation<'a> {
    let members = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
    Rotation {
        store,
        keys,
        randomness,
        secret_members: [("15".to_owned(), members(&["password"])), ("21".to_owned(), members(&["secret"]))]
            .into(),
        goal: Goal::Primary,
        batch: 2,
        after: None,
        dry_run: false,
    }
}

async fn run(rotation: &Rotation<'_>) -> RotationReport {
    rotation.run(&CancellationToken::new(), &mut |_| ()).await
}

#[tokio::test]
async fn what_is_ours_is_sealed_once_and_brought_under_a_new_key() {
    let (database, randomness) = (database().await, SeededRandomness::new(1));
    let (old, both) = (old(), both());
    let counted = run(&Rotation { dry_run: true, ..rotation(&database, &old, &randomness) }).await;
    assert_eq!((counted.rows, counted.sealed, counted.passed_over), (4, 5, 2), "{counted}");
    assert_eq!(number(&database, "accessToken LIKE 'freshet:%'").await, 0, "a dry run writes nothing");

    let mut steps = Vec::new();
    let report = rotation(&database, &old, &randomness)
        .run(&CancellationToken::new(), &mut |so_far| steps.push(so_far.up_to.map(|id| id.0)))
        .await;
    assert_eq!((report.rows, report.sealed, report.passed_over), (4, 5, 2), "{report}");
    assert!(report.is_good());
    assert_eq!(steps, [Some(12), Some(14)]);
    let sealed = "accessToken LIKE 'freshet:1:k1:%' AND inputFields LIKE '{%:\"freshet:1:k1:%\"}'";
    assert_eq!(number(&database, sealed).await, 2);
    let untouched = "id = 13 AND accessToken = 'a-13' AND refreshToken = 'r-13' AND inputFields = '{\"password\":\"p-13\"}'";
    assert_eq!(number(&database, untouched).await, 1, "another provider's");
    assert_eq!(number(&database, "id = 14 AND inputFields = '{\"id\":\"y\",\"password\":null}'").await, 1);

    let again = run(&rotation(&database, &old, &randomness)).await;
    assert_eq!((again.sealed, again.reencrypted, again.passed_over), (0, 0, 4), "{again}");
    // Whoever is sealed is looked after, also if the channel went.
    execute(&database, "DELETE FROM channels WHERE connectionId = 12").await;
    let report = run(&rotation(&database, &both, &randomness)).await;
    assert_eq!((report.sealed, report.reencrypted, report.passed_over), (0, 5, 2), "{report}");
    assert!(report.is_good());
    assert_eq!(
        number(&database, "accessToken LIKE '%k1%' OR refreshToken LIKE '%k1%' OR inputFields LIKE '%k1%'")
            .await,
        0
    );

    let reading = keys("", &[("k2", SECOND)]);
    let plain = Rotation { goal: Goal::PlainText, ..rotation(&database, &reading, &randomness) };
    let report = run(&plain).await;
    assert_eq!((report.opened, report.passed_over), (5, 2), "{report}");
    let plain = "id = 11 AND accessToken = 'a-11' AND refreshToken = 'r-11' AND inputFields = '{\"id\":\"x\",\"password\":\"p-11\"}'";
    assert_eq!(number(&database, plain).await, 1, "as it was before");
}

/// Somebody who writes just before each swap.
struct Interfering<'a> {
    database: &'a Database,
    statements: Mutex<Vec<String>>,
}

#[async_trait]
impl SecretStore for Interfering<'_> {
    async fn secrets_after(
        &self,
        after: Option<ConnectionId>,
        limit: u32,
        integration_types: &[String],
    ) -> Result<Vec<StoredSecrets>, StoreError> {
        self.database.secrets_after(after, limit, integration_types).await
    }

    async fn secret(&self, id: ConnectionId, column: SecretColumn) -> Result<Option<Secret>, StoreError> {
        self.database.secret(id, column).await
    }

    async fn swap_secret(
        &self,
        id: ConnectionId,
        column: SecretColumn,
        read: &Secret,
        new: &Secret,
    ) -> Result<bool, StoreError> {
        let statement = self.statements.lock().unwrap().pop();
        if let Some(statement) = statement {
            execute(self.database, &statement).await;
        }
        self.database.swap_secret(id, column, read, new).await
    }
}

#[tokio::test]
async fn whoever_writes_in_between_wins_and_is_looked_at_again() {
    let (database, randomness, keys) = (database().await, SeededRandomness::new(1), old());
    execute(&database, "DELETE FROM ie_appinstall_connection WHERE id <> 12").await;
    // Taken from the end: first the token, then the fields.
    let statements = [
        "UPDATE ie_appinstall_connection SET inputFields = '{\"secret\":\"edited\"}'",
        "SELECT 1",
        "UPDATE ie_appinstall_connection SET accessToken = 'A-12'",
    ];
    let statements = Mutex::new(statements.map(str::to_owned).into());
    let store = Interfering { database: &database, statements };
    let report = run(&rotation(&store, &keys, &randomness)).await;
    assert_eq!((report.rows, report.sealed, report.conflicts), (1, 2, 2), "{report}");
    assert!(report.is_good());
    let back = run(&Rotation { goal: Goal::PlainText, ..rotation(&database, &keys, &randomness) }).await;
    assert_eq!(back.opened, 2);
    let theirs = "accessToken = 'A-12' AND inputFields = '{\"secret\":\"edited\"}'";
    assert_eq!(number(&database, theirs).await, 1, "what they wrote stands");
}

#[tokio::test]
async fn a_column_that_somebody_keeps_writing_is_named_and_so_is_one_that_the_database_refuses() {
    let (database, randomness, keys) = (database().await, SeededRandomness::new(1), old());
    execute(&database, "UPDATE ie_appinstall_connection SET inputFields = NULL, refreshToken = NULL").await;
    execute(
        &database,
        "CREATE TRIGGER narrow BEFORE UPDATE ON ie_appinstall_connection WHEN NEW.id = 12 AND length(NEW.accessToken) > 64 \
         BEGIN SELECT RAISE(ABORT, 'too long'); END",
    )
    .await;
    let statements = (0..10).map(|number| {
        format!("UPDATE ie_appinstall_connection SET accessToken = 'next-{number}' WHERE id = 11")
    });
    let store = Interfering { database: &database, statements: Mutex::new(statements.collect()) };
    // One after the other, so that the statements meet the connection that they are for.
    let report = run(&Rotation { batch: 1, ..rotation(&store, &keys, &randomness) }).await;
    assert_eq!((report.conflicts, report.unfinished, report.sealed), (10, 2, 0), "{report}");
    assert!(!report.is_good());
    let text = report.to_string();
    for words in
        ["accessToken of connection 11 was written", "accessToken of connection 12: the database refused"]
    {
        assert!(text.contains(words), "no `{words}` in:\n{text}");
    }
    assert_eq!(number(&database, "id = 12 AND accessToken = 'a-12'").await, 1);
}

#[tokio::test]
async fn what_does_not_open_is_named_and_left_and_a_run_can_begin_behind_it() {
    let (database, randomness) = (database().await, SeededRandomness::new(1));
    let (old, both, lost) = (old(), both(), keys("k2", &[("k2", SECOND)]));
    run(&rotation(&database, &old, &randomness)).await;
    execute(
        &database,
        "UPDATE ie_appinstall_connection SET accessToken = \
         (SELECT accessToken FROM ie_appinstall_connection WHERE id = 11) WHERE id = 12",
    )
    .await;
    execute(&database, "UPDATE ie_appinstall_connection SET inputFields = '{\"password\":' WHERE id = 14")
        .await;
    let report = run(&rotation(&database, &both, &randomness)).await;
    assert_eq!((report.unreadable, report.unfinished, report.reencrypted), (1, 1, 4), "{report}");
    assert!(!report.is_good());
    let text = report.to_string();
    for words in [
        "accessToken of connection 12 does not open with key `k1`",
        "inputFields of connection 14 is not a JSON",
    ] {
        assert!(text.contains(words), "no `{words}` in:\n{text}");
    }
    assert_eq!(number(&database, "id = 12 AND accessToken LIKE 'freshet:1:k1:%'").await, 1, "as it was");

    let report =
        run(&Rotation { after: Some(ConnectionId(12)), ..rotation(&database, &lost, &randomness) }).await;
    assert_eq!((report.rows, report.unreadable), (2, 0), "{report}");
    let report = run(&rotation(&database, &lost, &randomness)).await;
    assert_eq!((report.rows, report.unreadable), (4, 1), "the key of that one is gone: {report}");
}

#[tokio::test]
async fn a_signal_ends_it_between_two_batches_and_it_says_where_it_stands() {
    let (database, randomness, keys) = (database().await, SeededRandomness::new(1), old());
    let shutdown = CancellationToken::new();
    let report = rotation(&database, &keys, &randomness).run(&shutdown, &mut |_| shutdown.cancel()).await;
    assert_eq!((report.ended.clone(), report.rows), (Ended::Stopped, 2));
    assert!(!report.is_good() && report.to_string().contains("go on with --after 12"), "{report}");
    let rest = run(&Rotation { after: report.up_to, ..rotation(&database, &keys, &randomness) }).await;
    assert!(rest.is_good() && rest.rows == 2);
    execute(&database, "DROP TABLE channels").await;
    let broken = run(&rotation(&database, &keys, &randomness)).await;
    assert!(matches!(broken.ended, Ended::Failed(_)) && !broken.is_good(), "{broken}");
    assert!(broken.to_string().contains("nothing was done"), "{broken}");
}

#[test]
fn arguments_and_key_file_must_not_contradict_each_other() {
    let arguments = |to_plaintext| RotateArguments {
        config: None,
        batch: 500,
        after: None,
        dry_run: false,
        to_plaintext,
    };
    let reading = keys("", &[("k1", FIRST)]);
    assert_eq!(goal(&arguments(false), &old()).ok(), Some(Goal::Primary));
    assert_eq!(goal(&arguments(true), &reading).ok(), Some(Goal::PlainText));
    for (to_plaintext, keys) in [(true, &old()), (false, &reading)] {
        let error = goal(&arguments(to_plaintext), keys).unwrap_err().to_string();
        assert!(error.contains("keys.toml: primary is"), "{error}");
    }
}

#[tokio::test]
async fn an_answer_that_was_kept_comes_under_the_new_key_too() {
    let (database, randomness) = (database().await, SeededRandomness::new(1));
    let place = Place::of(SecretColumn::KeptAnswer, ConnectionId(11));
    let sealed = old().seal(&place, &Secret::new("the answer"), &mut || randomness.next());
    let insert =
        format!("INSERT INTO token_refresh (connection_id, kept_answer) VALUES (11, '{}')", sealed.expose());
    execute(&database, &insert).await;

    let report = run(&rotation(&database, &both(), &randomness)).await;
    assert!(report.reencrypted >= 1 && report.unreadable == 0, "{report}");
    let now = database.secret(ConnectionId(11), SecretColumn::KeptAnswer).await.unwrap().unwrap();
    assert_ne!(now.expose(), sealed.expose());
    let new = keys("k2", &[("k2", SECOND)]);
    assert_eq!(open(Some(&new), &place, now).unwrap().expose(), "the answer");
}
