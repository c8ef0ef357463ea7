//! Exchange, queues and bindings, and their names.
//!
//! The names carry a version because the broker refuses to change the arguments of a queue that exists: other
//! arguments are another version, and the old queue is drained and deleted by an operator.

use std::time::Duration;

use lapin::options::{ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, ShortString};
use lapin::{Channel, ExchangeKind};

use super::link::{LinkError, timed};
use super::settings::RabbitMqSettingsError;
use crate::domain::lane::Lane;
use crate::failpoints::{Guard, is_off};

/// Routes a message to its pool's queue of its lane.
pub const EXCHANGE: &str = "freshet.refresh";

/// Events go to it; whoever wants some binds a queue of their own.
pub const EVENTS_EXCHANGE: &str = "freshet.events";

/// Where messages that cannot be worked on wait for a person.
pub const DEAD_LETTER_QUEUE: &str = "freshet.dead.v1";

/// Where answers wait that the database was not there to take, sealed.
pub const PARKED_QUEUE: &str = "freshet.parked.v1";

/// The queue of a pool's lane.
pub fn queue_name(pool: &str, lane: Lane) -> String {
    format!("{EXCHANGE}.{pool}.{lane}.v1")
}

/// The key that binds it.
pub fn routing_key(pool: &str, lane: Lane) -> String {
    format!("{pool}.{lane}")
}

/// One queue that refreshes travel through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Route {
    pub(super) lane: Lane,
    pub(super) queue: ShortString,
    pub(super) routing_key: ShortString,
}

/// What a consumer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// The refresh messages of all pools.
    Refreshes,
    /// Parked answers.
    Parked,
}

impl Source {
    /// Names the connection to the broker's operator.
    pub(super) fn purpose(self) -> &'static str {
        match self {
            Self::Refreshes => "consume",
            Self::Parked => "consume parked answers",
        }
    }
}

/// All that is declared.
#[derive(Debug)]
pub(super) struct Topology {
    routes: Vec<Route>,
    parked: [Route; 1],
    delivery_limit: u32,
}

impl Topology {
    pub(super) fn new(pools: &[String], delivery_limit: u32) -> Result<Self, RabbitMqSettingsError> {
        if pools.is_empty() {
            return Err(RabbitMqSettingsError::NoPool);
        }
        let mut routes = Vec::new();
        for lane in Lane::ALL {
            for pool in pools {
                let short = |name: String| {
                    ShortString::try_new(name)
                        .map_err(|_| RabbitMqSettingsError::PoolName { pool: pool.clone() })
                };
                let (queue, routing_key) = (short(queue_name(pool, lane))?, short(routing_key(pool, lane))?);
                routes.push(Route { lane, queue, routing_key });
            }
        }
        // Bound to nothing: the default exchange routes by the queue's name. They are as pressing as anything.
        let parked =
            [Route { lane: Lane::Urgent, queue: PARKED_QUEUE.into(), routing_key: PARKED_QUEUE.into() }];
        Ok(Self { routes, parked, delivery_limit })
    }

    /// The urgent ones first.
    pub(super) fn routes(&self, source: Source) -> &[Route] {
        match source {
            Source::Refreshes => &self.routes,
            Source::Parked => &self.parked,
        }
    }

    /// Declares all of it; what is there already must be the same. Costs the channel where it is not.
    pub(super) async fn declare(&self, channel: &Channel, limit: Duration) -> Result<(), LinkError> {
        declare_exchange(channel, limit, EXCHANGE, ExchangeKind::Direct).await?;
        declare_queue(channel, limit, &DEAD_LETTER_QUEUE.into(), quorum()).await?;
        declare_queue(channel, limit, &PARKED_QUEUE.into(), self.work_queue_arguments()).await?;
        for route in &self.routes {
            declare_queue(channel, limit, &route.queue, self.work_queue_arguments()).await?;
            let binding = channel.queue_bind(
                route.queue.clone(),
                EXCHANGE.into(),
                route.routing_key.clone(),
                QueueBindOptions::default(),
                FieldTable::default(),
            );
            timed(limit, "bind queue", route.queue.as_str(), binding).await?;
        }
        Ok(())
    }

    fn work_queue_arguments(&self) -> FieldTable {
        let mut arguments = quorum();
        let mut set = |name: &str, value| {
            arguments.insert(name.into(), value);
        };
        set("x-delivery-limit", AMQPValue::LongLongInt(i64::from(self.delivery_limit)));
        set("x-dead-letter-exchange", text(""));
        set("x-dead-letter-routing-key", text(DEAD_LETTER_QUEUE));
        // The default strategy loses dead letters when the broker is killed; this one has the next as its condition.
        if !is_off(Guard::DeadLettering) {
            set("x-dead-letter-strategy", text("at-least-once"));
        }
        set("x-overflow", text("reject-publish"));
        arguments
    }
}

/// Declares what events go to, and nothing that they do not need.
pub(super) async fn declare_events_exchange(channel: &Channel, limit: Duration) -> Result<(), LinkError> {
    declare_exchange(channel, limit, EVENTS_EXCHANGE, ExchangeKind::Topic).await
}

async fn declare_exchange(
    channel: &Channel,
    limit: Duration,
    name: &str,
    kind: ExchangeKind,
) -> Result<(), LinkError> {
    let options = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
    let declared = channel.exchange_declare(name.into(), kind, options, FieldTable::default());
    timed(limit, "declare exchange", name, declared).await.map_err(LinkError::of_declaration)
}

async fn declare_queue(
    channel: &Channel,
    limit: Duration,
    queue: &ShortString,
    arguments: FieldTable,
) -> Result<(), LinkError> {
    let declared = channel.queue_declare(queue.clone(), QueueDeclareOptions::durable(), arguments);
    timed(limit, "declare queue", queue.as_str(), declared).await.map_err(LinkError::of_declaration)?;
    Ok(())
}

fn quorum() -> FieldTable {
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), text("quorum"));
    arguments
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_fixed() {
        assert_eq!(queue_name("shared", Lane::Urgent), "freshet.refresh.shared.urgent.v1");
        assert_eq!(queue_name("very", Lane::Early), "freshet.refresh.very.early.v1");
        assert_eq!(routing_key("shared", Lane::Early), "shared.early");
    }

    #[test]
    fn urgent_queues_of_all_pools_come_first() {
        let topology = Topology::new(&["a".into(), "b".into()], 50).unwrap();
        let keys: Vec<&str> =
            topology.routes(Source::Refreshes).iter().map(|route| route.routing_key.as_str()).collect();
        assert_eq!(keys, ["a.urgent", "b.urgent", "a.early", "b.early"]);
    }

    #[test]
    fn pools_that_cannot_be_declared_are_refused() {
        assert_eq!(Topology::new(&[], 50).map(|_| ()), Err(RabbitMqSettingsError::NoPool));
        let pool = "x".repeat(300);
        let error = RabbitMqSettingsError::PoolName { pool: pool.clone() };
        assert_eq!(Topology::new(&[pool], 50).map(|_| ()), Err(error));
    }
}
