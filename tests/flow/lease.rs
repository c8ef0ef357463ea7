//! The lease on a connection, on the database's own clock.

use anyhow::{Context, Result};
use chrono::TimeDelta;
use freshet_shared::domain::connection::{
    ConnectionId, ConnectionState, Generation, LoadedConnection, RowStanding,
};
use freshet_shared::ports::store::{Attempt, RefreshStore};
use freshet_tests::fleet::{NewConnection, TestFleet, now};

fn attempt(id: &str, loaded: Option<&str>) -> Attempt {
    Attempt {
        connection_id: ConnectionId(1),
        generation: Generation(0),
        loaded: RowStanding { state: ConnectionState::Active, waiting_fingerprint: None },
        loaded_grant: None,
        loaded_attempt: loaded.map(str::to_owned),
        id: id.to_owned(),
        owner: format!("owner of {id}"),
        is_effect_unknown: loaded.is_some(),
        grant: "grant".into(),
        lease: TimeDelta::seconds(90),
        passes: false,
    }
}

async fn load(fleet: &TestFleet) -> Result<LoadedConnection> {
    fleet.store.load(ConnectionId(1), "fynd", Some("15")).await?.context("no row")
}

#[tokio::test]
async fn a_lease_is_judged_by_the_databases_clock() -> Result<()> {
    let fleet = TestFleet::found().await?;
    fleet.add([NewConnection::fynd(1, 300)]).await?;
    fleet.execute("INSERT INTO token_refresh (connection_id) VALUES (1)", []).await?;
    assert!(fleet.store.begin_attempt(&attempt("a", None)).await?);
    // Both are what the server's clock says, whatever ours does.
    let written = "SELECT COUNT(*) FROM token_refresh \
         WHERE lease_until BETWEEN UTC_TIMESTAMP(6) + INTERVAL 30 SECOND AND UTC_TIMESTAMP(6) + INTERVAL 90 SECOND \
         AND attempt_sent_at BETWEEN UTC_TIMESTAMP(6) - INTERVAL 60 SECOND AND UTC_TIMESTAMP(6)";
    assert_eq!(fleet.number(written).await?, 1);
    assert!(!fleet.store.begin_attempt(&attempt("b", Some("a"))).await?, "the lease is held");

    // A worker whose clock is an hour behind sees it where the server sees it.
    let behind = now() - TimeDelta::hours(1);
    let loaded = load(&fleet).await?;
    let (lease, sent) =
        (loaded.leased_until.context("no lease")?, loaded.attempt_sent_at.context("not sent")?);
    let database_now = loaded.database_now;
    assert!((database_now - now()).abs() < TimeDelta::minutes(5), "UTC, whatever the session's zone");
    let loaded = loaded.by_clock_of(behind);
    assert_eq!(loaded.leased_until, Some(behind + (lease - database_now)));
    assert_eq!(loaded.attempt_sent_at, Some(behind - (database_now - sent)));

    // However late a second call with the same refresh token is written down, its leeway is counted from the first.
    fleet
        .execute(
            "UPDATE token_refresh SET lease_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND, \
             attempt_sent_at = '2026-11-21 12:00:00.25'",
            [],
        )
        .await?;
    let first_sent = "SELECT COUNT(*) FROM token_refresh WHERE attempt_id = 'b' AND attempt_sent_at = '2026-11-21 12:00:00.25'";
    assert!(fleet.store.begin_attempt(&attempt("b", Some("a"))).await?, "it ran out");
    assert_eq!(fleet.number(first_sent).await?, 1);
    assert!(fleet.store.begin_attempt(&attempt("b", Some("a"))).await?, "a reply was lost");
    assert_eq!(fleet.number(first_sent).await?, 1);
    fleet.dissolve().await
}
