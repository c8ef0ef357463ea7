//! A queue that does not answer, on a broker of the test's own.

use std::ops::RangeInclusive;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use freshet_producer::scan::Target;
use freshet_shared::adapters::rabbitmq::{RabbitMq, RabbitMqSettings, queue_name};
use freshet_shared::domain::lane::Lane;
use freshet_shared::ports::queue::{Consumer, Outgoing, PublishError, Publisher};
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};
use freshet_tests::services;
use freshet_tests::waiting::eventually;
use tokio::time::{Instant, timeout};

use super::{DEADLINE, POOL, consumer, next, outgoing, publish, settings};

#[tokio::test]
async fn a_queue_that_does_not_answer_holds_up_no_other() -> Result<()> {
    if !services::RabbitMq::is_installed() {
        return Ok(());
    }
    let server = services::RabbitMq::start().await?;
    // Whoever waited for that queue would wait for longer than this test.
    let settings = RabbitMqSettings { operation_timeout: 4 * DEADLINE, ..settings(&server.url()) };
    let rabbitmq = RabbitMq::new(settings, &[POOL.to_owned()])?;
    publish(&rabbitmq.publisher(), 0..1, Lane::Urgent).await?;
    server.suspend(&queue_name(POOL, Lane::Early)).await?;
    let mut consumer = consumer(&rabbitmq, 10);
    let delivery =
        timeout(DEADLINE, consumer.next()).await.context("the message of the other queue waits")??;
    delivery.settle.acknowledge().await?;
    // Whoever ends does not wait for it either.
    timeout(DEADLINE, async {
        consumer.stop().await;
        consumer.finish().await;
    })
    .await
    .context("the consumer does not end")
}

#[tokio::test]
async fn a_consumer_of_queues_that_never_answer_gives_up() -> Result<()> {
    if !services::RabbitMq::is_installed() {
        return Ok(());
    }
    let server = services::RabbitMq::start().await?;
    let settings = RabbitMqSettings { give_up_after: Duration::from_secs(2), ..settings(&server.url()) };
    let rabbitmq = RabbitMq::new(settings, &[POOL.to_owned()])?;
    publish(&rabbitmq.publisher(), 0..1, Lane::Urgent).await?;
    for lane in Lane::ALL {
        server.suspend(&queue_name(POOL, lane)).await?;
    }
    let mut consumer = consumer(&rabbitmq, 10);
    let given_up = timeout(DEADLINE, consumer.next()).await.context("it waits for ever")?;
    let problem = given_up.err().context("a message came")?.problem;
    ensure!(problem.starts_with("no session with RabbitMQ for 2s"), "{problem}");
    Ok(())
}

/// More than the broker takes in for a queue that does not answer, before it reads nothing more from the connection.
const MANY: i64 = 2_000;

#[tokio::test]
async fn what_goes_to_a_queue_that_does_not_answer_leaves_the_messages_for_others_alone() -> Result<()> {
    if !services::RabbitMq::is_installed() {
        return Ok(());
    }
    let server = services::RabbitMq::start().await?;
    let limit = Duration::from_secs(3);
    let settings = RabbitMqSettings { operation_timeout: limit, ..settings(&server.url()) };
    let rabbitmq = RabbitMq::new(settings, &[POOL.to_owned(), "other".to_owned()])?;
    let publisher = rabbitmq.publisher();
    publish(&publisher, 0..1, Lane::Urgent).await?;
    server.suspend(&queue_name(POOL, Lane::Early)).await?;
    // Those for the silent queue come first, and last.
    let route = |id: i64| match id % 4 {
        0 => (POOL, Lane::Urgent),
        2 => ("other", Lane::Early),
        _ => (POOL, Lane::Early),
    };
    let messages: Vec<Outgoing> =
        (1..=MANY).map(|id| outgoing(id, route(id).0, route(id).1)).collect::<Result<_>>()?;
    let begun = Instant::now();
    let results = publisher.publish(&messages).await;
    let took = begun.elapsed();
    for (id, result) in (1..=MANY).zip(&results) {
        match route(id) {
            (POOL, Lane::Early) => {
                ensure!(matches!(result, Err(PublishError::QueueSilent { .. })), "{id}: {result:?}")
            }
            _ => ensure!(result.is_ok(), "{id}: {result:?}"),
        }
    }
    ensure!(took < DEADLINE, "it took {took:?}");
    // It goes on at once.
    assert_eq!(publisher.publish(&[outgoing(MANY + 1, POOL, Lane::Urgent)?]).await, [Ok(())]);
    server.resume(&queue_name(POOL, Lane::Early)).await?;
    eventually("the queue takes messages again", DEADLINE, async || {
        let result = publisher.publish(&[outgoing(MANY + 2, POOL, Lane::Early)?]).await;
        ensure!(result == [Ok(())], "{result:?}");
        Ok(())
    })
    .await?;
    let mut consumer = consumer(&rabbitmq, 100);
    let delivery = next(&mut consumer).await?;
    delivery.settle.acknowledge().await?;
    Ok(())
}

/// What a producer scans with: the marketplaces' connections, some of which go to the queue that does not answer.
#[tokio::test]
async fn beside_a_queue_that_does_not_answer_connections_are_refreshed_and_when_it_does_nothing_is_lost()
-> Result<()> {
    if !services::RabbitMq::is_installed() {
        return Ok(());
    }
    let server = services::RabbitMq::start().await?;
    let mut fleet = TestFleet::found().await?;
    for (name, value) in [
        ("FRESHET_RABBITMQ__URL", server.url()),
        ("FRESHET_RABBITMQ__OPERATION_TIMEOUT", "3s".into()),
        ("FRESHET_SCAN__CLAIM", "15s".into()),
    ] {
        fleet.environment.insert(name.into(), value);
    }
    let worker = fleet.worker().await?;
    let producer = fleet.producer().await?;
    // Declares.
    producer.once(Target::Lane(Lane::Urgent)).await?;
    let early = queue_name(POOL, Lane::Early);
    server.suspend(&early).await?;
    let (slow, urgent) = (1..=5_i64, 6..=10_i64);
    fleet.add(slow.clone().map(|id| NewConnection::fynd(id, 1_200))).await?;
    let missed = producer.once(Target::Lane(Lane::Early)).await?;
    ensure!(missed.claimed == 5 && missed.published == 0, "{missed}");
    fleet.add(urgent.clone().map(|id| NewConnection::fynd(id, 300))).await?;
    let begun = Instant::now();
    let published = producer.once(Target::Lane(Lane::Urgent)).await?;
    ensure!(published.published == 5 && published.unpublished == 0, "{published}");
    let refreshed = async |ids: RangeInclusive<i64>| {
        for id in ids {
            ensure!(fleet.stored(id).await?.generation() == 1, "connection {id} is not");
        }
        Ok(())
    };
    eventually("the urgent ones are refreshed", PATIENCE, async || refreshed(urgent.clone()).await).await?;
    let took = begun.elapsed();
    ensure!(took < DEADLINE, "it took {took:?}");
    server.resume(&early).await?;
    eventually("the others are refreshed, too", PATIENCE, async || {
        // The claims on those of which nobody knew run out; the message may have come in all the same.
        producer.once(Target::Lane(Lane::Early)).await?;
        refreshed(slow.clone()).await
    })
    .await?;
    worker.stop().await?;
    fleet.dissolve().await
}
