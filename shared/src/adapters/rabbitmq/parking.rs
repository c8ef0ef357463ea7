//! Parking answers on a durable queue, sealed, for any worker to store.

use std::sync::Arc;

use async_trait::async_trait;
use lapin::BasicProperties;
use lapin::types::ShortString;

use super::RabbitMq;
use super::confirmed::{ConfirmedPublisher, Declares, PERSISTENT, Publication};
use super::topology::PARKED_QUEUE;
use crate::adapters::database::Sealing;
use crate::domain::kept_answer::KeptAnswer;
use crate::domain::message::{MessageError, ParkedMessage};
use crate::domain::sealing::{SealError, is_sealed, open};
use crate::domain::secret::Secret;
use crate::ports::parking::{ParkError, Parking};

/// Parks over a connection of its own, which is opened with the first answer.
pub struct RabbitMqParking {
    publisher: ConfirmedPublisher,
    sealing: Option<Arc<Sealing>>,
}

impl RabbitMqParking {
    pub(super) fn new(rabbitmq: Arc<RabbitMq>, sealing: Option<Arc<Sealing>>) -> Self {
        Self { publisher: ConfirmedPublisher::new(rabbitmq, "park", Declares::Queues), sealing }
    }
}

#[async_trait]
impl Parking for RabbitMqParking {
    async fn park(&self, answer: &KeptAnswer, provider: &str) -> Result<(), ParkError> {
        let sealing = self.sealing.as_ref().ok_or(ParkError::NoKey)?;
        let sealed = sealing.seal(&KeptAnswer::place(answer.connection_id), &answer.write());
        // Without a primary key it comes back as it is.
        if !is_sealed(sealed.expose()) {
            return Err(ParkError::NoKey);
        }
        let (id, generation, text) = (answer.connection_id, answer.generation, sealed.expose().to_owned());
        let message = ParkedMessage::new(id, generation, provider.to_owned(), text);
        let results = self.publisher.publish(&[publication(&message)]).await;
        let confirmed: Result<(), _> = results.into_iter().collect();
        confirmed.map_err(|error| ParkError::NotTaken { problem: error.to_string() })
    }

    fn open(&self, message: &ParkedMessage) -> Result<KeptAnswer, MessageError> {
        let place = KeptAnswer::place(message.connection_id);
        // Whoever can write to the queue and has no key must not be able to hand us tokens.
        if !is_sealed(&message.sealed) {
            return Err(MessageError::Sealed(SealError::Malformed { place: place.to_string() }));
        }
        let keys = self.sealing.as_deref().map(Sealing::keys);
        let text = open(keys, &place, Secret::new(message.sealed.as_str())).map_err(MessageError::Sealed)?;
        KeptAnswer::read(&text).map_err(|_| MessageError::NotAnAnswer)
    }
}

fn publication(message: &ParkedMessage) -> Publication {
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        // Two numbers: never too long.
        .with_message_id(ShortString::try_new(message.idempotency_key().to_string()).unwrap_or_default());
    Publication {
        // The default exchange, which routes by the queue's name.
        exchange: "".into(),
        routing_key: PARKED_QUEUE.into(),
        properties,
        body: message.encode(),
        mandatory: true,
    }
}
