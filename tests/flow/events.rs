//! Events on a real broker: who binds a queue hears of what it asked for, and what was taken is told whatever happens to
//! the broker.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use freshet_cli::simulator::{Matcher, Reply, ScriptedAnswer, StatusCode};
use freshet_shared::adapters::rabbitmq::{EVENTS_EXCHANGE, RabbitMq, RabbitMqSettings};
use freshet_shared::domain::connection::{ConnectionId, Generation};
use freshet_shared::domain::event::{Event, EventKind};
use freshet_shared::domain::failure::FailureClass;
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::secret::Secret;
use freshet_shared::ports::events::Events;
use freshet_shared::ports::queue::TraceContext;
use freshet_tests::binaries::DesertedAddress;
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};
use freshet_tests::isolation::TestVhost;
use freshet_tests::services;
use freshet_tests::waiting::eventually;
use lapin::message::BasicGetMessage;
use lapin::options::{BasicGetOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::json;

const HEARD: &str = "heard";
const DEADLINE: Duration = Duration::from_secs(30);

#[tokio::test]
async fn whoever_binds_a_queue_hears_what_it_asked_for() -> Result<()> {
    let vhost = TestVhost::create().await?;
    let events = broker(vhost.url())?.events();
    let connection = vhost.connect().await?;
    let channel = listen(&connection, "token.*.fynd").await?;
    let told: Vec<Event> = EventKind::ALL.into_iter().zip(1..).map(|(kind, id)| event(id, kind)).collect();
    for event in &told {
        events.emit(Event { provider: "very".into(), ..event.clone() }, TraceContext::new());
        events.emit(event.clone(), context(event.connection_id.0));
    }
    events.flush(DEADLINE).await;
    assert_eq!((events.outstanding(), events.lost()), (0, 0));
    for event in &told {
        let heard = next(&channel).await?.context("an event is missing")?.delivery;
        assert_eq!(heard.data, event.encode());
        assert_eq!(heard.exchange.as_str(), EVENTS_EXCHANGE);
        assert_eq!(heard.routing_key.as_str(), event.routing_key());
        let mut headers = FieldTable::default();
        let traceparent = context(event.connection_id.0)["traceparent"].as_str().into();
        headers.insert("traceparent".into(), AMQPValue::LongString(traceparent));
        let expected = lapin::BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_type(event.kind.as_str().into())
            .with_message_id(event.id().into())
            .with_timestamp(1_795_262_400)
            .with_headers(headers);
        assert_eq!(heard.properties, expected);
    }
    assert!(next(&channel).await?.is_none(), "it hears of another provider");
    vhost.delete_vhost().await
}

#[tokio::test]
async fn without_a_listener_events_are_confirmed_all_the_same() -> Result<()> {
    let vhost = TestVhost::create().await?;
    let events = broker(vhost.url())?.events();
    for id in 0..2_500 {
        events.emit(event(id, EventKind::Refreshed), TraceContext::new());
    }
    events.flush(DEADLINE).await;
    assert_eq!((events.outstanding(), events.lost()), (0, 0));
    vhost.delete_vhost().await
}

#[tokio::test]
async fn a_listener_whose_queue_refuses_costs_its_events_and_nothing_else() -> Result<()> {
    let vhost = TestVhost::create().await?;
    let events = broker(vhost.url())?.events();
    let connection = vhost.connect().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(0));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    listen_on(&connection, "full", arguments, "token.failing.*").await?;
    let channel = listen(&connection, "token.refreshed.*").await?;
    for id in 0..3 {
        events.emit(event(id, EventKind::Failing), TraceContext::new());
        events.emit(event(id, EventKind::Refreshed), TraceContext::new());
    }
    events.flush(DEADLINE).await;
    assert_eq!((events.outstanding(), events.lost()), (0, 3));
    for id in 0..3 {
        let heard = next(&channel).await?.context("an event is missing")?.delivery;
        assert_eq!(heard.data, event(id, EventKind::Refreshed).encode());
    }
    vhost.delete_vhost().await
}

