//! Copies of everything that goes through the fleet's exchanges, and the dead letters.

use anyhow::Result;
use freshet_shared::adapters::rabbitmq::{DEAD_LETTER_QUEUE, EVENTS_EXCHANGE};
use freshet_tests::fleet::{PATIENCE, TestFleet};
use freshet_tests::waiting::eventually;
use lapin::options::{BasicGetOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection};

const QUEUE: &str = "tap";

/// A queue that is bound to every exchange.
pub(super) struct Tap {
    connection: Connection,
    channel: Channel,
}

impl Tap {
    /// Waits for the exchanges, which a worker declares.
    pub(super) async fn open(fleet: &TestFleet) -> Result<Self> {
        let connection = fleet.vhost.connect().await?;
        let keys = [
            ("freshet.refresh", "shared.urgent"),
            ("freshet.refresh", "shared.early"),
            (EVENTS_EXCHANGE, "#"),
        ];
        eventually("the exchanges are declared", PATIENCE, async || {
            // A binding to what is not there closes its channel.
            let channel = connection.create_channel().await?;
            channel
                .queue_declare(QUEUE.into(), QueueDeclareOptions::default(), FieldTable::default())
                .await?;
            for (exchange, key) in keys {
                let options = QueueBindOptions::default();
                channel
                    .queue_bind(QUEUE.into(), exchange.into(), key.into(), options, FieldTable::default())
                    .await?;
            }
            channel.close(200, "".into()).await?;
            Ok(())
        })
        .await?;
        let channel = connection.create_channel().await?;
        Ok(Self { connection, channel })
    }

    /// Body, properties and headers of each message and event so far.
    pub(super) async fn messages(&self) -> Result<Vec<Vec<u8>>> {
        self.take_all(QUEUE).await
    }

    /// The same of the dead letters.
    pub(super) async fn dead_letters(&self) -> Result<Vec<Vec<u8>>> {
        self.take_all(DEAD_LETTER_QUEUE).await
    }

    /// Publishes an event of the test's own.
    pub(super) async fn publish(&self, body: &[u8]) -> Result<()> {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let key = "token.planted.model".into();
        self.channel.basic_publish(EVENTS_EXCHANGE.into(), key, options, body, properties).await?.await?;
        Ok(())
    }

    async fn take_all(&self, queue: &str) -> Result<Vec<Vec<u8>>> {
        let mut messages = Vec::new();
        let options = BasicGetOptions { no_ack: true };
        while let Some(message) = self.channel.basic_get(queue.into(), options).await? {
            let delivery = message.delivery;
            let mut bytes = delivery.data.clone();
            bytes
                .extend(format!(" {} {:?}", delivery.routing_key.as_str(), delivery.properties).into_bytes());
            messages.push(bytes);
        }
        Ok(messages)
    }

    pub(super) async fn close(self) -> Result<()> {
        self.channel.close(200, "".into()).await?;
        Ok(self.connection.close(200, "".into()).await?)
    }
}
