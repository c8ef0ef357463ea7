//! Several producers and workers at once.

use std::collections::HashMap;

use anyhow::{Result, ensure};
use freshet_producer::scan::Target;
use freshet_shared::domain::lane::Lane;
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};
use freshet_tests::waiting::eventually;

const CONNECTIONS: i64 = 2_000;
const URGENT: Target = Target::Lane(Lane::Urgent);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_producers_and_four_workers_refresh_two_thousand_connections_exactly_once_each() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    // Small pages, so that the producers meet often.
    fleet.environment.insert("FRESHET_SCAN__PAGE_SIZE".into(), "100".into());
    fleet.add([NewConnection::fynd(1, 300)]).await?;
    multiply(&fleet).await?;

    let mut workers = Vec::new();
    for _ in 0..4 {
        workers.push(fleet.worker().await?);
    }
    let (one, other) = (fleet.producer().await?, fleet.producer().await?);
    let (one, other) = tokio::join!(one.once(URGENT), other.once(URGENT));
    let (one, other) = (one?, other?);
    assert_eq!(one.published + other.published, CONNECTIONS as u64, "{one}; {other}");

    eventually("all are refreshed", PATIENCE, async || {
        let refreshed = fleet.number("SELECT COUNT(*) FROM token_refresh WHERE generation = 1").await?;
        ensure!(refreshed == CONNECTIONS, "{refreshed} of {CONNECTIONS} are refreshed");
        Ok(())
    })
    .await?;
    fleet.vhost.until_drained(PATIENCE).await?;
    let mut outcomes: HashMap<&str, usize> = HashMap::new();
    for worker in workers {
        ensure!(!worker.reports().is_empty(), "a worker had nothing to do");
        for outcome in worker.outcomes() {
            *outcomes.entry(outcome).or_default() += 1;
        }
        worker.stop().await?;
    }
    assert_eq!(outcomes, HashMap::from([("refreshed", CONNECTIONS as usize)]));

    let mut calls: HashMap<String, usize> = HashMap::new();
    for entry in fleet.marketplaces.ledger() {
        if entry.issued().is_some() {
            *calls.entry(entry.account.unwrap_or_default()).or_default() += 1;
        }
    }
    assert_eq!(calls.len(), CONNECTIONS as usize);
    assert!(calls.values().all(|count| *count == 1), "a token was asked for twice");
    assert_eq!(fleet.number("SELECT COUNT(*) FROM token_refresh WHERE generation <> 1").await?, 0);
    assert_eq!(fleet.number("SELECT COUNT(*) FROM token_refresh WHERE queued_until IS NOT NULL").await?, 0);
    let tokens = fleet.cache().await?.keys().filter(|key| key.starts_with("connectionAccessToken_")).count();
    assert_eq!(tokens, CONNECTIONS as usize);
    fleet.dissolve().await
}

/// Copies the first connection in the database, each copy with input of its own.
async fn multiply(fleet: &TestFleet) -> Result<()> {
    let numbers = "(SELECT a.n + 10 * b.n + 100 * c.n + 1000 * d.n + 1 AS n FROM \
        (SELECT 0 n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) a, \
        (SELECT 0 n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) b, \
        (SELECT 0 n UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5 UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) c, \
        (SELECT 0 n UNION SELECT 1) d) numbers";
    fleet
        .execute(
            &format!(
                "INSERT INTO ie_appinstall_connection (id, isActive, accessToken, accessTokenExpiryAt, inputFields) \
                 SELECT n, 'active', 'old', k.accessTokenExpiryAt + INTERVAL n MOD 200 SECOND, \
                 CONCAT('{{\"x-integration-id\":\"location-', n, '\",\"x-integration-token\":\"t\"}}') \
                 FROM ie_appinstall_connection k, {numbers} WHERE k.id = 1 AND n > 1"
            ),
            [],
        )
        .await?;
    fleet
        .execute(
            &format!(
                "INSERT INTO channels (connectionId, account_id, channel_id, integrationType, additionalDetails) \
                 SELECT n, n, CONCAT('channel-', n), '15', '{{}}' FROM {numbers} WHERE n > 1"
            ),
            [],
        )
        .await?;
    Ok(())
}
