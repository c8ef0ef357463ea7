//! Many jobs in one statement: each gets its own answer, and each row its own precondition.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::TimeDelta;
use freshet_shared::adapters::database::{Database, DatabaseSettings};
use freshet_shared::domain::connection::{
    ConnectionId, ConnectionState, Generation, LoadedConnection, RowStanding,
};
use freshet_shared::domain::failure::{Failure, FailureClass};
use freshet_shared::domain::secret::Secret;
use freshet_shared::ports::queue::{TRACEPARENT, TraceContext};
use freshet_shared::ports::store::{
    Attempt, Commit, Committed, FailureRecord, Recovered, RefreshStore, Release, StoreError,
};
use freshet_tests::fleet::{NewConnection, TestFleet, now};
use sea_orm::{ConnectionTrait, DbBackend, Statement, TransactionTrait};
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
        loaded_grant: loaded.stored_grant.clone(),
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

async fn store_together(
    database: &Arc<Database>,
    commits: Vec<Commit>,
) -> Result<Vec<Result<Committed, StoreError>>> {
    together(database, commits, |database, commit| async move { database.commit(&commit).await }).await
}

/// All at once, so that they go together. The answers in the order of the rows.
async fn together<R, A, F>(
    database: &Arc<Database>,
    rows: Vec<R>,
    write: impl Fn(Arc<Database>, R) -> F,
) -> Result<Vec<A>>
where
    A: Send + 'static,
    F: Future<Output = A> + Send + 'static,
{
    let count = rows.len();
    let mut jobs = JoinSet::new();
    for (place, row) in rows.into_iter().enumerate() {
        let answer = write(database.clone(), row);
        jobs.spawn(async move { (place, answer.await) });
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
            // A reconnect that brings nothing but a refresh token.
            9 => {
                commit.refresh_token = Some(Secret::new(format!("{ODD}refresh {id}")));
                commit.loaded_grant = Some("other".into());
            }
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
            1 | 2 | 7 | 8 | 9 => {
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
            1 | 2 | 7 | 8 | 9 => assert_eq!(answer, Ok(Committed::Stale), "{id}"),
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

#[tokio::test]
async fn a_row_that_somebody_holds_a_lock_on_keeps_nobody_else_waiting() -> Result<()> {
    const COUNT: i64 = 200;
    const HELD: i64 = 77;
    let fleet = fleet_of(COUNT).await?;
    let database = connect(&fleet).await?;
    let mut commits = Vec::new();
    for id in 1..=COUNT {
        let loaded = database.load(ConnectionId(id), "fynd", Some("15")).await?.context("no row")?;
        commits.push(commit(&loaded, &format!("new {id}")));
    }
    let held = commits[HELD as usize - 1].clone();
    let platform = fleet.database.connect().await?;
    let holding = platform.begin().await?;
    let hold = "SELECT id FROM ie_appinstall_connection WHERE id = 77 FOR UPDATE";
    holding.query_one_raw(Statement::from_string(DbBackend::MySql, hold)).await?;
    let answers = store_together(&database, commits).await?;
    for (answer, id) in answers.into_iter().zip(1..) {
        match id {
            HELD => ensure!(matches!(answer, Err(StoreError::Unavailable { .. })), "{answer:?}"),
            _ => assert_eq!(answer, Ok(Committed::Applied(Generation(1))), "{id}"),
        }
    }
    holding.rollback().await?;
    let again = store_together(&database, vec![held]).await?;
    assert_eq!(again, [Ok(Committed::Applied(Generation(1)))]);
    platform.close().await?;
    fleet.dissolve().await
}

const TRACE_ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn active() -> RowStanding {
    RowStanding { state: ConnectionState::Active, waiting_fingerprint: None }
}

fn quarantined(fingerprint: &str) -> RowStanding {
    RowStanding { state: ConnectionState::Quarantined, waiting_fingerprint: Some(fingerprint.into()) }
}

fn failure(id: i64, detail: &str) -> FailureRecord {
    FailureRecord {
        connection_id: ConnectionId(id),
        generation: Generation(0),
        failure: Failure::new(FailureClass::ServerError, detail),
        at: now(),
        next_attempt_at: now() + TimeDelta::minutes(id),
        loaded: Some(active()),
        not_spent: None,
        state: ConnectionState::Active,
        is_standing_kept: false,
        grant_failures: 2,
        is_counted: true,
        is_attempt_open: false,
        fingerprint: None,
        trace: TraceContext::from([(TRACEPARENT.to_owned(), format!("00-{TRACE_ID}-00f067aa0ba902b7-01"))]),
        known_attempts: vec!["mine".into(), "open".into()],
        kept_answer: None,
    }
}

#[tokio::test]
async fn failures_are_written_together_each_with_its_own_history() -> Result<()> {
    const COUNT: i64 = 300;
    let fleet = fleet_of(COUNT).await?;
    let database = connect(&fleet).await?;
    fleet
        .execute(
            "UPDATE token_refresh SET lease_owner = 'one', lease_until = UTC_TIMESTAMP(), \
             attempt_id = IF(connection_id % 10 IN (8, 9), NULL, 'open'), \
             state = IF(connection_id % 10 = 9, 'quarantined', 'active'), \
             waiting_fingerprint = IF(connection_id % 10 = 9, 'of another call', NULL), \
             attempt_grant = 'spent', attempt_sent_at = UTC_TIMESTAMP(), queued_until = UTC_TIMESTAMP(), failures = 3, \
             generation = IF(connection_id % 10 = 1, 5, 0)",
            [],
        )
        .await?;
    let mut records: Vec<_> = (1..=COUNT).map(|id| failure(id, &format!("{ODD}{id}"))).collect();
    for (record, id) in records.iter_mut().zip(1..) {
        match id % 10 {
            // The call that is open is somebody else's.
            0 => record.known_attempts = vec!["mine".into()],
            // Who keeps the standing asks nothing of it.
            2 => {
                (record.is_standing_kept, record.state) = (true, ConnectionState::Quarantined);
                record.known_attempts.clear();
            }
            3 => record.is_attempt_open = true,
            4 => record.is_counted = false,
            5 => {
                (record.state, record.fingerprint) = (ConnectionState::NeedsReauth, Some("as it is".into()));
            }
            // The column is 32 characters wide.
            6 => record.fingerprint = Some("f".repeat(33)),
            7 => record.failure.detail = "d".repeat(900),
            _ => {}
        }
    }
    // One of them failed twice.
    records.push(failure(8, "once more"));
    let answers =
        together(
            &database,
            records,
            |database, record| async move { database.record_failure(&record).await },
        )
        .await?;
    assert_eq!(answers.last(), Some(&Ok(true)));
    for (answer, id) in answers.into_iter().zip(1..=COUNT) {
        match id % 10 {
            0 | 1 | 9 => assert_eq!(answer, Ok(false), "{id}"),
            6 => ensure!(matches!(answer, Err(StoreError::Refused { .. })), "{id}: {answer:?}"),
            _ => assert_eq!(answer, Ok(true), "{id}"),
        }
    }
    let count = async |condition: &str| {
        fleet.number(&format!("SELECT COUNT(*) FROM token_refresh WHERE {condition}")).await
    };
    let each = COUNT / 10;
    for (condition, expected) in [
        // Somebody else's, moved on, refused, quarantined meanwhile: nothing of it was written.
        (
            "connection_id % 10 IN (0, 1, 6, 9) AND failures = 3 AND failure_class IS NULL AND queued_until IS NOT NULL",
            4 * each,
        ),
        (
            "connection_id % 10 NOT IN (0, 1, 6, 9) AND failure_class = 'server_error' AND queued_until IS NULL",
            6 * each,
        ),
        ("failures = IF(connection_id % 10 IN (0, 1, 4, 6, 9), 3, IF(connection_id = 8, 5, 4))", COUNT),
        ("grant_failures = 2", 6 * each),
        ("state = 'quarantined' AND waiting_fingerprint = 'of another call'", each),
        ("state = 'needs_reauth' AND waiting_fingerprint = 'as it is' AND connection_id % 10 = 5", each),
        ("state <> 'active'", 2 * each),
        ("attempt_id = 'open' AND attempt_grant = 'spent' AND attempt_sent_at IS NOT NULL", 5 * each),
        ("lease_owner = 'one' AND lease_until IS NOT NULL", 5 * each),
        ("last_trace LIKE '00-4bf92f3577b34da6a3ce929d0e0e4736-%'", 6 * each),
        ("CHAR_LENGTH(failure_detail) = 500 AND connection_id % 10 = 7", each),
        (
            "TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), next_attempt_at) BETWEEN 60 * connection_id - 60 AND 60 * connection_id",
            6 * each,
        ),
    ] {
        assert_eq!(count(condition).await?, expected, "{condition}");
    }
    assert_eq!(
        fleet
            .number(
                "SELECT COUNT(*) FROM refresh_attempt a JOIN token_refresh r ON r.connection_id = a.connection_id \
                 AND a.generation = 0 AND a.outcome = 'failed' AND a.failure_class = 'server_error' \
                 AND r.last_trace LIKE CONCAT('00-', a.trace_id, '-%') \
                 AND (a.failure_detail = r.failure_detail OR a.connection_id = 8)"
            )
            .await?,
        6 * each + 1
    );
    // A reply may have been lost: the same again finds what it left.
    let mut again = failure(5, "again");
    (again.state, again.fingerprint) = (ConnectionState::NeedsReauth, Some("as it is".into()));
    assert_eq!(database.record_failure(&again).await, Ok(true));
    assert_eq!(database.record_failure(&failure(5, "loaded before that")).await, Ok(false));
    fleet.dissolve().await
}

#[tokio::test]
async fn of_many_who_would_spend_one_refresh_token_one_is_let() -> Result<()> {
    const COUNT: i64 = 60;
    let fleet = fleet_of(COUNT).await?;
    let database = connect(&fleet).await?;
    fleet
        .execute(
            "UPDATE token_refresh SET generation = IF(connection_id % 6 = 1, 1, 0), \
             state = IF(connection_id % 6 IN (0, 2, 5), 'quarantined', 'active'), \
             waiting_fingerprint = CASE connection_id % 6 WHEN 0 THEN 'before' WHEN 5 THEN 'anew' END, \
             attempt_id = IF(connection_id % 6 IN (3, 4), 'before', NULL), \
             lease_until = IF(connection_id % 6 = 4, UTC_TIMESTAMP() + INTERVAL 1 HOUR, UTC_TIMESTAMP() - INTERVAL 1 HOUR)",
            [],
        )
        .await?;
    fleet
        .execute("UPDATE ie_appinstall_connection SET refreshToken = 'reconnected' WHERE id % 12 = 9", [])
        .await?;
    let mut attempts = Vec::new();
    for round in 0..5 {
        for id in 1..=COUNT {
            attempts.push(Attempt {
                connection_id: ConnectionId(id),
                generation: Generation(0),
                loaded: match id % 6 {
                    0 | 5 => quarantined("before"),
                    _ => active(),
                },
                loaded_grant: None,
                loaded_attempt: matches!(id % 6, 3 | 4).then(|| "before".into()),
                id: format!("{id} in round {round}"),
                owner: format!("worker {round}"),
                is_effect_unknown: false,
                grant: "digest".into(),
                lease: TimeDelta::minutes(2),
                passes: false,
            });
        }
    }
    let ask = |attempts| {
        together(&database, attempts, |database: Arc<Database>, attempt: Attempt| async move {
            database.begin_attempt(&attempt).await
        })
    };
    let answers = ask(attempts.clone()).await?;
    for id in 1..=COUNT {
        let let_go: Vec<_> = answers
            .iter()
            .zip(&attempts)
            .filter(|(answer, attempt)| attempt.connection_id.0 == id && **answer == Ok(true))
            .collect();
        // Another generation, another state, somebody else's lease, another quarantine, another refresh token.
        assert_eq!(let_go.len(), usize::from(!matches!(id % 6, 1 | 2 | 4 | 5) && id % 12 != 9), "{id}");
        if let [(_, attempt)] = let_go[..] {
            let stands = format!(
                "SELECT COUNT(*) FROM token_refresh WHERE connection_id = {id} AND attempt_id = '{}' \
                 AND lease_owner = '{}' AND attempt_grant = 'digest' AND attempt_sent_at IS NOT NULL",
                attempt.id, attempt.owner
            );
            assert_eq!(fleet.number(&stands).await?, 1, "{id}: another attempt stands");
        }
    }
    assert!(answers.iter().all(Result::is_ok));
    // Asked again because a reply was lost, each is told the same.
    assert_eq!(ask(attempts).await?, answers);
    fleet.dissolve().await
}

#[tokio::test]
async fn claims_end_together_and_only_those_of_their_generation() -> Result<()> {
    const COUNT: i64 = 96;
    let fleet = fleet_of(COUNT).await?;
    let database = connect(&fleet).await?;
    fleet
        .execute(
            "UPDATE token_refresh SET queued_until = UTC_TIMESTAMP(), failures = 4, grant_failures = 1, \
             failure_class = 'network', failure_detail = 'away', state = 'quarantined', waiting_fingerprint = 'f', \
             attempt_id = 'open', attempt_sent_at = UTC_TIMESTAMP(), attempt_grant = 'g', \
             generation = IF(connection_id % 3 = 1, 1, 0)",
            [],
        )
        .await?;
    let releases = (1..=COUNT).map(|id| Release {
        connection_id: ConnectionId(id),
        generation: Generation(0),
        claim: None,
        loaded_next_attempt_at: None,
        next_attempt_at: (id % 2 == 0).then(now),
        // Of one in six, the call that is open by now was not when it was loaded; one in twelve was quarantined anew since.
        recovered: (id % 3 == 2).then(|| Recovered {
            loaded: quarantined(if id % 12 == 8 { "before" } else { "f" }),
            loaded_attempt: (id % 6 == 2).then(|| "open".into()),
        }),
        trace: TraceContext::default(),
    });
    let answers = together(&database, releases.collect(), |database, release| async move {
        database.release(&release).await
    })
    .await?;
    assert!(answers.iter().all(Result::is_ok));
    for (condition, expected) in [
        ("queued_until IS NOT NULL AND generation = 1", COUNT / 3),
        ("queued_until IS NULL AND generation = 0", COUNT / 12 * 5),
        ("connection_id % 6 = 5 AND queued_until IS NOT NULL AND generation = 0", COUNT / 6),
        ("connection_id % 12 = 8 AND queued_until IS NOT NULL AND generation = 0", COUNT / 12),
        ("next_attempt_at IS NOT NULL AND generation = 0", COUNT / 4),
        (
            "connection_id % 12 = 2 AND state = 'active' AND failures = 0 AND grant_failures = 0 AND failure_class IS NULL \
             AND failure_detail IS NULL AND waiting_fingerprint IS NULL AND attempt_id IS NULL \
             AND attempt_sent_at IS NULL AND attempt_grant IS NULL",
            COUNT / 12,
        ),
        (
            "state = 'quarantined' AND failures = 4 AND attempt_id = 'open' AND waiting_fingerprint = 'f'",
            COUNT / 12 * 11,
        ),
    ] {
        let query = format!("SELECT COUNT(*) FROM token_refresh WHERE {condition}");
        assert_eq!(fleet.number(&query).await?, expected, "{condition}");
    }
    fleet.dissolve().await
}

/// A message may come twice, and who finds the refresh in flight knows less than who has failed at it since.
#[tokio::test]
async fn the_end_of_a_claim_puts_off_nothing_that_was_planned_since() -> Result<()> {
    // As it stands by now, and what is to stand there after it: each was loaded with claim 7 and a next attempt at noon.
    const CASES: [(&str, &str); 8] = [
        ("claim_id = 7, next_attempt_at = '2026-11-21 12:00:00.5'", "2026-11-21 12:01:15.250000 ended"),
        ("claim_id = 7, next_attempt_at = '2026-11-21 12:00:04'", "2026-11-21 12:00:04.000000 ended"),
        ("claim_id = 7, next_attempt_at = '2026-11-21 12:30:00'", "2026-11-21 12:01:15.250000 ended"),
        ("claim_id = 7, next_attempt_at = NULL", "2026-11-21 12:01:15.250000 ended"),
        ("claim_id = 8, next_attempt_at = '2026-11-21 12:00:00.5'", "2026-11-21 12:00:00.500000 open"),
        ("claim_id = 8, next_attempt_at = NULL", "2026-11-21 12:01:15.250000 open"),
        ("claim_id = NULL, next_attempt_at = '2026-11-21 12:00:00.5'", "2026-11-21 12:00:00.500000 open"),
        // Of another generation.
        (
            "claim_id = 7, next_attempt_at = '2026-11-21 12:00:00.5', generation = 1",
            "2026-11-21 12:00:00.500000 open",
        ),
    ];
    let fleet = fleet_of(i64::try_from(CASES.len())?).await?;
    let database = connect(&fleet).await?;
    for (id, (stands, _)) in (1_i64..).zip(CASES) {
        let update = format!(
            "UPDATE token_refresh SET queued_until = '2026-11-21 12:05:00', {stands} WHERE connection_id = {id}"
        );
        fleet.execute(&update, []).await?;
    }
    let at = |text: &str| anyhow::Ok(chrono::DateTime::parse_from_rfc3339(text)?.to_utc());
    let (loaded, next) = (at("2026-11-21T12:00:00.5Z")?, at("2026-11-21T12:01:15.25Z")?);
    let releases = (1_i64..).zip(CASES).map(|(id, _)| Release {
        connection_id: ConnectionId(id),
        generation: Generation(0),
        claim: Some(7),
        loaded_next_attempt_at: Some(loaded),
        next_attempt_at: Some(next),
        recovered: None,
        trace: TraceContext::default(),
    });
    let answers = together(&database, releases.collect(), |database, release| async move {
        database.release(&release).await
    })
    .await?;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    for (id, (stood, expected)) in (1_i64..).zip(CASES) {
        let query = format!(
            "SELECT COUNT(*) FROM token_refresh WHERE connection_id = {id} AND \
             CONCAT(next_attempt_at, IF(queued_until IS NULL, ' ended', ' open')) = '{expected}'"
        );
        assert_eq!(fleet.number(&query).await?, 1, "{stood}: not {expected}");
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
