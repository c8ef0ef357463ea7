//! Refreshes with encryption on.

use anyhow::{Context, Result};
use freshet_cli::simulator::{Matcher, Reply, StatusCode};
use freshet_shared::domain::lane::Lane;
use freshet_tests::fleet::{NewConnection, TestFleet, fynd_input, very_input};
use serde_json::Value;

use super::{Keys, input_fields, let_all_be_due, opened_token, rotate, rotated};

#[tokio::test]
async fn columns_are_sealed_the_cache_is_plain_and_plain_rows_are_refreshed_as_before() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    let keys = Keys::make().await?;
    keys.give(&mut fleet, "k1", &[&keys.k1])?;
    fleet.add([NewConnection::fynd(1, 300), NewConnection::very(2, 300)]).await?;
    let reader = keys.reader(&fleet, "k1", &[&keys.k1])?;
    // First from plain rows, then from rows that are sealed as a whole.
    for generation in 1..=2 {
        assert_eq!(fleet.scan(Lane::Urgent).await?.published, 2);
        let reports = fleet.work_off(2).await?;
        assert!(reports.iter().all(|report| report.outcome.as_str() == "refreshed"), "{reports:?}");
        let cache = fleet.cache().await?;
        for id in 1..=2 {
            let stored = fleet.stored(id).await?;
            assert_eq!(stored.generation(), generation);
            let text = stored.access_token.context("no token")?;
            assert!(text.starts_with("freshet:1:k1:"), "{text}");
            let token = &cache[&format!("connectionAccessToken_{id}")].value;
            assert!(!token.starts_with("freshet:") && !text.contains(token.as_str()), "{token}");
            assert_eq!(&opened_token(&reader, id).await?, token);
        }
        let header = &cache["connectionAuthorization_2:order_push"].value;
        assert_eq!(header, &format!("Basic 850135:{}", very_input(2)["apiKey"].as_str().unwrap_or_default()));

        rotated(&fleet, &[]).await?;
        let (fynd, very) = (input_fields(&fleet, 1).await?, input_fields(&fleet, 2).await?);
        let (fynd, very): (Value, Value) = (serde_json::from_str(&fynd)?, serde_json::from_str(&very)?);
        for (fields, plain, key) in [
            (&fynd, fynd_input(1), "x-integration-token"),
            (&very, very_input(2), "apiKey"),
            (&very, very_input(2), "clientSecret"),
        ] {
            assert!(fields[key].as_str().is_some_and(|text| text.starts_with("freshet:1:k1:")), "{key}");
            assert_ne!(fields[key], plain[key]);
        }
        assert_eq!(very["companyRefId"], "850135");
        let_all_be_due(&fleet).await?;
    }
    let passwords = fleet.calls().iter().filter(|call| call.contains("password=p%2Bss%20w%25rd%3D1")).count();
    assert_eq!(passwords, 2, "the provider gets what the merchant entered: {:?}", fleet.calls());
    fleet.dissolve().await
}

#[tokio::test]
async fn a_ciphertext_out_of_another_row_is_unreadable_and_nobody_is_called() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    fleet.environment.insert("FRESHET_RETRY__SHORTEST".into(), "1m".into());
    let keys = Keys::make().await?;
    keys.give(&mut fleet, "k1", &[&keys.k1])?;
    fleet
        .add([NewConnection::fynd(1, 300), NewConnection::fynd(2, 300), NewConnection::fynd(3, 300)])
        .await?;
    rotated(&fleet, &[]).await?;
    for (column, id) in [("accessToken", 2), ("inputFields", 3)] {
        let copy = format!(
            "UPDATE ie_appinstall_connection k JOIN ie_appinstall_connection o ON o.id = 1 \
             SET k.{column} = o.{column} WHERE k.id = {id}"
        );
        assert_eq!(fleet.execute(&copy, []).await?, 1);
    }
    let mut before = Vec::new();
    for id in 2..=3 {
        before.push((fleet.stored(id).await?.access_token, input_fields(&fleet, id).await?));
    }
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, 3);
    fleet.work_off(3).await?;
    assert_eq!(fleet.token_requests().len(), 1, "only for the first");
    for (id, place) in
        [(2, "accessToken of connection 2"), (3, "inputFields.x-integration-token of connection 3")]
    {
        let stored = fleet.stored(id).await?;
        let as_before = (stored.access_token, input_fields(&fleet, id).await?);
        assert_eq!(as_before, before[id as usize - 2], "nothing is lost");
        let ours = stored.ours.context("not enrolled")?;
        assert_eq!((ours.failure_class.as_deref(), ours.generation), (Some("unreadable_secret"), 0));
        assert!(ours.queued_until.is_none() && ours.next_attempt_at.is_some());
        let detail = ours.failure_detail.context("no detail")?;
        for words in [place, "key `k1`", "copied from another place", "keys.toml"] {
            assert!(detail.contains(words), "no `{words}` in: {detail}");
        }
    }
    let named = rotate(&fleet, &["--dry-run"])?.run().await?.with_code(1)?;
    assert!(named.stdout.contains("accessToken of connection 2 does not open"), "{}", named.stdout);
    assert!(named.stdout.contains("inputFields.x-integration-token of connection 3"), "{}", named.stdout);

    // The merchant authorises again, and enters the fields anew.
    let heal = "UPDATE ie_appinstall_connection SET accessToken = 'new', inputFields = ? WHERE id = ?";
    for id in 2..=3_i64 {
        fleet.execute(heal, [fynd_input(id).to_string().into(), id.into()]).await?;
    }
    fleet.let_next_attempts_come().await?;
    assert_eq!(fleet.retry_scan().await?.published, 2);
    let reports = fleet.work_off(2).await?;
    assert!(reports.iter().all(|report| report.outcome.as_str() == "refreshed"), "{reports:?}");
    fleet.dissolve().await
}

