//! A queue that does not answer, on a broker of the test's own.

use anyhow::{Context, Result};
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
