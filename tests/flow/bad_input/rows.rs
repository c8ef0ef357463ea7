//! Rows that are not what a scan or a worker hopes for.

use anyhow::{Context, Result};
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::outcome::{Outcome, Skip};
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};
use sea_orm::{ConnectionTrait, TransactionTrait};

#[tokio::test]
async fn connections_of_an_unknown_integration_type_are_untouched() -> Result<()> {
    let fleet = TestFleet::found().await?;
    let unknown = ["99", "", "1", "150", "fynd"];
    for (id, integration_type) in (1..).zip(unknown) {
        fleet.add([NewConnection { integration_type, ..NewConnection::fynd(id, 300) }]).await?;
    }
    fleet.add([NewConnection::fynd(6, 300), NewConnection::fynd(7, 300)]).await?;
    fleet.execute("UPDATE channels SET integrationType = NULL WHERE connectionId = 6", []).await?;
    fleet.execute("UPDATE channels SET connectionId = NULL WHERE connectionId = 7", []).await?;
    let mut before = Vec::new();
    for id in 1..=7 {
        before.push(fleet.stored(id).await?);
    }
    for lane in Lane::ALL {
        assert_eq!(fleet.scan(lane).await?.found, 0);
    }
    assert_eq!(fleet.retry_scan().await?.found, 0);
    for (id, before) in (1..).zip(before) {
        assert_eq!(before.ours, None);
        assert_eq!(fleet.stored(id).await?, before);
    }
    fleet.dissolve().await
}

#[tokio::test]
async fn what_changes_between_publishing_and_processing_is_noticed() -> Result<()> {
    let fleet = TestFleet::found().await?;
    fleet.add((1..=6).map(|id| NewConnection::fynd(id, 300))).await?;
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, 6);
    for statement in [
        "DELETE FROM ie_appinstall_connection WHERE id = 1",
        "UPDATE ie_appinstall_connection SET isActive = 'inactive' WHERE id = 2",
        "UPDATE ie_appinstall_connection SET isActive = NULL WHERE id = 3",
        "DELETE FROM channels WHERE connectionId = 4",
        "UPDATE channels SET integrationType = '3' WHERE connectionId = 5",
        "DELETE FROM token_refresh WHERE connection_id = 6",
    ] {
        assert_eq!(fleet.execute(statement, []).await?, 1, "{statement}");
    }
    let mut skips = Vec::new();
    for report in fleet.work_off(6).await? {
        let Outcome::Skipped(skip) = report.outcome else {
            anyhow::bail!("not skipped: {report:?}");
        };
        skips.push((report.connection_id.context("no connection")?.0, skip));
    }
    skips.sort_by_key(|(id, _)| *id);
    let (gone, inactive) = (Skip::Gone, Skip::Inactive);
    assert_eq!(skips, [(1, gone), (2, inactive), (3, inactive), (4, gone), (5, gone), (6, gone)]);
    assert_eq!(fleet.calls(), Vec::<String>::new());
    assert!(fleet.cache().await?.is_empty());
    for id in 2..=6 {
        assert_eq!(fleet.stored(id).await?.access_token, Some(format!("old-{id}")));
    }
    fleet.dissolve().await
}

#[tokio::test]
async fn a_zero_date_is_no_expiry_and_is_refreshed_in_the_urgent_lane() -> Result<()> {
    for column_type in ["DATETIME", "TIMESTAMP"] {
        let fleet = TestFleet::found().await?;
        let alter =
            format!("ALTER TABLE ie_appinstall_connection MODIFY accessTokenExpiryAt {column_type} NULL");
        fleet.execute(&alter, []).await?;
        fleet.add([NewConnection { expires_in: None, ..NewConnection::fynd(1, 0) }]).await?;
        // One transaction is one session, and only a lenient one takes a zero date.
        let lenient = fleet.database.connect().await?.begin().await?;
        lenient.execute_unprepared("SET SESSION sql_mode = ''").await?;
        let zero = "UPDATE ie_appinstall_connection SET accessToken = 'undead', \
             accessTokenExpiryAt = '0000-00-00 00:00:00' WHERE id = 1";
        assert_eq!(lenient.execute_unprepared(zero).await?.rows_affected(), 1);
        lenient.commit().await?;
        let zeros = "SELECT COUNT(*) FROM ie_appinstall_connection WHERE CAST(accessTokenExpiryAt AS CHAR) LIKE '0000-00-00%'";
        assert_eq!(fleet.number(zeros).await?, 1);

        assert_eq!(fleet.scan(Lane::Early).await?.found, 0);
        let report = fleet.scan(Lane::Urgent).await?;
        assert_eq!((report.found, report.published, report.unreadable), (1, 1, 0), "{column_type}");
        let reports = fleet.work_off(1).await?;
        assert_eq!(reports[0].outcome.as_str(), "refreshed", "{column_type}: {reports:?}");
        let stored = fleet.stored(1).await?;
        assert!(stored.expires_at.is_some() && stored.generation() == 1, "{column_type}: {stored:?}");
        assert_ne!(stored.access_token.as_deref(), Some("undead"));
        assert_eq!(Some(fleet.cache().await?["connectionAccessToken_1"].value.clone()), stored.access_token);
        fleet.dissolve().await?;
    }
    Ok(())
}

/// A version to come may know states that this one does not.
#[tokio::test]
async fn a_state_that_this_build_does_not_know_is_named_and_left_as_it_is() -> Result<()> {
    let fleet = TestFleet::found().await?;
    fleet.add([NewConnection::fynd(1, 300)]).await?;
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, 1);
    fleet.execute("UPDATE token_refresh SET state = 'hibernating'", []).await?;
    let reports = fleet.work_off(1).await?;
    assert_eq!(reports[0].outcome.as_str(), "failed");
    let stored = fleet.stored(1).await?;
    assert_eq!(stored.access_token.as_deref(), Some("old-1"));
    let ours = stored.ours.context("not enrolled")?;
    assert_eq!(
        (ours.state.as_str(), ours.failure_class.as_deref()),
        ("hibernating", Some("misconfigured")),
        "the version that knows the word finds it again"
    );
    assert!(ours.next_attempt_at.is_some());
    let detail = ours.failure_detail.context("no detail")?;
    assert!(detail.contains("state holds a word that this build does not know"), "{detail}");
    assert_eq!(fleet.calls(), Vec::<String>::new());

    fleet.let_next_attempts_come().await?;
    assert_eq!(fleet.retry_scan().await?.published, 0);
    fleet.execute("UPDATE token_refresh SET state = 'active'", []).await?;
    let worker = fleet.worker().await?;
    assert_eq!(fleet.retry_scan().await?.published, 1);
    worker.until_handled(1, PATIENCE).await?;
    assert_eq!(worker.outcomes(), ["refreshed"]);
    worker.stop().await?;
    fleet.dissolve().await
}
