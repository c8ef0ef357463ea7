//! Events to a topic exchange, published behind the back of those who emit them.
//!
//! They have a connection of their own: a broker that takes no more of them must not hold up refresh messages or
//! acknowledgements.

mod buffer;
mod teller;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;
use tracing::{debug_span, error};

use self::teller::{Desk, Untold, tell, tell_losses};
use super::RabbitMq;
use super::confirmed::{ConfirmedPublisher, Declares};
use super::topology::EVENTS_EXCHANGE;
use crate::domain::event::Event;
use crate::ports::events::Events;
use crate::ports::queue::TraceContext;
use crate::telemetry::propagation::inject;

/// Events that are kept while the broker takes none: some megabytes.
const LIMIT: usize = 10_000;

/// Publishes events and has them confirmed. What is not told when it is dropped is lost: flush it before.
pub struct RabbitMqEvents {
    desk: Arc<Desk>,
    _telling: AbortOnDropHandle<()>,
}

impl RabbitMqEvents {
    /// Starts the task that publishes.
    pub(super) fn start(rabbitmq: Arc<RabbitMq>) -> Self {
        let publisher = ConfirmedPublisher::new(rabbitmq, "events", Declares::EventsExchange);
        let desk = Arc::new(Desk::new(LIMIT));
        let telling = {
            let desk = Arc::clone(&desk);
            tokio::spawn(async move { tell(&desk, &publisher).await })
        };
        Self { desk, _telling: AbortOnDropHandle::new(telling) }
    }

    /// How many events are not confirmed yet.
    pub fn outstanding(&self) -> usize {
        self.desk.buffer().outstanding()
    }

    /// How many events were lost since the start.
    pub fn lost(&self) -> u64 {
        self.desk.buffer().lost()
    }
}

#[async_trait]
impl Events for RabbitMqEvents {
    fn emit(&self, event: Event, context: TraceContext) {
        let span = debug_span!(
            "event",
            otel.name = format!("publish {EVENTS_EXCHANGE}:{}", event.routing_key()),
            otel.kind = "producer",
            messaging.system = "rabbitmq",
            messaging.operation.name = "publish",
            messaging.operation.type = "send",
            messaging.destination.name = format!("{EVENTS_EXCHANGE}:{}", event.routing_key()),
            messaging.rabbitmq.destination.routing_key = event.routing_key(),
            messaging.message.id = event.id(),
        );
        // Who hears of it follows this span, where there is one.
        let of_span = inject(&span);
        let context = if of_span.is_empty() { context } else { of_span };
        self.desk.put(Untold { event, context, refusals: 0, _span: span });
    }

    async fn flush(&self, patience: Duration) {
        let in_time = timeout(patience, self.desk.until_all_is_told()).await.is_ok();
        tell_losses(&self.desk);
        if !in_time {
            error!(events = self.outstanding(), "the time to have events confirmed is over; they are lost");
        }
    }
}
