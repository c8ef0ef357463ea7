//! `freshet secrets rotate`, while the fleet runs and after it was killed.

use anyhow::{Context, Result, ensure};
use freshet_shared::domain::connection::ConnectionId;
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::sealing::SecretColumn;
use freshet_shared::domain::secret::Secret;
use freshet_shared::ports::secrets::SecretStore;
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet, fynd_input};
use nix::sys::signal::Signal;

use super::{Keys, input_fields, let_all_be_due, load, opened_token, rotate, rotated};

/// Connections of Fynd whose token and password stand under this key.
async fn under(fleet: &TestFleet, key: &str) -> Result<i64> {
    let query = format!(
        "SELECT COUNT(*) FROM ie_appinstall_connection WHERE accessToken LIKE 'freshet:1:{key}:%' \
         AND inputFields LIKE '%\"x-integration-token\":%\"freshet:1:{key}:%'"
    );
    fleet.number(&query).await
}

/// So many connections of Fynd, a power of two.
async fn add_many(fleet: &TestFleet, count: i64) -> Result<()> {
    fleet.add([NewConnection::fynd(1, 300)]).await?;
    let mut present = 1;
    while present < count {
        for statement in [
            format!(
                "INSERT INTO ie_appinstall_connection (id, isActive, accessToken, accessTokenExpiryAt, inputFields) \
                 SELECT id + {present}, isActive, accessToken, accessTokenExpiryAt, inputFields FROM ie_appinstall_connection"
            ),
            format!(
                "INSERT INTO channels (id, connectionId, account_id, channel_id, integrationType, additionalDetails) \
                 SELECT id + 10 * {present}, connectionId + {present}, account_id, channel_id, integrationType, \
                 additionalDetails FROM channels"
            ),
        ] {
            fleet.execute(&statement, []).await?;
        }
        present *= 2;
    }
    ensure!(present == count, "{count} is no power of two");
    Ok(())
}

#[tokio::test]
async fn while_refreshes_run_everything_comes_under_the_new_key_and_stays_readable() -> Result<()> {
    const COUNT: i64 = 256;
    let mut fleet = TestFleet::found().await?;
    let keys = Keys::make().await?;
    keys.give(&mut fleet, "k1", &[&keys.k1])?;
    add_many(&fleet, COUNT).await?;
    let first = rotated(&fleet, &[]).await?;
    assert!(first.contains("sealed              512"), "{}", first);
    assert_eq!(under(&fleet, "k1").await?, COUNT);

    keys.give(&mut fleet, "k2", &[&keys.k1, &keys.k2])?;
    let worker = fleet.worker().await?;
    let_all_be_due(&fleet).await?;
    fleet.scan(Lane::Urgent).await?;
    worker.until_handled(1, PATIENCE).await?;
    let mut rotation = rotate(&fleet, &["--batch", "4"])?.start()?;
    let before = worker.reports().len();
    while rotation.is_running()? {
        let_all_be_due(&fleet).await?;
        fleet.scan(Lane::Urgent).await?;
    }
    let ended = rotation.ended(PATIENCE).await?.with_code(0)?;
    assert!(worker.reports().len() > before, "tokens were refreshed meanwhile");
    fleet.vhost.until_drained(PATIENCE).await?;
    let outcomes = worker.outcomes();
    worker.stop().await?;
    let is_fine = |outcome: &&str| ["refreshed", "stale", "skipped"].contains(outcome);
    assert!(outcomes.iter().all(is_fine), "{outcomes:?}");

    assert_eq!(under(&fleet, "k2").await?, COUNT, "{}", ended.stdout);
    let reader = keys.reader(&fleet, "k2", &[&keys.k2])?;
    let cache = fleet.cache().await?;
    for id in 1..=COUNT {
        let loaded = load(&reader, id).await?;
        // MySQL writes JSON in its own way.
        let fields = loaded.input_fields.context("no input")?;
        assert_eq!(serde_json::from_str::<serde_json::Value>(fields.expose())?, fynd_input(1));
        if loaded.generation.0 > 0 {
            let token = opened_token(&reader, id).await?;
            assert_eq!(cache[&format!("connectionAccessToken_{id}")].value, token, "connection {id}");
        }
    }
    keys.give(&mut fleet, "k2", &[&keys.k2])?;
    let again = rotated(&fleet, &[]).await?;
    assert!(again.contains("passed over         256"), "{}", again);
    fleet.dissolve().await
}

