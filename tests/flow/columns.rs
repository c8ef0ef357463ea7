//! The platform's columns come in several types; each is read and written right.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::domain::lane::Lane;
use freshet_shared::migrations;
use freshet_tests::fleet::{NewConnection, TestFleet, now};
use freshet_tests::services::MariaDb;
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde_json::{Value, json};

#[tokio::test]
async fn times_with_and_without_fractions_and_zones() -> Result<()> {
    for column_type in ["TIMESTAMP", "TIMESTAMP(6)", "DATETIME", "DATETIME(6)"] {
        let columns = ["accessTokenExpiryAt", "accessTokenGeneratedOn"];
        let alterations = columns
            .map(|column| format!("ALTER TABLE ie_appinstall_connection MODIFY {column} {column_type} NULL"));
        both_lanes_refresh(&alterations.each_ref().map(String::as_str)).await?;
    }
    Ok(())
}

#[tokio::test]
async fn json_and_text() -> Result<()> {
    for column_type in ["LONGTEXT", "JSON", "TEXT"] {
        both_lanes_refresh(&[
            &format!("ALTER TABLE ie_appinstall_connection MODIFY inputFields {column_type} NULL"),
            &format!("ALTER TABLE channels MODIFY additionalDetails {column_type} NULL"),
        ])
        .await?;
    }
    Ok(())
}

#[tokio::test]
async fn unsigned_ids() -> Result<()> {
    both_lanes_refresh(&[
        "ALTER TABLE ie_appinstall_connection MODIFY id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT",
        "ALTER TABLE channels MODIFY id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT",
        "ALTER TABLE channels MODIFY connectionId BIGINT UNSIGNED NULL",
        "ALTER TABLE channels MODIFY account_id BIGINT UNSIGNED NULL",
    ])
    .await
}

#[tokio::test]
async fn numbers_texts_and_enumerations() -> Result<()> {
    for alteration in [
        "ALTER TABLE channels MODIFY integrationType INT NULL",
        "ALTER TABLE channels MODIFY account_id VARCHAR(64) NULL",
        "ALTER TABLE ie_appinstall_connection MODIFY isActive ENUM('active', 'inactive') NULL",
    ] {
        both_lanes_refresh(&[alteration]).await?;
    }
    Ok(())
}

/// The URL may name a time zone, for the platform's other programs.
#[tokio::test]
async fn a_time_zone_in_the_url_does_not_count() -> Result<()> {
    // A DATETIME knows no zone; a TIMESTAMP is given and taken in the session's.
    let alter = "ALTER TABLE ie_appinstall_connection MODIFY accessTokenExpiryAt TIMESTAMP NULL";
    let mut fleet = found_on(&[alter]).await?;
    let url = format!("{}?timezone=%2B05:30", fleet.database.url());
    fleet.environment.insert("FRESHET_DATABASE__URL".into(), url);
    refresh_in_both_lanes(&fleet, "a time zone in the URL").await?;
    fleet.dissolve().await
}

/// The server is in India, and rounds fractions of seconds up as MySQL does.
#[tokio::test]
async fn a_server_in_another_time_zone_that_rounds_up() -> Result<()> {
    if !MariaDb::is_installed() {
        return Ok(());
    }
    let server = MariaDb::start().await?;
    let issued: Arc<Mutex<Vec<DateTime<Utc>>>> = Arc::default();
    let clock = issued.clone();
    let mut fleet = TestFleet::found_without_tables(|settings| {
        settings.clock = Arc::new(move || {
            let now = now();
            clock.lock().unwrap_or_else(PoisonError::into_inner).push(now);
            now
        });
    })
    .await?;
    // MySQL rounds by itself, and does not know the word.
    let prepare = [
        "SET GLOBAL time_zone = '+05:30'",
        "SET GLOBAL sql_mode = IF(VERSION() LIKE '%MariaDB%', CONCAT(@@GLOBAL.sql_mode, ',TIME_ROUND_FRACTIONAL'), \
         @@GLOBAL.sql_mode)",
    ];
    fleet.move_to(&server, &prepare).await?;
    for column_type in ["DATETIME", "TIMESTAMP"] {
        for column in ["accessTokenExpiryAt", "accessTokenGeneratedOn"] {
            let alter = format!("ALTER TABLE ie_appinstall_connection MODIFY {column} {column_type} NULL");
            fleet.execute(&alter, []).await?;
        }
        refresh_in_both_lanes(&fleet, column_type).await?;
        expiries_are_true(&fleet, &issued).await?;
        fleet.execute("DELETE FROM channels", []).await?;
        fleet.execute("DELETE FROM ie_appinstall_connection", []).await?;
        fleet.execute("DELETE FROM token_refresh", []).await?;
        fleet.lose_cache().await?;
    }
    fleet.dissolve().await
}

