//! Many jobs in one statement: each gets its own answer, and each row its own precondition.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::TimeDelta;
use freshet_shared::adapters::database::{Database, DatabaseSettings};
use freshet_shared::domain::connection::{ConnectionId, Generation, LoadedConnection};
use freshet_shared::domain::secret::Secret;
use freshet_shared::ports::store::{Commit, Committed, RefreshStore, StoreError};
use freshet_tests::fleet::{NewConnection, TestFleet, now};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use tokio::task::JoinSet;

/// Text that JSON, SQL and careless columns like to change.
const ODD: &str = "tok\"en\\ 'with' \n\t{}[]%_ é 漢 🎈 \u{0} end ";

async fn connect(fleet: &TestFleet) -> Result<Arc<Database>> {
    let settings = DatabaseSettings {
        url: Secret::new(fleet.database.url()),
        max_connections: 4,
        acquire_timeout: Duration::from_secs(20),
    };
    Ok(Arc::new(Database::connect(settings).await?))
}

fn commit(loaded: &LoadedConnection, token: &str) -> Commit {
    let id = loaded.id.0;
    Commit {
        connection_id: loaded.id,
        spent: Generation(0),
        loaded_expiry: loaded.expires_at,
        loaded_token: loaded.stored_token.clone(),
        access_token: Secret::new(token),
        generated_at: now() + TimeDelta::microseconds(id),
        expires_at: Some(now() + TimeDelta::hours(1)),
        lifetime: Some(TimeDelta::hours(1)),
        refresh_token: None,
        refresh_token_expires_at: None,
        refresh_token_fingerprint: None,
        refresh_at: None,
    }
}

/// All at once, so that they go together. In the order of the given commits.
async fn store_together(
    database: &Arc<Database>,
    commits: Vec<Commit>,
) -> Result<Vec<Result<Committed, StoreError>>> {
    let count = commits.len();
    let mut jobs = JoinSet::new();
    for (place, commit) in commits.into_iter().enumerate() {
        let database = database.clone();
        jobs.spawn(async move { (place, database.commit(&commit).await) });
    }
    let mut answers: Vec<_> = (0..count).map(|_| None).collect();
    while let Some(job) = jobs.join_next().await {
        let (place, answer) = job?;
        answers[place] = Some(answer);
    }
    answers.into_iter().map(|answer| answer.context("no answer")).collect()
}

async fn fleet_of(count: i64) -> Result<TestFleet> {
    let fleet = TestFleet::found().await?;
    fleet.add((1..=count).map(|id| NewConnection::fynd(id, 300))).await?;
    fleet
        .execute("INSERT INTO token_refresh (connection_id) SELECT id FROM ie_appinstall_connection", [])
        .await?;
    Ok(fleet)
}