#[tokio::test]
async fn a_rotation_that_was_killed_goes_on_when_it_is_started_again() -> Result<()> {
    const COUNT: i64 = 1_024;
    let mut fleet = TestFleet::found().await?;
    let keys = Keys::make().await?;
    keys.give(&mut fleet, "k1", &[&keys.k1])?;
    add_many(&fleet, COUNT).await?;
    rotated(&fleet, &[]).await?;
    keys.give(&mut fleet, "k2", &[&keys.k1, &keys.k2])?;

    let counted = rotated(&fleet, &["--dry-run"]).await?;
    assert!(counted.contains("re-encrypted       2048"), "{}", counted);
    assert_eq!(under(&fleet, "k2").await?, 0, "a dry run writes nothing");
    let mut rotation = rotate(&fleet, &["--batch", "1"])?.start()?;
    rotation.until_it_says("done up to connection 3:", PATIENCE).await?;
    rotation.signal(Signal::SIGKILL)?;
    assert_eq!(rotation.ended(PATIENCE).await?.code, None);
    let done = under(&fleet, "k2").await?;
    assert!((3..COUNT).contains(&done), "{done} of {COUNT} when it was killed");

    let mut rotation = rotate(&fleet, &["--batch", "1", "--after", "3"])?.start()?;
    rotation.until_it_says("done up to connection 1", PATIENCE).await?;
    let stopped = rotation.terminate(PATIENCE).await?.with_code(1)?;
    assert!(stopped.stdout.contains("stopped before the end; go on with --after "), "{}", stopped.stdout);
    let rest = rotated(&fleet, &[]).await?;
    assert!(rest.contains("rows read          1024"), "{}", rest);
    assert_eq!((under(&fleet, "k1").await?, under(&fleet, "k2").await?), (0, COUNT));
    fleet.dissolve().await
}

#[tokio::test]
async fn encryption_is_turned_off_again_and_every_row_stands_as_before() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    let keys = Keys::make().await?;
    keys.give(&mut fleet, "k1", &[&keys.k1])?;
    fleet.add([NewConnection::fynd(1, 300), NewConnection::very(2, 300)]).await?;
    let before = [input_fields(&fleet, 1).await?, input_fields(&fleet, 2).await?];
    rotated(&fleet, &[]).await?;
    let refused = rotate(&fleet, &["--to-plaintext"])?.run().await?.with_code(78)?;
    assert!(refused.stderr.contains("keys.toml: primary is set"), "{}", refused.stderr);

    keys.give(&mut fleet, "", &[&keys.k1])?;
    let refused = rotate(&fleet, &[])?.run().await?.with_code(78)?;
    assert!(refused.stderr.contains("keys.toml: primary is \"\""), "{}", refused.stderr);
    rotated(&fleet, &["--to-plaintext"]).await?;
    fleet.environment.remove("FRESHET_ENCRYPTION__KEY_FILE");
    assert_eq!([input_fields(&fleet, 1).await?, input_fields(&fleet, 2).await?], before);
    assert_eq!(fleet.stored(1).await?.access_token.as_deref(), Some("old-1"));
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, 2);
    fleet.work_off(2).await?;
    assert!(!fleet.stored(1).await?.access_token.is_some_and(|token| token.starts_with("freshet:")));
    fleet.dissolve().await
}

/// Under the platform's collations more texts are equal than are the same.
#[tokio::test]
async fn a_column_is_swapped_only_if_it_holds_exactly_what_was_read() -> Result<()> {
    for column_type in ["TEXT", "VARCHAR(255) CHARACTER SET latin1", "LONGTEXT COLLATE utf8mb4_bin", "JSON"] {
        let fleet = TestFleet::found().await?;
        let alter = format!("ALTER TABLE ie_appinstall_connection MODIFY accessToken {column_type} NULL");
        fleet.execute(&alter, []).await?;
        fleet.add([NewConnection { expires_in: None, ..NewConnection::fynd(1, 0) }]).await?;
        fleet.execute("UPDATE ie_appinstall_connection SET accessToken = '\"Tökén\"'", []).await?;
        let swap = async |read: &str| {
            let (read, new) = (Secret::new(read), Secret::new("\"new\""));
            fleet.store.swap_secret(ConnectionId(1), SecretColumn::AccessToken, &read, &new).await
        };
        for other in ["\"tökén\"", "\"Token\"", "\"Tökén\" ", "\"Tökén"] {
            assert!(!swap(other).await?, "{column_type}: {other}");
        }
        assert_eq!(fleet.stored(1).await?.access_token.as_deref(), Some("\"Tökén\""), "{column_type}");
        assert!(swap("\"Tökén\"").await?, "{column_type}");
        assert_eq!(fleet.stored(1).await?.access_token.as_deref(), Some("\"new\""), "{column_type}");
        fleet.dissolve().await?;
    }
    Ok(())
}
