//! Dead letters while the broker is killed: whether each of them reaches its queue.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use freshet_shared::adapters::rabbitmq::{DEAD_LETTER_QUEUE, RabbitMq, RabbitMqSettings, queue_name};
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::message::RefreshMessage;
use freshet_shared::domain::secret::Secret;
use freshet_shared::ports::queue::{Outgoing, Publisher, TraceContext};
use freshet_tests::waiting::eventually;
use futures_util::StreamExt;
use lapin::options::{BasicConsumeOptions, BasicGetOptions, BasicQosOptions, BasicRejectOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use serde_json::json;
use tokio::time::{Instant, sleep};
use tokio_util::task::AbortOnDropHandle;

use crate::stage::{POOL, Stage};

/// How often the broker is killed meanwhile.
pub(crate) const KILLS: u64 = 4;
/// Rejected messages under way, which is what a kill may catch.
const PREFETCH: u16 = 2_000;
const PATIENCE: Duration = Duration::from_secs(120);
/// The broker moves dead letters by itself; after so long without another one it has moved them all.
const SILENCE: Duration = Duration::from_secs(15);
/// The same once all have come, some of which may come twice.
const SHORT_SILENCE: Duration = Duration::from_secs(3);

/// Publishes so many messages to a queue of the product's, rejects each, kills the broker meanwhile, and answers which of them
/// are in no queue then.
pub(crate) async fn play(stage: &mut Stage, number: u64) -> Result<Vec<String>> {
    if number == 0 {
        return Ok(Vec::new());
    }
    publish(stage, number).await?;
    stage.queues_are_on_disk().await?;
    let url = format!("{}/%2f", stage.rabbitmq.url());
    let rejected = Arc::new(AtomicU64::new(0));
    let rejecting = AbortOnDropHandle::new(tokio::spawn(reject(url.clone(), rejected.clone())));
    for kill in 1..=KILLS {
        // Some are always on their way when it dies.
        let share = number * kill / (KILLS + 1);
        eventually("enough of them are rejected", PATIENCE, async || {
            let rejected = rejected.load(Ordering::Relaxed);
            (rejected >= share).then_some(()).with_context(|| format!("only {rejected} of {share}"))
        })
        .await?;
        stage.rabbitmq.restart().await?;
    }
    let arrived = arrived(&url, number).await?;
    drop(rejecting);
    Ok((1..=number).filter(|id| !arrived.contains(id)).map(|id| format!("message {id}")).collect())
}

/// By the product's own publisher, which declares the product's own queues.
async fn publish(stage: &Stage, number: u64) -> Result<()> {
    let settings = RabbitMqSettings {
        url: Secret::new(format!("{}/%2f", stage.rabbitmq.url())),
        heartbeat: Duration::from_secs(5),
        operation_timeout: Duration::from_secs(30),
        delivery_limit: 50,
        give_up_after: PATIENCE,
        connection_name: "chaos".into(),
    };
    let publisher = RabbitMq::new(settings, &[POOL.to_owned()])?.publisher();
    let ids: Vec<u64> = (1..=number).collect();
    for ids in ids.chunks(1_000) {
        let messages: Vec<Outgoing> = ids.iter().map(|id| outgoing(*id)).collect::<Result<_>>()?;
        for result in publisher.publish(&messages).await {
            result?;
        }
    }
    Ok(())
}

fn outgoing(id: u64) -> Result<Outgoing> {
    let message = serde_json::from_value(json!({
        "v": 1, "connection_id": id, "generation": 0, "provider": "repeatable", "lane": Lane::Early,
        "due_at": "2026-01-01T00:00:00Z"
    }))?;
    Ok(Outgoing { message, pool: POOL.into(), context: TraceContext::default() })
}

/// Rejects all that comes, over as many connections as it takes.
async fn reject(url: String, rejected: Arc<AtomicU64>) {
    loop {
        // The broker that it talks to is killed again and again.
        let _ = reject_once(&url, &rejected).await;
        sleep(Duration::from_millis(100)).await;
    }
}

async fn reject_once(url: &str, rejected: &AtomicU64) -> Result<()> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.basic_qos(PREFETCH, BasicQosOptions::default()).await?;
    let queue = queue_name(POOL, Lane::Early);
    let options = BasicConsumeOptions::default();
    let mut consumer = channel
        .basic_consume(queue.as_str().into(), "rejecting".into(), options, FieldTable::default())
        .await?;
    while let Some(delivery) = consumer.next().await {
        delivery?.acker.reject(BasicRejectOptions { requeue: false }).await?;
        rejected.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// Takes the dead letters out of their queue until none comes any more.
async fn arrived(url: &str, number: u64) -> Result<BTreeSet<u64>> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let (mut arrived, mut last) = (BTreeSet::new(), Instant::now());
    loop {
        let letter = channel.basic_get(DEAD_LETTER_QUEUE.into(), BasicGetOptions { no_ack: true }).await?;
        let Some(letter) = letter else {
            let silence = if arrived.len() as u64 == number { SHORT_SILENCE } else { SILENCE };
            if last.elapsed() > silence {
                break;
            }
            sleep(Duration::from_millis(100)).await;
            continue;
        };
        // One that comes twice is none that is lost.
        let message = RefreshMessage::decode(&letter.delivery.data)?;
        arrived.insert(u64::try_from(message.connection_id.0)?);
        last = Instant::now();
    }
    connection.close(200, "".into()).await?;
    Ok(arrived)
}
