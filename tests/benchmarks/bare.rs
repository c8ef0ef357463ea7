//! Bare lapin: messages of the product's kind, published with confirms, and nothing else.

use anyhow::{Context, Result, ensure};
use freshet_shared::adapters::rabbitmq::{EXCHANGE, routing_key};
use freshet_shared::adapters::system::SystemClock;
use freshet_shared::domain::connection::{ConnectionId, Generation};
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::message::{RefreshMessage, VERSION};
use freshet_shared::ports::clock::Clock;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use tokio::time::Instant;

use crate::sections::on_all_cores;
use crate::stage::Stage;

/// Messages whose confirms are waited for together, as many as the product's page has.
const BATCH: u64 = 1_000;

/// Messages per second.
pub(crate) async fn publish_bare(stage: &Stage, count: u64) -> Result<f64> {
    let url = stage.amqp_url();
    on_all_cores(async move {
        let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        let started = Instant::now();
        for first in (1..=count).step_by(usize::try_from(BATCH)?) {
            let mut confirms = Vec::new();
            for id in first..(first + BATCH).min(count + 1) {
                confirms.push(publish(&channel, i64::try_from(id)?).await?);
            }
            for confirm in confirms {
                ensure!(confirm.await?.is_ack(), "the broker does not take a message");
            }
        }
        let rate = count as f64 / started.elapsed().as_secs_f64();
        connection.close(200, "".into()).await?;
        Ok(rate)
    })
    .await
}

/// Publishes what a scan would have published; the answer is the broker's confirm, still to come.
pub(crate) async fn publish(channel: &Channel, id: i64) -> Result<lapin::PublisherConfirm> {
    let message = RefreshMessage {
        v: VERSION,
        connection_id: ConnectionId(id),
        generation: Generation(1),
        provider: "fynd".to_owned(),
        lane: Lane::Urgent,
        due_at: SystemClock.now(),
    };
    let key = routing_key("shared", Lane::Urgent);
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let properties = BasicProperties::default()
        .with_delivery_mode(2)
        .with_content_type("application/json".into())
        .with_message_id(message.idempotency_key().to_string().into());
    let confirm =
        channel.basic_publish(EXCHANGE.into(), key.into(), options, &message.encode(), properties).await;
    confirm.context("a message cannot be published")
}