#[tokio::test]
async fn a_worker_without_the_key_says_so_and_loses_nothing() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    fleet.environment.insert("FRESHET_RETRY__SHORTEST".into(), "1m".into());
    let keys = Keys::make().await?;
    keys.give(&mut fleet, "k1", &[&keys.k1])?;
    fleet.add([NewConnection::fynd(1, 300)]).await?;
    rotated(&fleet, &[]).await?;
    let file = fleet.environment.remove("FRESHET_ENCRYPTION__KEY_FILE").context("no key file")?;
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, 1);
    fleet.work_off(1).await?;
    let ours = fleet.stored(1).await?.ours.context("not enrolled")?;
    assert_eq!(ours.failure_class.as_deref(), Some("unreadable_secret"));
    let detail = ours.failure_detail.context("no detail")?;
    assert!(detail.contains("under key `k1`") && detail.contains("set encryption.key_file"), "{detail}");
    assert!(fleet.token_requests().is_empty());

    fleet.environment.insert("FRESHET_ENCRYPTION__KEY_FILE".into(), file);
    fleet.let_next_attempts_come().await?;
    assert_eq!(fleet.retry_scan().await?.published, 1);
    assert_eq!(fleet.work_off(1).await?[0].outcome.as_str(), "refreshed");
    fleet.dissolve().await
}

#[tokio::test]
async fn a_sealed_token_that_no_longer_fits_its_column_is_unstorable_and_rotation_names_it() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    fleet.environment.insert("FRESHET_RETRY__SHORTEST".into(), "1m".into());
    let keys = Keys::make().await?;
    keys.give(&mut fleet, "k1", &[&keys.k1])?;
    fleet.execute("ALTER TABLE ie_appinstall_connection MODIFY accessToken VARCHAR(64) NULL", []).await?;
    fleet.add([NewConnection::fynd(1, 300)]).await?;
    let answer = r#"{"status":"SUCCESS","accessToken":"fits as it is, and not when it is sealed"}"#;
    fleet.marketplaces.script(Matcher::any(), [Reply::json(StatusCode::OK, answer).into()]);
    // In the early lane nothing else is asked.
    let expiry =
        "UPDATE ie_appinstall_connection SET accessTokenExpiryAt = UTC_TIMESTAMP() + INTERVAL 25 MINUTE";
    fleet.execute(expiry, []).await?;
    assert_eq!(fleet.scan(Lane::Early).await?.published, 1);
    fleet.work_off(1).await?;
    let stored = fleet.stored(1).await?;
    assert_eq!(stored.access_token.as_deref(), Some("old-1"));
    let ours = stored.ours.context("not enrolled")?;
    assert_eq!((ours.failure_class.as_deref(), ours.generation), (Some("unstorable_token"), 0));
    let named = rotate(&fleet, &[])?.run().await?.with_code(1)?;
    for words in ["accessToken of connection 1: the database refused", "widen the column"] {
        assert!(named.stdout.contains(words), "no `{words}` in:\n{}", named.stdout);
    }
    assert_eq!(fleet.stored(1).await?.access_token.as_deref(), Some("old-1"));
    assert!(input_fields(&fleet, 1).await?.contains("freshet:1:k1:"), "the other column is sealed");
    fleet.dissolve().await
}