#[tokio::test]
async fn each_gets_its_own_answer_and_one_that_is_refused_fails_alone() -> Result<()> {
    const COUNT: i64 = 300;
    let fleet = fleet_of(COUNT).await?;
    let database = connect(&fleet).await?;
    fleet.execute("UPDATE token_refresh SET generation = 5 WHERE connection_id % 10 = 1", []).await?;
    fleet
        .execute(
            "ALTER TABLE ie_appinstall_connection MODIFY accessToken VARCHAR(80) CHARACTER SET utf8mb4",
            [],
        )
        .await?;
    let mut commits = Vec::new();
    for id in 1..=COUNT {
        let loaded = database.load(ConnectionId(id), "fynd", Some("15")).await?.context("no row")?;
        let mut commit = commit(&loaded, &format!("{ODD}{id}"));
        match id % 10 {
            2 => commit.loaded_expiry = Some(now() - TimeDelta::days(3)),
            3 => commit.access_token = Secret::new("x".repeat(81)),
            4 => commit.refresh_token = Some(Secret::new(format!("{ODD}refresh {id}"))),
            5 => commit.refresh_token_expires_at = Some(now() + TimeDelta::days(9)),
            6 => commit.expires_at = None,
            // Somebody stores another token meanwhile, which most collations call the same; or takes it away.
            7 => commit.loaded_token = Some("other".into()),
            8 => commit.loaded_token = None,
            _ => {}
        }
        commits.push(commit);
    }
    let again = commits.clone();
    let answers = store_together(&database, commits).await?;
    for (answer, id) in answers.into_iter().zip(1..) {
        let loaded = database.load(ConnectionId(id), "fynd", Some("15")).await?.context("no row")?;
        let token = loaded.access_token.context("no token")?;
        match id % 10 {
            1 | 2 | 7 | 8 => {
                assert_eq!(answer, Ok(Committed::Stale), "{id}");
                ensure!(!token.expose().starts_with(ODD), "{id}: something was stored");
            }
            3 => {
                let error = answer.err().context("it was stored")?;
                ensure!(
                    matches!(error, StoreError::Refused { .. }) && !error.to_string().contains("xxx"),
                    "{error}"
                );
                assert_eq!(loaded.generation, Generation(0), "{id}");
            }
            kind => {
                assert_eq!(answer, Ok(Committed::Applied(Generation(1))), "{id}");
                ensure!(token.expose() == format!("{ODD}{id}"), "{id}: another token stands there");
                assert_eq!(loaded.generation, Generation(1), "{id}");
                assert_eq!(loaded.expires_at.is_none(), kind == 6, "{id}");
                let refresh_token = loaded.refresh_token.map(|token| token.expose().to_owned());
                assert_eq!(refresh_token, (kind == 4).then(|| format!("{ODD}refresh {id}")), "{id}");
            }
        }
    }
    assert_eq!(
        fleet.number("SELECT COUNT(*) FROM token_refresh WHERE refresh_token_expires_at IS NOT NULL").await?,
        COUNT / 10
    );

    // Asked again because a reply was lost, each learns what it came to the first time; and nothing moves.
    for (answer, id) in store_together(&database, again).await?.into_iter().zip(1..) {
        match id % 10 {
            1 | 2 | 7 | 8 => assert_eq!(answer, Ok(Committed::Stale), "{id}"),
            3 => ensure!(answer.is_err(), "{id}"),
            _ => assert_eq!(answer, Ok(Committed::Applied(Generation(1))), "{id}"),
        }
    }
    assert_eq!(fleet.number("SELECT MAX(generation) FROM token_refresh WHERE generation < 5").await?, 1);
    fleet.dissolve().await
}

#[tokio::test]
async fn a_token_is_told_from_another_byte_by_byte_whatever_its_column_is() -> Result<()> {
    let fleet = fleet_of(5).await?;
    let database = connect(&fleet).await?;
    // As tokens stand in the platform's column, and as somebody else stores one meanwhile.
    let cases = [
        ("'Token'", "'token'"),
        ("'token'", "'token '"),
        ("NULL", "'token'"),
        ("'token'", "NULL"),
        ("''", "NULL"),
    ];
    let types = [
        "TEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci",
        "VARCHAR(200) CHARACTER SET latin1",
        "VARBINARY(200)",
    ];
    for of_type in types {
        let modify = format!("ALTER TABLE ie_appinstall_connection MODIFY accessToken {of_type}");
        fleet.execute(&modify, []).await?;
        for (id, (before, _)) in (1..).zip(cases) {
            let set = format!("UPDATE ie_appinstall_connection SET accessToken = {before} WHERE id = {id}");
            fleet.execute(&set, []).await?;
        }
        fleet.execute("UPDATE token_refresh SET generation = 0", []).await?;
        let mut commits = Vec::new();
        for id in 1..=5 {
            let loaded = database.load(ConnectionId(id), "fynd", Some("15")).await?.context("no row")?;
            commits.push(commit(&loaded, &format!("new of {of_type}")));
        }
        for (id, (_, after)) in (1..).zip(cases) {
            let set = format!("UPDATE ie_appinstall_connection SET accessToken = {after} WHERE id = {id}");
            fleet.execute(&set, []).await?;
        }
        for answer in store_together(&database, commits.clone()).await? {
            assert_eq!(answer, Ok(Committed::Stale), "{of_type}");
        }
        for (id, (before, _)) in (1..).zip(cases) {
            let set = format!("UPDATE ie_appinstall_connection SET accessToken = {before} WHERE id = {id}");
            fleet.execute(&set, []).await?;
        }
        for answer in store_together(&database, commits).await? {
            assert_eq!(answer, Ok(Committed::Applied(Generation(1))), "{of_type}");
        }
    }
    fleet.dissolve().await
}

