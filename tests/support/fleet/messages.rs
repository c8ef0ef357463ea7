//! Messages and dead letters, put in and taken out with no help from the product.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use freshet_shared::adapters::rabbitmq::{DEAD_LETTER_QUEUE, queue_name};
use freshet_shared::domain::connection::{ConnectionId, Generation};
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::message::{RefreshMessage, VERSION};
use lapin::BasicProperties;
use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::AMQPValue;

use super::{PATIENCE, RunningWorker, TestFleet, now};
use crate::waiting::eventually;

/// A connection that no test adds.
const NOBODY: i64 = 404_404;

/// A message that was put aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// The body.
    pub body: String,
    /// Its headers with a text in them.
    pub headers: BTreeMap<String, String>,
}

impl TestFleet {
    /// Puts a body into the lane's queue of the shared pool, as soon as a producer or a worker has declared it.
    pub async fn publish_body(&self, lane: Lane, body: &[u8]) -> Result<()> {
        let queue = queue_name("shared", lane);
        let connection = self.vhost.connect().await?;
        eventually("the queue takes the message", PATIENCE, async || {
            let channel = connection.create_channel().await?;
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let properties = BasicProperties::default().with_delivery_mode(2);
            let key = queue.as_str().into();
            let confirmed = channel.basic_publish("".into(), key, options, body, properties).await?.await?;
            channel.close(200, "".into()).await?;
            ensure!(confirmed.is_ack(), "the broker does not take it: {confirmed:?}");
            ensure!(confirmed.take_message().is_none(), "{queue} is not declared yet");
            Ok(())
        })
        .await?;
        connection.close(200, "".into()).await?;
        Ok(())
    }

    /// Publishes what a scan that saw this generation would have published for a connection of Fynd.
    pub async fn publish_message(&self, lane: Lane, id: i64, generation: i64) -> Result<()> {
        let message = RefreshMessage {
            v: VERSION,
            connection_id: ConnectionId(id),
            generation: Generation(generation),
            provider: "fynd".into(),
            lane,
            due_at: now(),
        };
        self.publish_body(lane, &message.encode()).await
    }

    /// Returns once each of the workers has handled a message, so that the next ones are shared out among them.
    /// The messages are about a connection that does not exist.
    pub async fn until_consuming(&self, workers: &[&RunningWorker]) -> Result<()> {
        eventually("every worker takes messages", PATIENCE, async || {
            self.publish_message(Lane::Urgent, NOBODY, 0).await?;
            let idle = workers.iter().filter(|worker| worker.reports().is_empty()).count();
            ensure!(idle == 0, "{idle} workers have handled nothing");
            Ok(())
        })
        .await?;
        self.vhost.until_drained(PATIENCE).await
    }

    /// Takes this many dead letters, in the order in which they were put aside.
    pub async fn take_dead_letters(&self, count: usize) -> Result<Vec<DeadLetter>> {
        let connection = self.vhost.connect().await?;
        let channel = connection.create_channel().await?;
        let mut letters = Vec::new();
        for number in 1..=count {
            let options = BasicGetOptions { no_ack: true };
            let letter = channel.basic_get(DEAD_LETTER_QUEUE.into(), options).await?;
            let letter = letter.with_context(|| format!("there is no dead letter {number}"))?.delivery;
            let headers = letter.properties.headers().clone().unwrap_or_default();
            let text = |value: &AMQPValue| match value {
                AMQPValue::LongString(text) => Some(text.to_string()),
                _ => None,
            };
            letters.push(DeadLetter {
                body: String::from_utf8_lossy(&letter.data).into_owned(),
                headers: headers
                    .inner()
                    .iter()
                    .filter_map(|(name, value)| Some((name.to_string(), text(value)?)))
                    .collect(),
            });
        }
        connection.close(200, "".into()).await?;
        Ok(letters)
    }
}
