//! How many messages wait, asked over AMQP: the broker needs no plugin for it, and its answer is never a default.

use std::sync::Arc;

use async_trait::async_trait;
use lapin::options::QueueDeclareOptions;
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection};
use tokio::sync::Mutex;

use super::RabbitMq;
use super::link::{LinkError, timed};
use super::topology::{DEAD_LETTER_QUEUE, PARKED_QUEUE, Source};
use crate::ports::queue::{ObserveError, QueueDepth, QueueObserver};

/// Looks at the queues over a connection of its own: on one that publishes a memory alarm would keep the answer back.
pub struct RabbitMqObserver {
    rabbitmq: Arc<RabbitMq>,
    link: Mutex<Option<(Connection, Channel)>>,
}

impl RabbitMqObserver {
    pub(super) fn new(rabbitmq: Arc<RabbitMq>) -> Self {
        Self { rabbitmq, link: Mutex::new(None) }
    }

    async fn ask(&self) -> Result<Vec<QueueDepth>, LinkError> {
        let mut place = self.link.lock().await;
        let held = place
            .take()
            .filter(|(connection, channel)| connection.status().connected() && channel.status().connected());
        let link = match held {
            Some(link) => link,
            None => self.open().await?,
        };
        let queues = self.rabbitmq.topology.routes(Source::Refreshes).iter().map(|route| &route.queue);
        let set_aside = [PARKED_QUEUE, DEAD_LETTER_QUEUE].map(ShortString::from);
        let mut depths = Vec::new();
        for queue in queues.chain(&set_aside) {
            let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::durable() };
            let declared = link.1.queue_declare(queue.clone(), passive, FieldTable::default());
            let limit = self.rabbitmq.operation_timeout;
            let seen = timed(limit, "look at queue", queue.as_str(), declared).await?;
            depths.push(QueueDepth {
                queue: queue.to_string(),
                ready: seen.message_count(),
                consumers: seen.consumer_count(),
            });
        }
        *place = Some(link);
        Ok(depths)
    }

    /// Declares too: a queue that is not there would cost the channel at each look.
    async fn open(&self) -> Result<(Connection, Channel), LinkError> {
        let connection = self.rabbitmq.connect("observe").await?;
        let channel = self.rabbitmq.open_channel(&connection).await?;
        self.rabbitmq.topology.declare(&channel, self.rabbitmq.operation_timeout).await?;
        Ok((connection, channel))
    }
}

#[async_trait]
impl QueueObserver for RabbitMqObserver {
    async fn depths(&self) -> Result<Vec<QueueDepth>, ObserveError> {
        self.ask().await.map_err(|error| ObserveError { problem: error.to_string() })
    }
}
