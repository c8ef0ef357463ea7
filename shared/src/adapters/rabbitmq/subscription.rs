//! Consuming from one queue.

use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, Consumer};
use tokio::time::timeout;
use tracing::debug;

use super::lifeline::Lifeline;
use super::link::{LinkError, timed};
use super::topology::{EXCHANGE, Route};
use super::{Prefetch, RabbitMq};
use crate::domain::lane::Lane;

/// Gives the message back to its queue.
pub(super) const GIVE_BACK: BasicNackOptions = BasicNackOptions { multiple: false, requeue: true };

/// One queue, on a channel of its own, because a prefetch holds for all consumers that follow it on a channel.
pub(super) struct Subscription {
    pub(super) route: Route,
    pub(super) queue: Arc<str>,
    destination: Arc<str>,
    deliveries: Consumer,
    lifeline: Arc<Lifeline>,
}

/// A message as it comes from the client.
pub(super) struct Received {
    pub(super) delivery: Delivery,
    pub(super) lane: Lane,
    pub(super) queue: Arc<str>,
    pub(super) destination: Arc<str>,
    pub(super) lifeline: Arc<Lifeline>,
}

impl Subscription {
    pub(super) async fn open(
        rabbitmq: &RabbitMq,
        connection: &Arc<Connection>,
        route: &Route,
        prefetch: Prefetch,
    ) -> Result<Self, LinkError> {
        let limit = rabbitmq.operation_timeout;
        let queue = route.queue.as_str();
        let channel = rabbitmq.open_channel(connection).await?;
        let qos = channel.basic_qos(prefetch.of(route.lane), BasicQosOptions { global: false });
        timed(limit, "set the prefetch of", queue, qos).await?;
        let consume = channel.basic_consume(
            route.queue.clone(),
            rabbitmq.consumer_tag(&route.queue),
            BasicConsumeOptions::default(),
            FieldTable::default(),
        );
        let deliveries = timed(limit, "consume from", queue, consume).await?;
        let lifeline = Arc::new(Lifeline::new(channel, queue.into(), Arc::clone(connection)));
        let destination = format!("{EXCHANGE}:{}:{queue}", route.routing_key).into();
        Ok(Self { route: route.clone(), queue: queue.into(), destination, deliveries, lifeline })
    }

    /// An error means that no more will come.
    pub(super) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Received, String>> {
        Poll::Ready(match ready!(self.deliveries.poll_next_unpin(context)) {
            Some(Ok(delivery)) => Ok(Received {
                delivery,
                lane: self.route.lane,
                queue: Arc::clone(&self.queue),
                destination: Arc::clone(&self.destination),
                lifeline: Arc::clone(&self.lifeline),
            }),
            Some(Err(error)) => Err(error.to_string()),
            None => Err("the broker ended the deliveries: the queue was deleted, or is moving".into()),
        })
    }

    /// Takes no more messages and gives back those that were not handed out. Those that were can still be settled by what is
    /// answered.
    pub(super) async fn retire(mut self, limit: Duration) -> Arc<Lifeline> {
        let cancel =
            self.lifeline.channel().basic_cancel(self.deliveries.tag(), BasicCancelOptions::default());
        let cancelled = timed(limit, "cancel the consumer of", &self.queue, cancel).await;
        if let Err(error) = &cancelled {
            // Then the connection is most likely gone, and the broker gives the messages back by itself.
            debug!(%error, "a consumer could not be cancelled");
        }
        // After a cancel the deliveries end behind the last of them; without one there may be no end.
        while let Some(Ok(delivery)) = match cancelled {
            Ok(()) => timeout(limit, self.deliveries.next()).await.ok().flatten(),
            Err(_) => self.deliveries.next().now_or_never().flatten(),
        } {
            let given_back =
                timed(limit, "give back a message of", &self.queue, delivery.nack(GIVE_BACK)).await;
            match given_back {
                Ok(_) => self.lifeline.acknowledgements.given_back(delivery.delivery_tag),
                Err(error) => debug!(%error, "a message comes back only with the connection's end"),
            }
        }
        self.lifeline
    }
}
