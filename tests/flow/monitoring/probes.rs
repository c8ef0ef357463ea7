//! Probes of real processes: alive, ready, not ready any more.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use freshet_cli::simulator::{Matcher, ScriptedAnswer};
use freshet_shared::domain::lane::Lane;
use freshet_tests::binaries::{Binary, DesertedAddress};
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};
use freshet_tests::monitoring::Watched;
use freshet_tests::waiting::eventually;
use nix::sys::signal::Signal;

/// The marketplace takes this long: longer than a signal needs to arrive on a busy machine.
const SLOW: Duration = Duration::from_secs(4);

async fn until_ready(watched: &Watched) -> Result<()> {
    eventually("it is ready", PATIENCE, async || {
        let (status, body) = watched.get("/readyz").await?;
        ensure!(status == 200, "{status}: {body}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_worker_is_ready_while_it_consumes_and_not_from_the_first_signal_on() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    fleet.watch();
    fleet.add([NewConnection::very(1, 1_200)]).await?;
    let mut worker = Binary::new("worker")?.arguments(["run"]).variables(&fleet.environment).start()?;
    let watched = Watched::of(&mut worker).await?;
    until_ready(&watched).await?;
    assert_eq!(watched.get("/livez").await?, (200, "ok\n".into()));

    fleet.marketplaces.script(Matcher::any(), [ScriptedAnswer::delay(SLOW)]);
    assert_eq!(fleet.scan(Lane::Early).await?.published, 1);
    fleet.until_pending(1).await?;
    assert_eq!(watched.metrics().await?.sum("freshet_in_flight", &[]), Some(1.0));
    worker.signal(Signal::SIGTERM)?;
    eventually("it is not ready any more", SLOW, async || {
        let (status, body) = watched.get("/readyz").await?;
        ensure!((status, body.as_str()) == (503, "stopping\n"), "{status}: {body}");
        Ok(())
    })
    .await?;
    assert_eq!(fleet.pending_token_requests(), 1, "it was not ready before its work was over");
    assert_eq!(watched.get("/livez").await?.0, 200, "it has yet to finish what it began");
    let _ended = worker.ended(PATIENCE).await?.with_code(0)?;
    assert_eq!(fleet.stored(1).await?.generation(), 1);
    fleet.dissolve().await
}

#[tokio::test]
async fn without_its_broker_a_worker_is_alive_and_not_ready() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    fleet.watch();
    let deserted = DesertedAddress::take()?;
    let url = format!("amqp://127.0.0.1:{}/%2f", deserted.address()?.port());
    fleet.environment.insert("FRESHET_RABBITMQ__URL".into(), url);
    let mut worker = Binary::new("worker")?.arguments(["run"]).variables(&fleet.environment).start()?;
    let watched = Watched::of(&mut worker).await?;
    eventually("it says why it is not ready", PATIENCE, async || {
        let (status, body) = watched.get("/readyz").await?;
        ensure!(
            (status, body.as_str()) == (503, "not consuming: no session with RabbitMQ\n"),
            "{status}: {body}"
        );
        Ok(())
    })
    .await?;
    assert_eq!(watched.get("/livez").await?.0, 200);
    // It can be asked for its health a moment before it counts.
    eventually("it counts its sessions", PATIENCE, async || {
        let sessions = watched.metrics().await?.sum("freshet_amqp_session", &[("purpose", "consume")]);
        ensure!(sessions == Some(0.0), "{sessions:?}");
        Ok(())
    })
    .await?;
    let _ended = worker.terminate(PATIENCE).await?.with_code(0)?;
    fleet.dissolve().await
}

#[tokio::test]
async fn a_producer_is_ready_while_it_scans_and_waits_and_alive_while_it_starts() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    fleet.watch();
    let mut producer = Binary::new("producer")?.arguments(["run"]).variables(&fleet.environment).start()?;
    let watched = Watched::of(&mut producer).await?;
    until_ready(&watched).await?;
    assert_eq!(watched.get("/livez").await?.0, 200);
    let _ended = producer.terminate(PATIENCE).await?.with_code(0)?;

    // Its database does not answer yet: it waits for a reason.
    let deserted = DesertedAddress::take()?;
    let url = format!("mysql://u:p@127.0.0.1:{}/d", deserted.address()?.port());
    let mut waiting = Binary::new("producer")?
        .arguments(["run"])
        .variables(&fleet.environment)
        .variable("FRESHET_DATABASE__URL", url)
        .start()?;
    let watched = Watched::of(&mut waiting).await?;
    let (status, body) = watched.get("/readyz").await?;
    assert_eq!((status, body.starts_with("starting")), (503, true), "{body}");
    assert_eq!(watched.get("/livez").await?.0, 200);
    let _ended = waiting.terminate(PATIENCE).await?.with_code(0)?;
    fleet.dissolve().await
}

#[tokio::test]
async fn an_address_that_cannot_be_listened_on_is_refused_by_its_key() -> Result<()> {
    let fleet = TestFleet::found().await?;
    let taken = std::net::TcpListener::bind("127.0.0.1:0").context("no port")?;
    let taken = taken.local_addr()?.to_string();
    for binary in ["worker", "producer"] {
        for listen in [taken.as_str(), "9464", "host:", "::1:9464", "127.0.0.1:99999"] {
            let refused = Binary::new(binary)?
                .arguments(["run"])
                .variables(&fleet.environment)
                .variable("FRESHET_MONITORING__LISTEN", listen)
                .run()
                .await?
                .with_code(78)?;
            assert!(refused.stderr.contains("monitoring.listen: "), "{listen}: {}", refused.stderr);
        }
    }
    fleet.dissolve().await
}