#[tokio::test]
async fn of_many_for_one_connection_one_is_stored() -> Result<()> {
    let fleet = fleet_of(3).await?;
    let database = connect(&fleet).await?;
    let mut commits = Vec::new();
    for round in 0..40 {
        for id in 1..=3 {
            let loaded = database.load(ConnectionId(id), "fynd", Some("15")).await?.context("no row")?;
            let mut commit = commit(&loaded, &format!("{id} of round {round}"));
            commit.generated_at += TimeDelta::milliseconds(round);
            commits.push(commit);
        }
    }
    let answers = store_together(&database, commits.clone()).await?;
    for id in 1..=3 {
        let of_this = answers.iter().zip(&commits).filter(|(_, commit)| commit.connection_id.0 == id);
        let won: Vec<_> =
            of_this.filter(|(answer, _)| **answer == Ok(Committed::Applied(Generation(1)))).collect();
        assert_eq!(won.len(), 1, "{id}");
        let loaded = database.load(ConnectionId(id), "fynd", Some("15")).await?.context("no row")?;
        let token = loaded.access_token.context("no token")?;
        ensure!(won[0].1.access_token == token, "{id}: the winner's token is not the one that stands");
    }
    fleet.dissolve().await
}

#[tokio::test]
async fn what_is_read_together_is_each_ones_own() -> Result<()> {
    const COUNT: i64 = 400;
    let fleet = fleet_of(COUNT).await?;
    let database = connect(&fleet).await?;
    fleet.execute("DELETE FROM channels WHERE connectionId % 7 = 0", []).await?;
    fleet.execute("UPDATE token_refresh SET state = 'elsewhere' WHERE connection_id % 11 = 0", []).await?;
    let mut jobs = JoinSet::new();
    // The last ones are not there at all, and each is asked for twice.
    for id in (1..=COUNT + 20).chain(1..=COUNT + 20) {
        let database = database.clone();
        jobs.spawn(async move {
            let id = ConnectionId(id);
            (id, database.load(id, "fynd", Some("15")).await, database.channels(id).await)
        });
    }
    while let Some(job) = jobs.join_next().await {
        let (id, loaded, channels) = job?;
        let has_channel = id.0 % 7 != 0 && id.0 <= COUNT;
        assert_eq!(channels?.len(), usize::from(has_channel), "{id}");
        match loaded {
            Err(error) => {
                ensure!(id.0 % 11 == 0 && has_channel, "{id}: {error}");
                ensure!(error.to_string().contains("state"), "{error}");
            }
            Ok(None) => ensure!(!has_channel, "{id} is missing"),
            Ok(Some(loaded)) => {
                ensure!(has_channel && id.0 % 11 != 0, "{id}");
                assert_eq!(loaded.id, id);
                let input = loaded.input_fields.context("no input")?;
                let stored = fleet.stored(id.0).await?;
                ensure!(
                    loaded.access_token.map(|token| token.expose().to_owned()) == stored.access_token,
                    "{id}"
                );
                ensure!(
                    input
                        .expose()
                        .contains(&freshet_tests::fleet::fynd_input(id.0)["x-integration-id"].to_string()),
                    "{id}"
                );
            }
        }
    }
    fleet.dissolve().await
}

/// The keys drive: neither table is read through, however many connections there are.
#[tokio::test]
async fn both_tables_are_reached_by_their_keys() -> Result<()> {
    let fleet = fleet_of(2_000).await?;
    fleet.execute("ANALYZE TABLE ie_appinstall_connection, token_refresh, channels", []).await?;
    let keys = "JSON_TABLE('[{\"id\":1},{\"id\":2},{\"id\":3}]', '$[*]' COLUMNS (id BIGINT PATH '$.id'))";
    let statements = [
        format!(
            "EXPLAIN FORMAT=TRADITIONAL UPDATE {keys} AS new JOIN token_refresh AS ours ON ours.connection_id = new.id AND ours.generation = 0 \
             JOIN ie_appinstall_connection AS theirs ON theirs.id = new.id SET ours.failures = 0, theirs.accessToken = 'a'"
        ),
        format!(
            "EXPLAIN FORMAT=TRADITIONAL SELECT ours.generation, theirs.accessToken FROM {keys} AS asked \
             JOIN token_refresh AS ours ON ours.connection_id = asked.id \
             JOIN ie_appinstall_connection AS theirs ON theirs.id = asked.id"
        ),
    ];
    let connection = fleet.database.connect().await?;
    for statement in statements {
        let rows = connection.query_all_raw(Statement::from_string(DbBackend::MySql, statement)).await?;
        let mut reached = Vec::new();
        for row in &rows {
            let (table, access): (String, String) = (row.try_get("", "table")?, row.try_get("", "type")?);
            reached.push((table, access));
        }
        for table in ["ours", "theirs"] {
            let access = reached.iter().find(|(name, _)| name == table).context("not explained")?;
            assert_eq!(access.1, "eq_ref", "{reached:?}");
        }
    }
    fleet.dissolve().await
}
