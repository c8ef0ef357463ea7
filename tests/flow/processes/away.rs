//! With broker, cache or database away a process works on as far as it can, says so, and still ends when asked to.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use freshet_shared::domain::lane::Lane;
use freshet_tests::binaries::{Binary, DesertedAddress, MuteAddress, Process};
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};
use freshet_tests::services::RabbitMq;
use freshet_tests::waiting::eventually;

/// What a loaded machine adds.
const SLACK: Duration = Duration::from_secs(5);

fn worker(fleet: &TestFleet, variable: &str, url: &str) -> Result<Process> {
    let worker = Binary::new("worker")?.arguments(["run"]).variables(&fleet.environment);
    worker.variable("FRESHET_RABBITMQ__OPERATION_TIMEOUT", "1s").variable(variable, url).start()
}

#[tokio::test]
async fn without_rabbitmq_it_keeps_trying() -> Result<()> {
    let fleet = TestFleet::found().await?;
    let (deserted, mute) = (DesertedAddress::take()?, MuteAddress::take()?);
    for address in [deserted.address()?, mute.address()?] {
        let url = format!("amqp://u:s3cret@{address}/%2f");
        let mut worker = worker(&fleet, "FRESHET_RABBITMQ__URL", &url)?;
        worker.until_it_says("RabbitMQ cannot be consumed from, trying again", PATIENCE).await?;
        ensure!(worker.is_running()?, "it gave up:\n{}", worker.stderr());
        let ended = worker.terminate(PATIENCE).await?.with_code(0)?;
        assert!(ended.stderr.contains(&address.to_string()), "the broker is named: {}", ended.stderr);
        assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
    }
    fleet.dissolve().await
}

#[tokio::test]
async fn a_worker_that_finds_no_broker_for_long_ends_and_says_so() -> Result<()> {
    let fleet = TestFleet::found().await?;
    let nobody = DesertedAddress::take()?;
    let url = format!("amqp://u:s3cret@{}/%2f", nobody.address()?);
    let binary = Binary::new("worker")?.arguments(["run"]).variables(&fleet.environment);
    let worker = binary
        .variable("FRESHET_RABBITMQ__URL", url)
        .variable("FRESHET_RABBITMQ__GIVE_UP_AFTER", "1s")
        .start()?;
    let ended = worker.ended(PATIENCE).await?.with_code(1)?;
    assert!(ended.stderr.contains("no session with RabbitMQ for 1s"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
    fleet.dissolve().await
}

#[tokio::test]
async fn a_worker_whose_broker_is_lost_for_long_ends_and_says_so() -> Result<()> {
    const GIVE_UP_AFTER: Duration = Duration::from_secs(3);
    if !RabbitMq::is_installed() {
        return Ok(());
    }
    let mut server = RabbitMq::start().await?;
    let mut fleet = TestFleet::found().await?;
    for (name, value) in [
        ("FRESHET_RABBITMQ__URL", server.url()),
        ("FRESHET_RABBITMQ__GIVE_UP_AFTER", "3s".into()),
        ("FRESHET_TELEMETRY__FILTER", "info".into()),
    ] {
        fleet.environment.insert(name.into(), value);
    }
    fleet.add([NewConnection::very(1, 300)]).await?;
    let mut worker = Binary::new("worker")?.arguments(["run"]).variables(&fleet.environment).start()?;
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, 1);
    eventually("its session is a good one", PATIENCE, async || {
        ensure!(worker.is_running()?, "it gave up:\n{}", worker.stderr());
        ensure!(fleet.stored(1).await?.generation() == 1, "nothing came over it:\n{}", worker.stderr());
        Ok(())
    })
    .await?;
    server.kill()?;
    let killed = Instant::now();
    let ended = worker.ended(PATIENCE).await?.with_code(1)?;
    let took = killed.elapsed();
    assert!(ended.stderr.contains("the session with RabbitMQ is lost"), "{}", ended.stderr);
    assert!(ended.stderr.contains("no session with RabbitMQ for 3s"), "{}", ended.stderr);
    assert!(ended.stderr.contains("RabbitMQ cannot be consumed from, trying again"), "{}", ended.stderr);
    assert!(took < GIVE_UP_AFTER + SLACK, "{took:?}:\n{}", ended.stderr);
    println!("it gave up after {took:?}");
    fleet.dissolve().await
}

#[tokio::test]
async fn without_the_database_a_start_waits_for_it() -> Result<()> {
    let fleet = TestFleet::found().await?;
    let nobody = DesertedAddress::take()?;
    let url = format!("mysql://freshet:s3cret@{}/platform", nobody.address()?);
    for name in ["producer", "worker"] {
        let binary = Binary::new(name)?.arguments(["run"]).variables(&fleet.environment);
        let mut process = binary.variable("FRESHET_DATABASE__URL", &url).start()?;
        process.until_it_says("waiting for the database", PATIENCE).await?;
        let ended = process.terminate(PATIENCE).await?.with_code(0)?;
        assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
    }
    fleet.dissolve().await
}

#[tokio::test]
async fn without_redis_tokens_are_renewed_all_the_same() -> Result<()> {
    let (deserted, mute) = (DesertedAddress::take()?, MuteAddress::take()?);
    for address in [deserted.address()?, mute.address()?] {
        renewed_without_redis(address).await?;
    }
    Ok(())
}

async fn renewed_without_redis(address: SocketAddr) -> Result<()> {
    let fleet = TestFleet::found().await?;
    fleet.add([NewConnection::fynd(1, 300), NewConnection::very(2, 1_200)]).await?;
    fleet.scan(Lane::Urgent).await?;
    fleet.scan(Lane::Early).await?;
    let mut worker = worker(&fleet, "FRESHET_REDIS__URL", &format!("redis://:s3cret@{address}"))?;
    eventually("both tokens are renewed", PATIENCE, async || {
        ensure!(worker.is_running()?, "it gave up:\n{}", worker.stderr());
        for id in 1..=2 {
            ensure!(fleet.stored(id).await?.generation() == 1, "connection {id} is not");
        }
        Ok(())
    })
    .await?;
    fleet.vhost.until_drained(PATIENCE).await?;
    worker.until_it_says("Redis", PATIENCE).await?;
    let ended = worker.terminate(PATIENCE).await?.with_code(0)?;
    assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
    assert_eq!(fleet.cache().await?.len(), 0);
    for id in 1..=2 {
        let ours = fleet.stored(id).await?.ours;
        assert!(ours.is_some_and(|ours| ours.next_attempt_at.is_some()), "the cache's repair is planned");
    }
    fleet.dissolve().await
}
