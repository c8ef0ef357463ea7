//! Refresh messages on their way to their pools' queues.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use lapin::BasicProperties;
use lapin::types::ShortString;

use super::RabbitMq;
use super::confirmed::{ConfirmedPublisher, Declares, PERSISTENT, Publication, not_sent};
use super::headers;
use super::topology::{EXCHANGE, routing_key};
use crate::domain::lane::Lane;
use crate::ports::queue::{Outgoing, PublishError, Publisher};

/// Publishes over a connection of its own. Calls that overlap are served one after another.
///
/// Queue by queue, the urgent ones first: once a queue that does not answer owes some hundred confirms, the broker reads nothing
/// more from the connection.
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
        let mut answers: Vec<_> = messages.iter().map(|_| Ok(())).collect();
        let mut is_away = false;
        for places in by_queue(messages) {
            let outgoing = places.iter().filter_map(|place| messages.get(*place));
            let confirmed = match is_away {
                false => self.publisher.publish(&outgoing.map(publication).collect::<Vec<_>>()).await,
                true => vec![not_sent("one before it failed".into()); places.len()],
            };
            for (place, result) in places.into_iter().zip(confirmed) {
                is_away |= result.as_ref().is_err_and(PublishError::is_broker_away);
                if let Some(answer) = answers.get_mut(place) {
                    *answer = result;
                }
            }
        }
        answers
    }
}

/// The places of the messages for each queue.
fn by_queue(messages: &[Outgoing]) -> impl Iterator<Item = Vec<usize>> {
    let mut queues: BTreeMap<(bool, &str), Vec<usize>> = BTreeMap::new();
    for (place, outgoing) in messages.iter().enumerate() {
        let queue = (outgoing.message.lane != Lane::Urgent, outgoing.pool.as_str());
        queues.entry(queue).or_default().push(place);
    }
    queues.into_values()
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
