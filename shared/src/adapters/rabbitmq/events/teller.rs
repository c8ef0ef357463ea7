//! The task that publishes what waits, batch by batch, again and again until the broker confirms.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::ShortString;
use tokio::sync::Notify;
use tracing::{Span, info, warn};

use super::buffer::Buffer;
use crate::adapters::rabbitmq::confirmed::{ConfirmedPublisher, PERSISTENT, Publication};
use crate::adapters::rabbitmq::headers;
use crate::adapters::rabbitmq::topology::EVENTS_EXCHANGE;
use crate::domain::event::Event;
use crate::ports::queue::{PublishError, TraceContext};

/// Events that are published together and share one wait for their confirms.
const BATCH: usize = 1_000;

/// Between a round that was not confirmed as a whole and the next one.
const PAUSE: Duration = Duration::from_secs(1);

/// A broker that is going down may refuse what it would take a moment later; one that refuses this often in a row has
/// a full queue, and who reads from the other queues would be told the same again for ever.
const MOST_REFUSALS: u8 = 3;

/// An event that is not told yet.
pub(super) struct Untold {
    pub(super) event: Event,
    pub(super) context: TraceContext,
    pub(super) refusals: u8,
    /// Ends once it is told.
    pub(super) _span: Span,
}

/// What those who emit and the task that publishes share.
pub(super) struct Desk {
    buffer: Mutex<Buffer<Untold>>,
    arrival: Notify,
    settled: Notify,
}

impl Desk {
    pub(super) fn new(limit: usize) -> Self {
        Self { buffer: Mutex::new(Buffer::new(limit)), arrival: Notify::new(), settled: Notify::new() }
    }

    pub(super) fn put(&self, untold: Untold) {
        self.buffer().put(untold);
        self.arrival.notify_one();
    }

    pub(super) fn buffer(&self) -> MutexGuard<'_, Buffer<Untold>> {
        // No code that holds it can leave it half changed.
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns once nothing is outstanding.
    pub(super) async fn until_all_is_told(&self) {
        loop {
            let settled = self.settled.notified();
            if self.buffer().outstanding() == 0 {
                return;
            }
            settled.await;
        }
    }

    async fn next_batch(&self) -> Vec<Untold> {
        loop {
            let batch = self.buffer().take(BATCH);
            if !batch.is_empty() {
                return batch;
            }
            self.arrival.notified().await;
        }
    }

    fn settle(&self, returned: Vec<Untold>, given_up: u64) {
        self.buffer().settle(returned, given_up);
        self.settled.notify_waiters();
    }
}

/// Tells what comes to the desk; never returns.
pub(super) async fn tell(desk: &Desk, publisher: &ConfirmedPublisher) {
    // So that the exchange is there for those who listen before anything has happened.
    if let Err(error) = publisher.prepare().await {
        warn!(%error, "the exchange of events cannot be declared yet");
    }
    let mut is_outage = false;
    loop {
        let batch = desk.next_batch().await;
        let publications: Vec<Publication> = batch.iter().map(publication).collect();
        let results = publisher.publish(&publications).await;
        let problem = results.iter().find_map(|result| result.as_ref().err()).map(ToString::to_string);
        let (returned, given_up) = left_over(batch, results);
        desk.settle(returned, given_up);
        if let Some(problem) = problem {
            if !is_outage {
                warn!(problem, "events are not confirmed; they wait and are published again");
            }
            is_outage = true;
            tokio::time::sleep(PAUSE).await;
        } else if is_outage {
            is_outage = false;
            info!("events are confirmed again");
            tell_losses(desk);
        }
    }
}

/// Says how many events were lost since this was last said, if any were.
pub(super) fn tell_losses(desk: &Desk) {
    let lost = desk.buffer().newly_lost();
    if lost > 0 {
        warn!(
            lost,
            "events were lost, the oldest first: more were emitted than can be kept, or a queue that is bound to \
             {EVENTS_EXCHANGE} refused them; what they told stands in token_refresh"
        );
    }
}

