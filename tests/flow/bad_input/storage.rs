//! A token that the platform's column cannot hold.

use anyhow::{Context, Result};
use freshet_cli::simulator::{Matcher, Reply, StatusCode};
use freshet_shared::domain::lane::Lane;
use freshet_tests::fleet::{NewConnection, TestFleet};
use freshet_tests::services::MariaDb;

#[tokio::test]
async fn a_token_longer_than_its_column_is_refused_whole() -> Result<()> {
    let fleet = TestFleet::found().await?;
    a_longer_token_is_refused_whole(&fleet).await?;
    fleet.dissolve().await
}

/// A server that is not strict would cut the token and say nothing of it.
#[tokio::test]
async fn a_lenient_server_does_not_cut_it() -> Result<()> {
    if !MariaDb::is_installed() {
        return Ok(());
    }
    let server = MariaDb::start().await?;
    let mut fleet = TestFleet::found_without_tables(|_| ()).await?;
    fleet.move_to(&server, &["SET GLOBAL sql_mode = ''"]).await?;
    assert_eq!(fleet.number("SELECT @@GLOBAL.sql_mode = ''").await?, 1);
    a_longer_token_is_refused_whole(&fleet).await?;
    fleet.dissolve().await
}

async fn a_longer_token_is_refused_whole(fleet: &TestFleet) -> Result<()> {
    fleet.execute("ALTER TABLE ie_appinstall_connection MODIFY accessToken VARCHAR(64) NULL", []).await?;
    fleet.add([NewConnection::fynd(1, 300), NewConnection::fynd(2, 300)]).await?;
    let before = fleet.stored(1).await?;
    let fits = "t".repeat(64);
    for (id, token) in [(1, "s3cret".repeat(11)), (2, fits.clone())] {
        let body = format!(r#"{{"status":"SUCCESS","accessToken":"{token}"}}"#);
        let matcher = Matcher::any().account(format!("location&{id}"));
        fleet.marketplaces.script(matcher, [Reply::json(StatusCode::OK, body).into()]);
    }
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, 2);
    fleet.work_off(2).await?;

    let stored = fleet.stored(1).await?;
    assert_eq!(
        (&stored.access_token, stored.expires_at, stored.generated_on),
        (&before.access_token, before.expires_at, before.generated_on)
    );
    let ours = stored.ours.context("not enrolled")?;
    assert_eq!((ours.generation, ours.failures), (0, 1), "the fence is rolled back with the token");
    assert_eq!((ours.state.as_str(), ours.failure_class.as_deref()), ("active", Some("unstorable_token")));
    assert!(ours.next_attempt_at.is_some());
    let detail = ours.failure_detail.context("no detail")?;
    for part in ["66 characters", "'accessToken'", "widen the column"] {
        assert!(detail.contains(part), "{detail}");
    }
    assert!(!detail.contains("s3cret"), "{detail}");
    let cache = fleet.cache().await?;
    assert_eq!(cache["connectionAccessToken_1"].value, "old-1", "the old one is readable again");
    assert_eq!(cache["connectionAccessToken_2"].value, fits);
    assert_eq!(fleet.stored(2).await?.access_token, Some(fits));

    fleet.execute("ALTER TABLE ie_appinstall_connection MODIFY accessToken TEXT NULL", []).await?;
    fleet.let_next_attempts_come().await?;
    assert_eq!(fleet.retry_scan().await?.published, 1);
    fleet.work_off(1).await?;
    let healed = fleet.stored(1).await?;
    assert_ne!(healed.access_token, before.access_token);
    let ours = healed.ours.context("not enrolled")?;
    assert_eq!((ours.generation, ours.failures, ours.failure_class), (1, 0, None));
    Ok(())
}
