//! Putting aside messages that nobody can work on.

use std::collections::BTreeMap;
use std::sync::Arc;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::RabbitMq;
use super::confirmed::{ConfirmedPublisher, Declares, PERSISTENT, Publication};
use super::topology::DEAD_LETTER_QUEUE;
use crate::domain::message::MessageError;
use crate::ports::queue::PublishError;

const REASON: &str = "x-freshet-reason";
const DETAIL: &str = "x-freshet-detail";
const QUEUE: &str = "x-freshet-queue";

/// With these the broker would send copies to other queues.
const ROUTING_HEADERS: [&str; 2] = ["CC", "BCC"];

/// Publishes to the dead-letter queue, over a connection that is opened with the first of them.
pub(super) struct DeadLetters {
    publisher: ConfirmedPublisher,
}

impl DeadLetters {
    pub(super) fn new(rabbitmq: Arc<RabbitMq>) -> Self {
        Self { publisher: ConfirmedPublisher::new(rabbitmq, "dead letters", Declares::Queues) }
    }

    /// Returns once the broker has confirmed the dead letter.
    pub(super) async fn put(
        &self,
        queue: &str,
        properties: &BasicProperties,
        body: Vec<u8>,
        reason: &MessageError,
    ) -> Result<(), PublishError> {
        let publication = publication(queue, properties, body, reason);
        let results = self.publisher.publish(&[publication]).await;
        results.into_iter().collect()
    }
}

fn publication(
    queue: &str,
    properties: &BasicProperties,
    body: Vec<u8>,
    reason: &MessageError,
) -> Publication {
    let mut headers: BTreeMap<ShortString, AMQPValue> =
        properties.headers().as_ref().map(|headers| headers.inner().clone()).unwrap_or_default();
    for name in ROUTING_HEADERS {
        headers.remove(name);
    }
    for (name, value) in [(REASON, reason.reason()), (DETAIL, &reason.to_string()), (QUEUE, queue)] {
        headers.insert(name.into(), AMQPValue::LongString(value.into()));
    }
    // Of the other properties only those that say what the message is: an expiration would let the dead letter
    // expire, and a foreign user id is refused.
    let mut kept =
        BasicProperties::default().with_delivery_mode(PERSISTENT).with_headers(FieldTable::from(headers));
    if let Some(id) = properties.message_id() {
        kept = kept.with_message_id(id.clone());
    }
    if let Some(content_type) = properties.content_type() {
        kept = kept.with_content_type(content_type.clone());
    }
    // The default exchange, which routes by the queue's name.
    Publication {
        exchange: "".into(),
        routing_key: DEAD_LETTER_QUEUE.into(),
        properties: kept,
        body,
        mandatory: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> AMQPValue {
        AMQPValue::LongString(value.into())
    }

    #[test]
    fn a_dead_letter_keeps_what_it_was_and_says_why_it_died() {
        let mut headers = FieldTable::default();
        headers.insert("traceparent".into(), text("00-ab-cd-01"));
        headers.insert("x-delivery-count".into(), AMQPValue::LongLongInt(2));
        headers.insert("CC".into(), text("elsewhere"));
        let properties = BasicProperties::default()
            .with_headers(headers)
            .with_message_id("12:3".into())
            .with_content_type("application/json".into())
            .with_expiration("1000".into())
            .with_user_id("somebody".into());
        let reason = MessageError::Field { path: "v".into() };
        let letter = publication("freshet.refresh.shared.early.v1", &properties, b"{}".to_vec(), &reason);
        assert_eq!((letter.exchange.as_str(), letter.routing_key.as_str()), ("", DEAD_LETTER_QUEUE));
        assert_eq!(letter.body, b"{}");
        let mut expected = FieldTable::default();
        expected.insert("traceparent".into(), text("00-ab-cd-01"));
        expected.insert("x-delivery-count".into(), AMQPValue::LongLongInt(2));
        expected.insert("x-freshet-reason".into(), text("invalid_field"));
        expected.insert("x-freshet-detail".into(), text(&reason.to_string()));
        expected.insert("x-freshet-queue".into(), text("freshet.refresh.shared.early.v1"));
        let properties = BasicProperties::default()
            .with_delivery_mode(PERSISTENT)
            .with_headers(expected)
            .with_message_id("12:3".into())
            .with_content_type("application/json".into());
        assert_eq!(letter.properties, properties);
    }
}