#[tokio::test]
async fn a_broker_that_dies_between_event_and_confirm_costs_none() -> Result<()> {
    if !services::RabbitMq::is_installed() {
        return Ok(());
    }
    let mut server = services::RabbitMq::start().await?;
    let events = broker(&server.url())?.events();
    let connection = Connection::connect(&server.url(), ConnectionProperties::default()).await?;
    listen(&connection, "token.#").await?;
    let tell = |ids: std::ops::Range<i64>| {
        ids.for_each(|id| events.emit(event(id, EventKind::Refreshed), context(id)));
    };
    tell(0..100);
    events.flush(DEADLINE).await;
    assert_eq!(events.outstanding(), 0);
    // The broker writes queues and bindings that are new down a little later; killed before, it forgets them.
    tokio::time::sleep(Duration::from_secs(3)).await;
    // Sent to a broker that hears nothing any more, and to none.
    server.freeze()?;
    tell(100..200);
    events.flush(Duration::from_millis(500)).await;
    assert_eq!(events.outstanding(), 100);
    server.kill()?;
    tell(200..300);
    server.restart().await?;
    events.flush(2 * DEADLINE).await;
    assert_eq!((events.outstanding(), events.lost()), (0, 0));
    let connection = Connection::connect(&server.url(), ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    let mut heard = BTreeSet::new();
    while let Some(message) = next(&channel).await? {
        heard.insert(String::from_utf8(message.delivery.data)?);
    }
    let told = (0..300).map(|id| String::from_utf8(event(id, EventKind::Refreshed).encode()));
    assert_eq!(heard, told.collect::<Result<BTreeSet<_>, _>>()?);
    server.stop().await
}

#[tokio::test]
async fn without_a_broker_the_oldest_give_way_and_are_counted() -> Result<()> {
    let nobody = DesertedAddress::take()?;
    let url = format!("amqp://127.0.0.1:{}", nobody.address()?.port());
    let short = RabbitMqSettings { operation_timeout: Duration::from_millis(200), ..settings(&url) };
    let events = RabbitMq::new(short, &["shared".into()])?.events();
    let begun = std::time::Instant::now();
    for id in 0..10_500 {
        events.emit(event(id, EventKind::Refreshed), TraceContext::new());
    }
    assert!(begun.elapsed() < Duration::from_secs(5), "emitting waits: {:?}", begun.elapsed());
    // Those on their way come back as the oldest.
    eventually("500 events have given way", DEADLINE, async || {
        let (lost, outstanding) = (events.lost(), events.outstanding());
        ensure!((lost, outstanding) == (500, 10_000), "{lost} are lost, {outstanding} wait");
        Ok(())
    })
    .await?;
    let begun = std::time::Instant::now();
    events.flush(Duration::from_millis(300)).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "a flush ends in time: {:?}", begun.elapsed());
    Ok(())
}

