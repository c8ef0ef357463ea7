//! `producer run` and `worker run` side by side, as they run in production.

use anyhow::{Context, Result, ensure};
use freshet_cli::simulator::Provider;
use freshet_tests::binaries::Binary;
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet, now};
use freshet_tests::waiting::eventually;

const FLEET: i64 = 16;

#[tokio::test]
async fn a_producer_and_a_worker_make_the_whole_fleet_fresh_and_end_on_sigterm() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    for lane in ["EARLY", "URGENT"] {
        fleet.environment.insert(format!("FRESHET_SCAN__{lane}"), "* * * * * *".into());
    }
    fleet.environment.insert("FRESHET_TELEMETRY__FILTER".into(), "info".into());
    // Urgent, expired and early ones of both marketplaces, and two that are not due.
    let connections = (1..=FLEET).map(|id| {
        let expires_in = [400, -3_600, 1_500, 900][usize::try_from(id / 2).unwrap_or_default() % 4];
        if id % 2 == 0 { NewConnection::fynd(id, expires_in) } else { NewConnection::very(id, expires_in) }
    });
    fleet.add(connections).await?;
    fleet.add([NewConnection::fynd(91, 3_500), NewConnection::very(92, 2_500)]).await?;
    let untouched = [fleet.stored(91).await?, fleet.stored(92).await?];

    let mut worker = Binary::new("worker")?.arguments(["run"]).variables(&fleet.environment).start()?;
    let mut producer = Binary::new("producer")?.arguments(["run"]).variables(&fleet.environment).start()?;
    eventually("all that is due is fresh", PATIENCE, async || {
        ensure!(worker.is_running()? && producer.is_running()?, "{}{}", worker.stderr(), producer.stderr());
        for id in 1..=FLEET {
            let stored = fleet.stored(id).await?;
            let expires_at = stored.expires_at.context("no expiry")?;
            ensure!((expires_at - now()).num_minutes() >= 58, "connection {id} is due since {expires_at}");
        }
        Ok(())
    })
    .await?;
    fleet.vhost.until_drained(PATIENCE).await?;

    let producer = producer.terminate(PATIENCE).await?.with_code(0)?;
    let worker = worker.terminate(PATIENCE).await?.with_code(0)?;
    assert_eq!((producer.stdout.as_str(), worker.stdout.as_str()), ("", ""));
    assert!(worker.stderr.contains("worker stopped"), "{}", worker.stderr);

    for id in 1..=FLEET {
        assert_eq!(fleet.stored(id).await?.generation(), 1, "connection {id} was refreshed once");
    }
    assert_eq!([fleet.stored(91).await?, fleet.stored(92).await?], untouched);
    let tokens = fleet.marketplaces.ledger().iter().filter(|entry| entry.issued().is_some()).count();
    assert_eq!(tokens, FLEET as usize);
    let of = |provider| {
        fleet.marketplaces.ledger().iter().filter(|entry| entry.provider == Some(provider)).count()
    };
    assert_eq!((of(Provider::Fynd), of(Provider::KornitX)), (8, 8));
    fleet.dissolve().await
}
