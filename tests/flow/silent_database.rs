//! A database that says nothing, while its connections stay open: it stands still, or the network has lost its other half.

pub(crate) mod network;
mod sessions;

use std::time::Duration;

use anyhow::{Result, ensure};
use freshet_cli::simulator::{Matcher, ScriptedAnswer};
use freshet_tests::binaries::{Binary, Process};
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};
use freshet_tests::services::MariaDb;
use freshet_tests::waiting::eventually;
use network::Network;

/// Longer than a signal needs to arrive on a busy machine.
const SLOW: Duration = Duration::from_secs(3);
const GIVEN_UP: &str = "no answer within 1s";

/// A fleet on a server of the test's own, whose processes do not wait for long.
async fn fleet_on(server: &MariaDb) -> Result<TestFleet> {
    let mut fleet = TestFleet::found().await?;
    fleet.move_to(server, &[]).await?;
    let variables = [
        ("FRESHET_DATABASE__STATEMENT_TIMEOUT", "1s"),
        // Longer than a statement may take, so that a new connection that does not come about is given up with its statement.
        ("FRESHET_DATABASE__ACQUIRE_TIMEOUT", "10s"),
        ("FRESHET_SCAN__URGENT", "* * * * * *"),
        ("FRESHET_SCAN__LEASE", "3s"),
        ("FRESHET_TELEMETRY__FILTER", "info"),
    ];
    let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
    fleet.environment.extend(variables);
    Ok(fleet)
}

fn start(fleet: &TestFleet, name: &'static str) -> Result<Process> {
    Binary::new(name)?.arguments(["run"]).variables(&fleet.environment).start()
}

async fn until_fresh(fleet: &TestFleet, id: i64, processes: [&Process; 2]) -> Result<()> {
    eventually("the connection is fresh", PATIENCE, async || {
        let generation = fleet.stored(id).await?.generation();
        let said = || processes.map(Process::stderr).join("\n");
        ensure!(generation == 1, "its generation is {generation}; they say:\n{}", said());
        Ok(())
    })
    .await
}

#[tokio::test]
async fn producer_and_worker_go_on_by_themselves_when_a_database_that_stood_still_does() -> Result<()> {
    let server = MariaDb::start().await?;
    let fleet = fleet_on(&server).await?;
    fleet.marketplaces.script(Matcher::any(), [ScriptedAnswer::delay(SLOW)]);
    fleet.add([NewConnection::very(1, 300)]).await?;
    let (mut producer, mut worker) = (start(&fleet, "producer")?, start(&fleet, "worker")?);
    fleet.until_pending(1).await?;

    server.freeze()?;
    worker.until_it_says(GIVEN_UP, PATIENCE).await?;
    for words in [GIVEN_UP, "scan ended early", "this producer no longer leads"] {
        producer.until_it_says(words, PATIENCE).await?;
    }
    server.thaw()?;

    until_fresh(&fleet, 1, [&producer, &worker]).await?;
    fleet.add([NewConnection::very(2, 300)]).await?;
    until_fresh(&fleet, 2, [&producer, &worker]).await?;
    assert_eq!(fleet.token_requests().len(), 2, "each was asked for once");
    let _ = producer.terminate(PATIENCE).await?.with_code(0)?;
    let _ = worker.terminate(PATIENCE).await?.with_code(0)?;
    fleet.dissolve().await
}

#[tokio::test]
async fn connections_whose_other_end_is_lost_make_room_for_new_ones() -> Result<()> {
    let server = MariaDb::start().await?;
    let mut fleet = fleet_on(&server).await?;
    let network = Network::to(&server.url()).await?;
    let url = fleet.environment["FRESHET_DATABASE__URL"].replace(&server.url(), &network.url());
    fleet.environment.insert("FRESHET_DATABASE__URL".into(), url);
    // The pool closes what lies idle for longer than half of it, and the producer asks every second.
    fleet.environment.insert("FRESHET_DATABASE__STATEMENT_TIMEOUT".into(), "3s".into());
    // A worker takes no fewer.
    fleet.environment.insert("FRESHET_DATABASE__MAX_CONNECTIONS".into(), "6".into());
    let (producer, worker) = (start(&fleet, "producer")?, start(&fleet, "worker")?);
    for id in 1..=3 {
        fleet.add([NewConnection::very(id, 300)]).await?;
        until_fresh(&fleet, id, [&producer, &worker]).await?;
        ensure!(network.lose_all() > 0, "nobody was connected");
    }
    let producer = producer.terminate(PATIENCE).await?.with_code(0)?;
    assert!(producer.stderr.contains("no answer within"), "{}", producer.stderr);
    // The worker's were mostly closed by its pool before it was asked again.
    let _ = worker.terminate(PATIENCE).await?.with_code(0)?;
    fleet.dissolve().await
}

#[tokio::test]
async fn processes_end_in_time_while_the_database_says_nothing() -> Result<()> {
    let server = MariaDb::start().await?;
    let mut fleet = fleet_on(&server).await?;
    // Nobody finds out before it is asked to end.
    fleet.environment.insert("FRESHET_DATABASE__STATEMENT_TIMEOUT".into(), "10m".into());
    fleet.environment.insert("FRESHET_DATABASE__ACQUIRE_TIMEOUT".into(), "1s".into());
    fleet.environment.insert("FRESHET_RABBITMQ__OPERATION_TIMEOUT".into(), "1s".into());
    let (mut producer, worker) = (start(&fleet, "producer")?, start(&fleet, "worker")?);
    fleet.add([NewConnection::very(1, 300)]).await?;
    until_fresh(&fleet, 1, [&producer, &worker]).await?;
    server.freeze()?;
    // It scans every second, and its campaign finds out by itself.
    producer.until_it_says("the database does not say who leads", PATIENCE).await?;
    let worker = worker.terminate(PATIENCE).await?.with_code(0)?;
    let producer = producer.terminate(PATIENCE).await?.with_code(0)?;
    // Two connections, two waits for the broker, the lease; the rest is a loaded machine's.
    assert!(producer.took < Duration::from_secs(4 + 1 + 3), "{:?}:\n{}", producer.took, producer.stderr);
    assert!(worker.took < Duration::from_secs(5), "{:?}:\n{}", worker.took, worker.stderr);
    server.thaw()?;
    fleet.dissolve().await
}