/// KornitX says when it issued each token, so the true end of each is known.
async fn expiries_are_true(fleet: &TestFleet, issued: &Mutex<Vec<DateTime<Utc>>>) -> Result<()> {
    const COUNT: i64 = 24;
    issued.lock().unwrap_or_else(PoisonError::into_inner).clear();
    fleet.add((101..=100 + COUNT).map(|id| NewConnection::very(id, 300))).await?;
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, COUNT as u64);
    fleet.work_off(COUNT as usize).await?;
    let lifetime = TimeDelta::hours(1);
    let mut true_ends: Vec<_> = {
        let issued = issued.lock().unwrap_or_else(PoisonError::into_inner);
        issued.iter().map(|at| *at + lifetime).collect()
    };
    let mut stored_ends = Vec::new();
    for id in 101..=100 + COUNT {
        let stored = fleet.stored(id).await?;
        stored_ends.push(stored.expires_at.context("no expiry")?);
        let generated = stored.generated_on.context("no time of generation")?;
        assert!(generated <= now(), "{generated} lies ahead");
    }
    // Whichever belongs to which: the nth soonest stored end lies before the nth soonest true one.
    true_ends.sort_unstable();
    stored_ends.sort_unstable();
    assert_eq!(true_ends.len(), stored_ends.len());
    for (stored, true_end) in stored_ends.into_iter().zip(true_ends) {
        assert!(stored <= true_end, "{stored} lies beyond {true_end}");
    }
    Ok(())
}

async fn both_lanes_refresh(alterations: &[&str]) -> Result<()> {
    let what = alterations.join("; ");
    let fleet = found_on(alterations).await.context(what.clone())?;
    refresh_in_both_lanes(&fleet, &what).await.context(what)?;
    fleet.dissolve().await
}

/// The platform's tables are as they are before the migration sees them.
async fn found_on(alterations: &[&str]) -> Result<TestFleet> {
    let fleet = TestFleet::found_without_tables(|_| ()).await?;
    migrations::platform::create_missing(&fleet.store).await?;
    for alteration in alterations {
        fleet.execute(alteration, []).await?;
    }
    let report = migrations::migrate(&fleet.store).await?;
    for (name, index) in &report.indexes {
        ensure!(*index == migrations::IndexReport::Created, "{name}: {index:?}");
    }
    Ok(fleet)
}

/// An urgent, an early, an expired and a new connection become fresh, and one that is fresh already stays as it is.
async fn refresh_in_both_lanes(fleet: &TestFleet, what: &str) -> Result<()> {
    fleet
        .add([
            NewConnection::fynd(1, 300),
            NewConnection::fynd(2, 1_500),
            NewConnection::fynd(3, -86_400),
            NewConnection { expires_in: None, ..NewConnection::fynd(4, 0) },
            NewConnection::fynd(5, 3_000),
            NewConnection { is_active: "inactive", ..NewConnection::fynd(6, 300) },
        ])
        .await?;
    let untouched = [fleet.stored(5).await?, fleet.stored(6).await?];
    let (urgent, early) = (fleet.scan(Lane::Urgent).await?, fleet.scan(Lane::Early).await?);
    assert_eq!((urgent.published, urgent.unreadable), (3, 0), "{what}: {urgent}");
    assert_eq!((early.published, early.unreadable), (1, 0), "{what}: {early}");
    let started = now();
    let reports = fleet.work_off(4).await?;
    assert!(reports.iter().all(|report| report.outcome.as_str() == "refreshed"), "{what}: {reports:?}");

    let cache = fleet.cache().await?;
    for id in 1..=4 {
        let stored = fleet.stored(id).await?;
        let token = stored.access_token.as_ref().context("no token")?;
        assert_eq!(&cache[&format!("connectionAccessToken_{id}")].value, token, "{what}");
        let expires_at = stored.expires_at.context("no expiry")?;
        let expected = started - TimeDelta::seconds(1) + TimeDelta::hours(1)..=now() + TimeDelta::hours(1);
        assert!(expected.contains(&expires_at), "{what}: {expires_at} is not in {expected:?}");
        let generated = stored.generated_on.context("no time of generation")?;
        let expected = started - TimeDelta::seconds(1)..=now();
        assert!(expected.contains(&generated), "{what}: {generated} is not in {expected:?}");
        assert_eq!(stored.generation(), 1, "{what}");
    }
    assert_eq!([fleet.stored(5).await?, fleet.stored(6).await?], untouched, "{what}");
    let details: Value = serde_json::from_str(&cache["connectionDetail_1"].value)?;
    assert_eq!(
        (&details[0]["id"], &details[0]["channel_id"], &details[0]["additionalDetails"]["kept"]),
        (&json!(10), &json!("channel-1"), &json!("as it was")),
        "{what}"
    );
    assert!(details[0]["additionalDetails"]["refreshed"].is_number(), "{what}: {details}");
    assert!([json!(7_001), json!("7001")].contains(&details[0]["account_id"]), "{what}: {details}");
    assert_eq!(details[0]["additionalDetails"], additional_details(fleet, 10).await?, "{what}");
    // Nothing is due any more, by any scan.
    for lane in Lane::ALL {
        assert_eq!(fleet.scan(lane).await?.found, 0, "{what}");
    }
    Ok(())
}

async fn additional_details(fleet: &TestFleet, channel: i64) -> Result<Value> {
    let statement = Statement::from_sql_and_values(
        DbBackend::MySql,
        "SELECT CAST(additionalDetails AS CHAR) AS details FROM channels WHERE id = ?",
        [channel.into()],
    );
    let row = fleet.store.connection().query_one_raw(statement).await?.context("the channel is gone")?;
    Ok(serde_json::from_str(&row.try_get::<String>("", "details")?)?)
}