#[tokio::test]
async fn a_worker_declares_the_exchange_only_where_events_are_wanted() -> Result<()> {
    for enabled in [true, false] {
        let mut fleet = TestFleet::found().await?;
        fleet.environment.insert("FRESHET_EVENTS__ENABLED".into(), enabled.to_string());
        let worker = fleet.worker().await?;
        let until = if enabled { EVENTS_EXCHANGE } else { "freshet.refresh" };
        eventually("the exchange is there", PATIENCE, async || {
            let exchanges = exchanges(&fleet.vhost).await?;
            ensure!(exchanges.contains_key(until), "{exchanges:?}");
            Ok(())
        })
        .await?;
        worker.stop().await?;
        let kind = exchanges(&fleet.vhost).await?.remove(EVENTS_EXCHANGE);
        assert_eq!(kind, enabled.then(|| ("topic".to_owned(), true)));
        fleet.dissolve().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_fleet_tells_that_it_fails_once_and_when_that_is_over() -> Result<()> {
    let fleet = TestFleet::found().await?;
    fleet.add([NewConnection::fynd(1, 1_500)]).await?;
    let connection = fleet.vhost.connect().await?;
    let channel = listen(&connection, "token.*.fynd").await?;
    let refused = || ScriptedAnswer::from(Reply::html(StatusCode::INTERNAL_SERVER_ERROR, "oops"));
    fleet.marketplaces.script(Matcher::any().account("location&1"), [refused(), refused()]);
    fleet.scan(Lane::Early).await?;
    let mut told = Vec::new();
    for attempt in 0..3 {
        if attempt > 0 {
            fleet.let_next_attempts_come().await?;
            assert_eq!(fleet.retry_scan().await?.published, 1);
        }
        let worker = fleet.worker().await?;
        worker.until_handled(1, PATIENCE).await?;
        // It waits for the confirms before it ends.
        worker.stop().await?;
        while let Some(heard) = next(&channel).await? {
            let event: serde_json::Value = serde_json::from_slice(&heard.delivery.data)?;
            told.push((attempt, heard.delivery.routing_key.to_string(), event));
        }
    }
    let stored = fleet.stored(1).await?;
    assert_eq!(stored.generation(), 1);
    let expected = [
        (0, "token.failing.fynd", 0, Some("server_error")),
        (2, "token.refreshed.fynd", 1, None),
        (2, "token.recovered.fynd", 1, None),
    ];
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for ((attempt, key, event), (after, expected_key, generation, class)) in told.iter().zip(expected) {
        assert_eq!((*attempt, key.as_str()), (after, expected_key));
        assert_eq!((&event["connection_id"], &event["generation"]), (&json!(1), &json!(generation)));
        assert_eq!(event["class"], json!(class));
        let token = stored.access_token.as_deref().unwrap_or_default();
        assert!(!event.to_string().contains(token), "{event}");
    }
    fleet.dissolve().await
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

fn broker(url: &str) -> Result<Arc<RabbitMq>> {
    Ok(RabbitMq::new(settings(url), &["shared".into()])?)
}

fn event(id: i64, kind: EventKind) -> Event {
    let at = DateTime::<Utc>::UNIX_EPOCH + TimeDelta::milliseconds(1_795_262_400_250);
    Event {
        kind,
        provider: "fynd".into(),
        connection_id: ConnectionId(id),
        generation: Generation(3),
        expires_at: Some(at + TimeDelta::hours(1)),
        class: (kind != EventKind::Refreshed).then_some(FailureClass::InvalidGrant),
        at,
    }
}

fn context(id: i64) -> TraceContext {
    let traceparent = format!("00-0af7651916cd43dd8448eb211c80319c-{:016x}-01", id + 1);
    TraceContext::from([("traceparent".to_owned(), traceparent)])
}

/// Binds the queue [`HEARD`] to the events of these routing keys.
async fn listen(connection: &Connection, routing_key: &str) -> Result<Channel> {
    listen_on(connection, HEARD, FieldTable::default(), routing_key).await
}

/// A listener declares the exchange as the product does, and so may come first.
async fn listen_on(
    connection: &Connection,
    queue: &str,
    arguments: FieldTable,
    routing_key: &str,
) -> Result<Channel> {
    let channel = connection.create_channel().await?;
    let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let (exchange, kind) = (EVENTS_EXCHANGE.into(), lapin::ExchangeKind::Topic);
    channel.exchange_declare(exchange, kind, durable, FieldTable::default()).await?;
    channel.queue_declare(queue.into(), QueueDeclareOptions::durable(), arguments).await?;
    let (exchange, options) = (EVENTS_EXCHANGE.into(), QueueBindOptions::default());
    channel.queue_bind(queue.into(), exchange, routing_key.into(), options, FieldTable::default()).await?;
    Ok(channel)
}

/// The oldest event that was heard.
async fn next(channel: &Channel) -> Result<Option<BasicGetMessage>> {
    Ok(channel.basic_get(HEARD.into(), BasicGetOptions { no_ack: true }).await?)
}

/// Type and durability of the virtual host's exchanges, by name.
async fn exchanges(vhost: &TestVhost) -> Result<BTreeMap<String, (String, bool)>> {
    let name = utf8_percent_encode(vhost.name(), NON_ALPHANUMERIC);
    let answer = vhost.management().get(&format!("api/exchanges/{name}")).await?;
    let exchange = |exchange: &serde_json::Value| {
        let text = |member: &str| Some(exchange.get(member)?.as_str()?.to_owned());
        Some((text("name")?, (text("type")?, exchange.get("durable")?.as_bool()?)))
    };
    Ok(answer
        .as_array()
        .context("the list of exchanges is not a list")?
        .iter()
        .filter_map(exchange)
        .collect())
}
