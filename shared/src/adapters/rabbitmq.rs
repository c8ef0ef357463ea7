//! RabbitMQ through lapin: a publisher that believes only clean confirms, and a consumer that outlives its broker.
//!
//! The client's own recovery is not used: it cannot bring back a closed channel, ends silently when a queue is
//! deleted, and gives no word on which deliveries it has lost. Each side here owns its connection and builds it
//! anew, topology included, after any failure. Publishing, consuming, dead-lettering, parking and telling events never
//! share a connection: a broker under a memory alarm stops reading from connections that publish, and acknowledgements on one of those
//! would wait with them.

mod acknowledging;
mod confirmed;
mod consumer;
mod dead_letters;
mod events;
mod headers;
mod lifeline;
mod link;
mod observer;
mod parking;
mod publisher;
mod session;
mod settings;
mod settle;
mod subscription;
mod topology;

use std::num::NonZeroU16;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lapin::types::ShortString;
use lapin::uri::AMQPUri;

pub use self::consumer::RabbitMqConsumer;
pub use self::events::RabbitMqEvents;
use self::link::Sessions;
pub use self::observer::RabbitMqObserver;
pub use self::parking::RabbitMqParking;
pub use self::publisher::RabbitMqPublisher;
pub use self::settings::{RabbitMqSettings, RabbitMqSettingsError};
use self::topology::Source;
use self::topology::Topology;
pub use self::topology::{
    DEAD_LETTER_QUEUE, EVENTS_EXCHANGE, EXCHANGE, PARKED_QUEUE, queue_name, routing_key,
};
use crate::adapters::database::Sealing;
use crate::domain::lane::Lane;

/// The names of all queues that are declared for these pools, those that refreshes travel through first.
pub fn queue_names(pools: &[String]) -> Vec<String> {
    let lanes = Lane::ALL.into_iter().flat_map(|lane| pools.iter().map(move |pool| queue_name(pool, lane)));
    lanes.chain([PARKED_QUEUE, DEAD_LETTER_QUEUE].map(str::to_owned)).collect()
}

/// They are stored one after another, and the others go to other workers.
const PARKED_PREFETCH: u16 = 16;

/// A broker as far as it can be checked without asking it; makes publishers and consumers.
pub struct RabbitMq {
    uri: AMQPUri,
    connection_name: String,
    operation_timeout: Duration,
    give_up_after: Duration,
    topology: Topology,
    sessions: Mutex<Sessions>,
}

impl RabbitMq {
    /// Checks the settings. The exchange, the dead-letter queue and the queues of these pools are declared by
    /// everyone who connects.
    ///
    /// # Errors
    /// If a setting cannot work, in words that do not show the URL.
    pub fn new(settings: RabbitMqSettings, pools: &[String]) -> Result<Arc<Self>, RabbitMqSettingsError> {
        settings.check()?;
        let uri = settings.uri()?;
        let topology = Topology::new(pools, settings.delivery_limit)?;
        let RabbitMqSettings { operation_timeout, give_up_after, connection_name, .. } = settings;
        let sessions = Mutex::default();
        Ok(Arc::new(Self { uri, connection_name, operation_timeout, give_up_after, topology, sessions }))
    }

    /// A publisher; it connects when it first has something to publish.
    pub fn publisher(self: &Arc<Self>) -> RabbitMqPublisher {
        RabbitMqPublisher::new(Arc::clone(self))
    }

    /// A consumer of every pool's queues; it connects when it is first asked for a message.
    pub fn consumer(self: &Arc<Self>, prefetch: Prefetch) -> RabbitMqConsumer {
        RabbitMqConsumer::new(Arc::clone(self), Source::Refreshes, prefetch)
    }

    /// A consumer of the parked answers. The lane of its deliveries says nothing.
    pub fn parked_consumer(self: &Arc<Self>) -> RabbitMqConsumer {
        let few = NonZeroU16::MIN.saturating_add(PARKED_PREFETCH - 1);
        RabbitMqConsumer::new(Arc::clone(self), Source::Parked, Prefetch { urgent: few, early: few })
    }

    /// Parks answers under the primary key of `sealing`, and opens them with any of its keys.
    pub fn parking(self: &Arc<Self>, sealing: Option<Arc<Sealing>>) -> RabbitMqParking {
        RabbitMqParking::new(Arc::clone(self), sealing)
    }

    /// Tells events to whoever binds a queue to [`EVENTS_EXCHANGE`]. Connects at once, so that the exchange is there to
    /// be bound to. Has to be called inside a runtime.
    pub fn events(self: &Arc<Self>) -> RabbitMqEvents {
        RabbitMqEvents::start(Arc::clone(self))
    }

    /// Looks at the queues; it connects when it is first asked.
    pub fn observer(self: &Arc<Self>) -> RabbitMqObserver {
        RabbitMqObserver::new(Arc::clone(self))
    }

    /// Host, port and virtual host, which may be shown.
    fn address(&self) -> String {
        format!("{}:{}/{}", self.uri.authority.host, self.uri.authority.port, self.uri.vhost)
    }

    /// Names process and queue, so that an operator finds who holds a message.
    fn consumer_tag(&self, queue: &ShortString) -> ShortString {
        // Both parts were checked to fit; a tag that does not is left for the broker to choose.
        ShortString::try_new(format!("{}/{queue}", self.connection_name)).unwrap_or_default()
    }
}

/// How many unsettled messages of one queue a consumer may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefetch {
    /// Of each pool's urgent queue.
    pub urgent: NonZeroU16,
    /// Of each pool's early queue.
    pub early: NonZeroU16,
}

impl Prefetch {
    /// For a worker with so many slots. Of several pools none gets more than half of them, however many messages it has, so
    /// that one whose provider is slow leaves room for the others; three quarters of that half are its urgent lane's.
    pub fn among(slots: NonZeroU16, pools: usize) -> Self {
        if pools < 2 {
            return Self { urgent: slots, early: slots };
        }
        let half = slots.get() / 2;
        let at_least_one = |part| NonZeroU16::new(part).unwrap_or(NonZeroU16::MIN);
        let early = at_least_one(half / 4);
        Self { urgent: at_least_one(half.saturating_sub(early.get())), early }
    }

    fn of(self, lane: Lane) -> u16 {
        match lane {
            Lane::Urgent => self.urgent.get(),
            Lane::Early => self.early.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_several_pools_none_gets_more_than_half_of_the_slots() {
        let among = |slots, pools| {
            let prefetch = Prefetch::among(NonZeroU16::new(slots).unwrap(), pools);
            (prefetch.urgent.get(), prefetch.early.get())
        };
        assert_eq!(among(512, 1), (512, 512));
        assert_eq!(among(512, 2), (192, 64));
        assert_eq!(among(512, 5), (192, 64));
        assert_eq!(among(8, 2), (3, 1));
        assert_eq!(among(4, 2), (1, 1));
        assert_eq!(among(1, 2), (1, 1), "fewer than one each cannot be");
    }
}
