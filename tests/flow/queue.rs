//! The RabbitMQ adapter keeps what the queue's ports promise, against a real broker.

mod accounts;
mod depth;
mod settling;
mod silent;

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use freshet_shared::adapters::rabbitmq::{
    DEAD_LETTER_QUEUE, EXCHANGE, Prefetch, RabbitMq, RabbitMqConsumer, RabbitMqSettings, queue_name,
    queue_names,
};
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::message::{MessageError, RefreshMessage};
use freshet_shared::domain::secret::Secret;
use freshet_shared::ports::queue::{Consumer, Delivery, Outgoing, PublishError, Publisher, TraceContext};
use freshet_tests::environment::{RABBITMQ_MANAGEMENT_URL, required};
use freshet_tests::isolation::TestVhost;
use freshet_tests::management::Management;
use freshet_tests::services;
use freshet_tests::waiting::eventually;
use lapin::options::{BasicGetOptions, BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;
use tokio::time::timeout;
use uuid::Uuid;

const POOL: &str = "shared";
const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn all_that_is_published_is_confirmed_and_consumed_once() -> Result<()> {
    let vhost = TestVhost::create().await?;
    let rabbitmq = broker(vhost.url(), &[POOL, "slow"])?;
    let messages: Vec<Outgoing> = (0..2_500)
        .map(|id| {
            let (pool, lane) = (if id % 3 == 0 { "slow" } else { POOL }, Lane::ALL[usize::from(id % 2 == 0)]);
            outgoing(id, pool, lane)
        })
        .collect::<Result<_>>()?;
    let results = rabbitmq.publisher().publish(&messages).await;
    assert_eq!(results, vec![Ok(()); messages.len()]);
    let mut consumer = consumer(&rabbitmq, 20);
    let mut lanes = BTreeMap::new();
    for _ in 0..messages.len() {
        let delivery = next(&mut consumer).await?;
        let message = RefreshMessage::decode(&delivery.body)?;
        assert!(!delivery.redelivered);
        assert_eq!(delivery.context, context(message.connection_id.0));
        assert_eq!(lanes.insert(message.connection_id.0, delivery.lane), None);
        delivery.settle.acknowledge().await?;
    }
    let expected: BTreeMap<i64, Lane> =
        messages.iter().map(|outgoing| (outgoing.message.connection_id.0, outgoing.message.lane)).collect();
    assert_eq!(lanes, expected);
    consumer.stop().await;
    vhost.until_drained(DEADLINE).await?;
    vhost.delete_vhost().await
}

#[tokio::test]
async fn urgent_messages_overtake_early_ones_that_wait() -> Result<()> {
    let vhost = TestVhost::create().await?;
    let rabbitmq = broker(vhost.url(), &[POOL])?;
    let publisher = rabbitmq.publisher();
    publish(&publisher, 0..20, Lane::Early).await?;
    let mut consumer = consumer(&rabbitmq, 50);
    let first = next(&mut consumer).await?;
    assert_eq!(first.lane, Lane::Early);
    publish(&publisher, 20..40, Lane::Urgent).await?;
    eventually("the consumer has been sent all messages", DEADLINE, async || {
        let ready = vhost.all_ready_messages().await?;
        ensure!(ready.is_empty(), "{ready:?}");
        Ok(())
    })
    .await?;
    let mut lanes = Vec::new();
    for _ in 1..40 {
        lanes.push(next(&mut consumer).await?.lane);
    }
    let last_urgent =
        lanes.iter().rposition(|lane| *lane == Lane::Urgent).context("no urgent message came")?;
    // What has been sent may still take a moment on its way.
    assert!(last_urgent < 22, "{lanes:?}");
    vhost.delete_vhost().await
}

#[tokio::test]
async fn a_message_without_a_queue_and_only_that_one_is_unroutable() -> Result<()> {
    let vhost = TestVhost::create().await?;
    let publisher = broker(vhost.url(), &[POOL])?.publisher();
    let is_lost = |id: i64| id % 7 == 3;
    let messages: Vec<Outgoing> = (0..300)
        .map(|id| outgoing(id, if is_lost(id) { "nobody" } else { POOL }, Lane::Early))
        .collect::<Result<_>>()?;
    let unroutable = Err(PublishError::Unroutable { routing_key: "nobody.early".into() });
    let expected: Vec<_> = (0..300).map(|id| if is_lost(id) { unroutable.clone() } else { Ok(()) }).collect();
    // Twice, because the link has to be as good as new after the first time.
    for _ in 0..2 {
        assert_eq!(publisher.publish(&messages).await, expected);
    }
    vhost.delete_vhost().await
}

#[tokio::test]
async fn a_full_queue_refuses() -> Result<()> {
    let vhost = TestVhost::create().await?;
    let path = format!("api/policies/{}/full", utf8_percent_encode(vhost.name(), NON_ALPHANUMERIC));
    let policy =
        json!({"pattern": "^freshet\\.refresh\\.", "definition": {"max-length": 5}, "apply-to": "queues"});
    vhost.management().put(&path, &policy).await?;
    let publisher = broker(vhost.url(), &[POOL])?.publisher();
    let messages: Vec<Outgoing> =
        (0..200).map(|id| outgoing(id, POOL, Lane::Early)).collect::<Result<_>>()?;
    // A queue takes some more than its length before it notices.
    let mut results = publisher.publish(&messages).await;
    results.extend(publisher.publish(&messages).await);
    assert!(results.contains(&Ok(())), "{results:?}");
    assert!(results.contains(&Err(PublishError::Refused)), "{results:?}");
    assert!(
        results.iter().all(|result| matches!(result, Ok(()) | Err(PublishError::Refused))),
        "{results:?}"
    );
    vhost.delete_vhost().await
}

#[tokio::test]
async fn a_dead_letter_says_why_and_is_gone_from_its_queue() -> Result<()> {
    let vhost = TestVhost::create().await?;
    let rabbitmq = broker(vhost.url(), &[POOL])?;
    publish(&rabbitmq.publisher(), 1..2, Lane::Urgent).await?;
    let mut consumer = consumer(&rabbitmq, 5);
    let delivery = next(&mut consumer).await?;
    let reason = MessageError::UnknownProvider { name: "nobody".into() };
    delivery.settle.dead_letter(delivery.body, reason.clone()).await?;
    consumer.stop().await;
    assert_eq!(vhost.all_ready_messages().await?, BTreeMap::from([(DEAD_LETTER_QUEUE.to_owned(), 1)]));
    let (body, headers) = dead_letter(&vhost).await?;
    assert_eq!(body, outgoing(1, POOL, Lane::Urgent)?.message.encode());
    let expected = [
        ("traceparent", context(1)["traceparent"].clone()),
        ("x-freshet-detail", reason.to_string()),
        ("x-freshet-queue", queue_name(POOL, Lane::Urgent)),
        ("x-freshet-reason", "unknown_provider".to_owned()),
    ];
    assert_eq!(headers, expected.map(|(name, value)| (name.to_owned(), value)).into());
    vhost.delete_vhost().await
}

#[tokio::test]
async fn a_message_that_is_dropped_again_and_again_dies() -> Result<()> {
    let vhost = TestVhost::create().await?;
    let rabbitmq =
        RabbitMq::new(RabbitMqSettings { delivery_limit: 2, ..settings(vhost.url()) }, &[POOL.into()])?;
    publish(&rabbitmq.publisher(), 1..2, Lane::Early).await?;
    let mut consumer = consumer(&rabbitmq, 5);
    for attempt in 0..3 {
        let delivery = next(&mut consumer).await?;
        assert_eq!(delivery.redelivered, attempt > 0);
        drop(delivery);
    }
    eventually("the message is a dead letter", DEADLINE, async || {
        let ready = vhost.all_ready_messages().await?;
        ensure!(ready == BTreeMap::from([(DEAD_LETTER_QUEUE.to_owned(), 1)]), "{ready:?}");
        Ok(())
    })
    .await?;
    vhost.delete_vhost().await
}

#[tokio::test]
async fn stopping_gives_back_what_was_not_handed_out_and_keeps_the_rest_settleable() -> Result<()> {
    let vhost = TestVhost::create().await?;
    let rabbitmq = broker(vhost.url(), &[POOL])?;
    publish(&rabbitmq.publisher(), 0..30, Lane::Early).await?;
    let mut consumer = consumer(&rabbitmq, 20);
    let (kept, returned) = (next(&mut consumer).await?, next(&mut consumer).await?);
    consumer.stop().await;
    assert!(consumer.next().await.is_err());
    let queue = queue_name(POOL, Lane::Early);
    eventually("the rest is back", DEADLINE, async || {
        let ready = vhost.ready_messages(&queue).await?;
        ensure!(ready == 28, "{ready} messages");
        Ok(())
    })
    .await?;
    drop(consumer);
    kept.settle.acknowledge().await?;
    returned.settle.requeue().await?;
    eventually("the queue has one less", DEADLINE, async || {
        let ready = vhost.ready_messages(&queue).await?;
        ensure!(ready == 29, "{ready} messages");
        Ok(())
    })
    .await?;
    vhost.delete_vhost().await
}

#[tokio::test]
async fn a_wait_that_is_given_up_loses_nothing() -> Result<()> {
    let vhost = TestVhost::create().await?;
    let rabbitmq = broker(vhost.url(), &[POOL])?;
    let mut consumer = consumer(&rabbitmq, 5);
    let publisher = rabbitmq.publisher();
    publish(&publisher, 0..100, Lane::Early).await?;
    let mut ids = Vec::new();
    let deadline = tokio::time::Instant::now() + DEADLINE;
    while ids.len() < 100 {
        ensure!(tokio::time::Instant::now() < deadline, "only {} messages came", ids.len());
        // Far too short for opening a session, and for many a delivery.
        if let Ok(delivery) = timeout(Duration::from_micros(300), consumer.next()).await {
            let delivery = delivery?;
            ids.push(RefreshMessage::decode(&delivery.body)?.connection_id.0);
            delivery.settle.acknowledge().await?;
        }
    }
    assert_eq!(ids, (0..100).collect::<Vec<i64>>());
    vhost.delete_vhost().await
}

#[tokio::test]
async fn a_queue_with_other_arguments_ends_it_with_advice() -> Result<()> {
    let vhost = TestVhost::create().await?;
    let queue = queue_name(POOL, Lane::Early);
    let connection = vhost.connect().await?;
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(queue.as_str().into(), QueueDeclareOptions::durable(), arguments).await?;
    let rabbitmq = broker(vhost.url(), &[POOL])?;
    let refused = timeout(DEADLINE, consumer(&rabbitmq, 5).next()).await?;
    let problem = refused.err().context("it consumes")?.problem;
    assert!(problem.contains(&queue) && problem.contains("other arguments"), "{problem}");
    let results = rabbitmq.publisher().publish(&[outgoing(1, POOL, Lane::Urgent)?]).await;
    let Err(PublishError::NotSent { problem }) = &results[0] else {
        return Err(anyhow!("it published: {results:?}"));
    };
    assert!(problem.contains(&queue) && problem.contains("other arguments"), "{problem}");
    vhost.delete_vhost().await
}

#[tokio::test]
async fn a_queue_that_is_deleted_is_declared_anew() -> Result<()> {
    let vhost = TestVhost::create().await?;
    let rabbitmq = broker(vhost.url(), &[POOL])?;
    let publisher = rabbitmq.publisher();
    publish(&publisher, 1..2, Lane::Urgent).await?;
    let mut consumer = consumer(&rabbitmq, 5);
    let held = next(&mut consumer).await?;
    let connection = vhost.connect().await?;
    let channel = connection.create_channel().await?;
    channel
        .queue_delete(queue_name(POOL, Lane::Early).as_str().into(), QueueDeleteOptions::default())
        .await?;
    let waiting = tokio::spawn(async move { (next(&mut consumer).await, consumer) });
    eventually("the queue is there again", DEADLINE, async || publish(&publisher, 2..3, Lane::Early).await)
        .await?;
    let (delivery, _consumer) = waiting.await?;
    assert_eq!(RefreshMessage::decode(&delivery?.body)?.connection_id.0, 2);
    // What was in our hands from the other queue is still ours.
    held.settle.acknowledge().await?;
    vhost.delete_vhost().await
}

#[tokio::test]
async fn a_message_from_elsewhere_is_handed_out_as_it_is() -> Result<()> {
    let vhost = TestVhost::create().await?;
    let rabbitmq = broker(vhost.url(), &[POOL])?;
    let mut consumer = consumer(&rabbitmq, 5);
    assert!(timeout(Duration::from_secs(1), consumer.next()).await.is_err());
    let channel = vhost.connect().await?.create_channel().await?;
    let mut headers = FieldTable::default();
    headers.insert("traceparent".into(), AMQPValue::LongInt(7));
    let (exchange, key, options) = (EXCHANGE.into(), "shared.urgent".into(), BasicPublishOptions::default());
    let properties = BasicProperties::default().with_headers(headers).with_expiration("600000".into());
    channel.basic_publish(exchange, key, options, b"", properties).await?.await?;
    let delivery = next(&mut consumer).await?;
    assert!(delivery.body.is_empty() && delivery.context.is_empty());
    let reason = RefreshMessage::decode(&delivery.body).err().context("it is a message")?;
    delivery.settle.dead_letter(delivery.body, reason).await?;
    let (body, headers) = dead_letter(&vhost).await?;
    assert!(body.is_empty());
    assert_eq!(headers["x-freshet-reason"], "not_json");
    vhost.delete_vhost().await
}

#[tokio::test]
async fn both_sides_outlive_a_broker_that_is_killed() -> Result<()> {
    if !services::RabbitMq::is_installed() {
        return Ok(());
    }
    let mut server = services::RabbitMq::start().await?;
    let management = Management::new(&server.management_url())?;
    let early = format!("api/queues/%2F/{}", queue_name(POOL, Lane::Early));
    let rabbitmq = broker(&server.url(), &[POOL])?;
    let publisher = rabbitmq.publisher();
    publish(&publisher, 0..10, Lane::Early).await?;
    let mut consumer = consumer(&rabbitmq, 4);
    let consuming = consumer.consuming();
    let held = next(&mut consumer).await?;
    assert!(*consuming.borrow());
    server.writes_down(&queue_names(&[POOL.to_owned()])).await?;
    let renewed = consumer.consuming();
    server.kill()?;
    let waiting = tokio::spawn(async move {
        // What came from the killed broker is handed out before the loss is.
        loop {
            let delivery = next(&mut consumer).await?;
            if renewed.has_changed()? {
                return Ok::<_, anyhow::Error>((delivery, consumer));
            }
        }
    });
    eventually("the loss is noticed", DEADLINE, async || {
        ensure!(!*consuming.borrow(), "it says that it consumes");
        Ok(())
    })
    .await?;
    assert!(held.settle.acknowledge().await.is_err());
    let started = std::time::Instant::now();
    let results = publisher.publish(&[outgoing(10, POOL, Lane::Early)?]).await;
    assert!(
        matches!(results[..], [Err(PublishError::NotSent { .. } | PublishError::Unconfirmed { .. })]),
        "{results:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    server.restart().await?;
    // A queue that is still coming up may keep its first confirms waiting.
    eventually("messages are confirmed again", DEADLINE, async || {
        publish(&publisher, 10..20, Lane::Early).await
    })
    .await?;
    let (first, mut consumer) = timeout(2 * DEADLINE, waiting).await???;
    // The new session has the consumer's limit, too: the others wait.
    eventually("the consumer has as many messages as it may have", DEADLINE, async || {
        let [_, ready, held] = depth::counted(&management, &early).await?;
        ensure!(held == Some(4) && ready >= Some(16), "{held:?} in its hands, {ready:?} wait");
        Ok(())
    })
    .await?;
    let mut ids = Vec::new();
    let mut delivery = first;
    loop {
        let id = RefreshMessage::decode(&delivery.body)?.connection_id.0;
        delivery.settle.acknowledge().await?;
        // One whose confirm was lost was published twice.
        if !ids.contains(&id) {
            ids.push(id);
        }
        if ids.len() == 20 {
            break;
        }
        delivery = next(&mut consumer).await?;
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..20).collect::<Vec<i64>>());
    server.stop().await
}

fn settings(url: &str) -> RabbitMqSettings {
    RabbitMqSettings {
        url: Secret::new(url),
        heartbeat: Duration::from_secs(5),
        operation_timeout: Duration::from_secs(5),
        delivery_limit: 50,
        give_up_after: Duration::from_secs(300),
        connection_name: "flow-test".into(),
    }
}

fn broker(url: &str, pools: &[&str]) -> Result<Arc<RabbitMq>> {
    let pools: Vec<String> = pools.iter().map(|pool| (*pool).to_owned()).collect();
    Ok(RabbitMq::new(settings(url), &pools)?)
}

fn consumer(rabbitmq: &Arc<RabbitMq>, prefetch: u16) -> RabbitMqConsumer {
    let prefetch = NonZeroU16::new(prefetch).unwrap_or(NonZeroU16::MIN);
    rabbitmq.consumer(Prefetch { urgent: prefetch, early: prefetch })
}

fn context(id: i64) -> TraceContext {
    TraceContext::from([(
        "traceparent".to_owned(),
        format!("00-0af7651916cd43dd8448eb211c80319c-{id:016x}-01"),
    )])
}

fn outgoing(id: i64, pool: &str, lane: Lane) -> Result<Outgoing> {
    let message = serde_json::from_value(json!({
        "v": 1, "connection_id": id, "generation": 1, "provider": "fynd", "lane": lane, "due_at": "2026-01-01T00:00:00Z"
    }))?;
    Ok(Outgoing { message, pool: pool.into(), context: context(id) })
}

async fn publish(publisher: &impl Publisher, ids: std::ops::Range<i64>, lane: Lane) -> Result<()> {
    let messages: Vec<Outgoing> = ids.map(|id| outgoing(id, POOL, lane)).collect::<Result<_>>()?;
    publisher.publish(&messages).await.into_iter().collect::<Result<(), PublishError>>()?;
    Ok(())
}

async fn next(consumer: &mut RabbitMqConsumer) -> Result<Delivery> {
    let delivery = timeout(2 * DEADLINE, consumer.next()).await.context("no message came")?;
    Ok(delivery?)
}

/// Body and text headers of the one dead letter, waiting for it.
async fn dead_letter(vhost: &TestVhost) -> Result<(Vec<u8>, BTreeMap<String, String>)> {
    let connection: Connection = vhost.connect().await?;
    let channel = connection.create_channel().await?;
    let letter = channel.basic_get(DEAD_LETTER_QUEUE.into(), BasicGetOptions { no_ack: true }).await?;
    let letter = letter.context("there is no dead letter")?.delivery;
    let headers = letter.properties.headers().clone().unwrap_or_default();
    let text = |value: &AMQPValue| match value {
        AMQPValue::LongString(text) => Some(text.to_string()),
        _ => None,
    };
    let headers =
        headers.inner().iter().filter_map(|(name, value)| Some((name.to_string(), text(value)?))).collect();
    Ok((letter.data, headers))
}