/// Those that have to be told again, and how many are given up.
fn left_over(batch: Vec<Untold>, results: Vec<Result<(), PublishError>>) -> (Vec<Untold>, u64) {
    let mut returned = Vec::new();
    let mut given_up = 0;
    for (mut untold, result) in batch.into_iter().zip(results) {
        match result {
            Ok(()) => {}
            Err(PublishError::Refused) if untold.refusals + 1 >= MOST_REFUSALS => given_up += 1,
            Err(PublishError::Refused) => {
                untold.refusals += 1;
                returned.push(untold);
            }
            Err(
                PublishError::Unconfirmed { .. }
                | PublishError::QueueSilent { .. }
                | PublishError::NotSent { .. }
                | PublishError::Unroutable { .. },
            ) => returned.push(untold),
        }
    }
    (returned, given_up)
}

fn publication(untold: &Untold) -> Publication {
    let Untold { event, context, .. } = untold;
    // Ids, words of ours and a definition's name of at most 64 characters: never too long.
    let short = |text: String| ShortString::try_new(text).unwrap_or_default();
    let properties = BasicProperties::default()
        .with_delivery_mode(PERSISTENT)
        .with_content_type("application/json".into())
        .with_type(event.kind.as_str().into())
        .with_message_id(short(event.id()))
        // AMQP counts whole seconds.
        .with_timestamp(u64::try_from(event.at.timestamp()).unwrap_or_default())
        .with_headers(headers::from_context(context));
    Publication {
        exchange: EVENTS_EXCHANGE.into(),
        routing_key: short(event.routing_key()),
        properties,
        body: event.encode(),
        // Nobody has to listen.
        mandatory: false,
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::domain::connection::{ConnectionId, Generation};
    use crate::domain::event::EventKind;
    use crate::domain::failure::FailureClass;

    fn untold(id: i64) -> Untold {
        let event = Event {
            kind: EventKind::Failing,
            provider: "fynd".into(),
            connection_id: ConnectionId(id),
            generation: Generation(3),
            expires_at: None,
            class: Some(FailureClass::Network),
            at: DateTime::from_timestamp(1_795_262_400, 999_999_999).unwrap(),
        };
        let context = TraceContext::from([("traceparent".to_owned(), "00-ab-cd-01".to_owned())]);
        Untold { event, context, refusals: 0, _span: Span::none() }
    }

    #[test]
    fn an_event_says_what_it_is_in_its_properties_and_takes_its_trace_along() {
        let untold = untold(42);
        let publication = publication(&untold);
        assert_eq!(publication.exchange.as_str(), "freshet.events");
        assert_eq!(publication.routing_key.as_str(), "token.failing.fynd");
        assert_eq!(publication.body, untold.event.encode());
        assert!(!publication.mandatory);
        let expected = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_type("failing".into())
            .with_message_id("42:3:failing:network".into())
            .with_timestamp(1_795_262_400)
            .with_headers(headers::from_context(&untold.context));
        assert_eq!(publication.properties, expected);
    }

    #[test]
    fn the_unconfirmed_are_told_again_for_ever_and_the_refused_a_few_times() {
        let unconfirmed = || Err(PublishError::Unconfirmed { problem: "away".into() });
        let mut batch = vec![untold(1), untold(2), untold(3)];
        for round in 1..=5 {
            let ids: Vec<i64> = batch.iter().map(|untold| untold.event.connection_id.0).collect();
            let results = ids.iter().map(|id| match id {
                1 => Err(PublishError::Refused),
                2 => unconfirmed(),
                _ => Ok(()),
            });
            let (returned, given_up) = left_over(batch, results.collect());
            assert_eq!(given_up, u64::from(round == 3), "round {round}");
            batch = returned;
        }
        assert_eq!(batch.len(), 1);
        assert_eq!(batch[0].event.connection_id, ConnectionId(2));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_flushes_waits_for_what_is_on_its_way() {
        let desk = Desk::new(10);
        desk.until_all_is_told().await;
        desk.put(untold(1));
        let batch = desk.next_batch().await;
        let flushing = desk.until_all_is_told();
        tokio::pin!(flushing);
        let at_once = Duration::from_millis(1);
        assert!(tokio::time::timeout(at_once, &mut flushing).await.is_err());
        desk.settle(batch, 0);
        assert!(tokio::time::timeout(at_once, &mut flushing).await.is_err());
        desk.next_batch().await;
        desk.settle(Vec::new(), 0);
        flushing.await;
    }
}
