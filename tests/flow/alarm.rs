//! A broker under a memory alarm, of the test's own.

use std::num::NonZeroU16;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use freshet_shared::adapters::rabbitmq::{Prefetch, RabbitMq, RabbitMqSettings};
use freshet_shared::domain::secret::Secret;
use freshet_shared::ports::queue::{Consumer, Outgoing, PublishError, Publisher, TraceContext};
use freshet_tests::services;
use freshet_tests::waiting::eventually;
use serde_json::json;
use tokio::time::timeout;

const DEADLINE: Duration = Duration::from_secs(60);
const MESSAGES: u16 = 10;

fn outgoing(id: u16) -> Result<Outgoing> {
    let message = serde_json::from_value(json!({
        "v": 1, "connection_id": id, "generation": 1, "provider": "fynd", "lane": "early", "due_at": "2026-01-01T00:00:00Z"
    }))?;
    Ok(Outgoing { message, pool: "shared".into(), context: TraceContext::new() })
}

#[tokio::test]
async fn acknowledgements_go_on_while_publishes_wait() -> Result<()> {
    if !services::RabbitMq::is_installed() {
        return Ok(());
    }
    let mut server = services::RabbitMq::start().await?;
    let settings = RabbitMqSettings {
        url: Secret::new(server.url()),
        heartbeat: Duration::from_secs(5),
        operation_timeout: Duration::from_secs(5),
        delivery_limit: 50,
        give_up_after: Duration::from_secs(300),
        connection_name: "alarm-test".into(),
    };
    let rabbitmq = RabbitMq::new(settings, &["shared".into()])?;
    let (publisher, prefetch) = (rabbitmq.publisher(), NonZeroU16::new(MESSAGES).context("none")?);
    let mut consumer = rabbitmq.consumer(Prefetch { urgent: prefetch, early: prefetch });
    let messages: Vec<Outgoing> = (0..MESSAGES).map(outgoing).collect::<Result<_>>()?;
    publisher.publish(&messages).await.into_iter().collect::<Result<(), PublishError>>()?;
    let mut held = Vec::new();
    for _ in 0..MESSAGES {
        held.push(timeout(DEADLINE, consumer.next()).await.context("no message came")??);
    }

    server.alarm(true).await?;
    let waiting = [outgoing(100)?];
    let publishing = async { publisher.publish(&waiting).await };
    let acknowledging = async {
        for delivery in held {
            delivery.settle.acknowledge().await?;
        }
        anyhow::Ok(())
    };
    let (published, acknowledged) = tokio::join!(publishing, acknowledging);
    acknowledged.context("an acknowledgement waited with the publishes")?;
    ensure!(matches!(published[..], [Err(PublishError::Unconfirmed { .. })]), "{published:?}");

    server.alarm(false).await?;
    eventually("messages are published again", DEADLINE, async || {
        let again = publisher.publish(&[outgoing(200)?]).await;
        ensure!(again == [Ok(())], "{again:?}");
        Ok(())
    })
    .await?;
    // What was not confirmed may have arrived all the same; none of the acknowledged ones comes again.
    loop {
        let delivery = timeout(DEADLINE, consumer.next()).await.context("the message did not come")??;
        ensure!(!delivery.redelivered, "an acknowledgement was lost");
        let id = serde_json::from_slice::<serde_json::Value>(&delivery.body)?["connection_id"].as_u64();
        delivery.settle.acknowledge().await?;
        ensure!(id >= Some(100), "{id:?} was acknowledged");
        if id == Some(200) {
            break;
        }
    }
    consumer.stop().await;
    server.stop().await
}
