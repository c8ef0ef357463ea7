//! Refresh messages on their way to their pools' queues.

use std::sync::Arc;

use async_trait::async_trait;
use lapin::BasicProperties;
use lapin::types::ShortString;

use super::RabbitMq;
use super::confirmed::{ConfirmedPublisher, Declares, PERSISTENT, Publication};
use super::headers;
use super::topology::{EXCHANGE, routing_key};
use crate::ports::queue::{Outgoing, PublishError, Publisher};

/// Publishes over a connection of its own. Calls that overlap are served one after another.
pub struct RabbitMqPublisher {
    publisher: ConfirmedPublisher,
}

impl RabbitMqPublisher {
    pub(super) fn new(rabbitmq: Arc<RabbitMq>) -> Self {
        Self { publisher: ConfirmedPublisher::new(rabbitmq, "publish", Declares::Queues) }
    }
}

#[async_trait]
impl Publisher for RabbitMqPublisher {
    async fn publish(&self, messages: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        let publications: Vec<Publication> = messages.iter().map(publication).collect();
        self.publisher.publish(&publications).await
    }
}

fn publication(outgoing: &Outgoing) -> Publication {
    let message = &outgoing.message;
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        // Two numbers: never too long.
        .with_message_id(ShortString::try_new(message.idempotency_key().to_string()).unwrap_or_default())
        .with_headers(headers::from_context(&outgoing.context));
    Publication {
        exchange: EXCHANGE.into(),
        // A pool with a name that AMQP cannot hold has no queue either: the empty key is unroutable, too.
        routing_key: ShortString::try_new(routing_key(&outgoing.pool, message.lane)).unwrap_or_default(),
        properties,
        body: message.encode(),
        mandatory: true,
    }
}
