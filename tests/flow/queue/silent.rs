//! A queue that does not answer, on a broker of the test's own.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use freshet_shared::adapters::rabbitmq::{RabbitMq, RabbitMqSettings, queue_name};
use freshet_shared::domain::lane::Lane;
use freshet_shared::ports::queue::Consumer;
use freshet_tests::services;
use tokio::time::timeout;

use super::{DEADLINE, POOL, consumer, publish, settings};

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
