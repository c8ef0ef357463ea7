//! Publishing with confirms, for the refresh messages, the dead letters and the events.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use lapin::message::BasicReturnMessage;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::ShortString;
use lapin::{BasicProperties, Channel, Confirmation, Connection};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;

use super::RabbitMq;
use super::link::{LinkError, timed};
use super::topology::declare_events_exchange;
use crate::failpoints::{Point, reached};
use crate::persistence::{Patience, persist};
use crate::ports::queue::PublishError;

/// How many messages wait for their confirms at once, and share one time-out.
const BATCH: usize = 1_000;

/// Written to disk before it is confirmed.
pub(super) const PERSISTENT: u8 = 2;

/// One message on its way to the broker.
pub(super) struct Publication {
    pub(super) exchange: ShortString,
    pub(super) routing_key: ShortString,
    pub(super) properties: BasicProperties,
    pub(super) body: Vec<u8>,
    /// Whether it is a failure that no queue takes it.
    pub(super) mandatory: bool,
}

/// What is declared before anything is published.
#[derive(Debug, Clone, Copy)]
pub(super) enum Declares {
    /// All that refresh messages travel through.
    Queues,
    /// What events go to.
    EventsExchange,
}

/// A connection with one confirm channel, opened when it is needed and given up after any failure, so that no
/// confirm of one batch can be taken for another's.
pub(super) struct ConfirmedPublisher {
    rabbitmq: Arc<RabbitMq>,
    purpose: &'static str,
    declares: Declares,
    /// Out of its place while a batch is on its way: a batch that is abandoned takes its link along.
    link: Mutex<Option<Link>>,
}

struct Link {
    connection: Connection,
    channel: Channel,
}

impl ConfirmedPublisher {
    pub(super) fn new(rabbitmq: Arc<RabbitMq>, purpose: &'static str, declares: Declares) -> Self {
        Self { rabbitmq, purpose, declares, link: Mutex::new(None) }
    }

    /// Connects and declares without publishing anything.
    pub(super) async fn prepare(&self) -> Result<(), LinkError> {
        let mut place = self.link.lock().await;
        *place = Some(self.ready(place.take()).await?);
        Ok(())
    }

    /// Publishes all of them; one answer each, in order. Ends within about twice the time-out, plus once per
    /// thousand messages, of which none is sent behind one that had no answer.
    pub(super) async fn publish(&self, publications: &[Publication]) -> Vec<Result<(), PublishError>> {
        // One batch at a time: the client hands a returned message to whichever confirm comes next on its channel.
        let mut place = self.link.lock().await;
        let mut results = Vec::with_capacity(publications.len());
        for batch in publications.chunks(BATCH) {
            let link = match self.ready(place.take()).await {
                Ok(link) => link,
                Err(error) => {
                    results.resize(publications.len(), not_sent(error.to_string()));
                    break;
                }
            };
            let confirmed = publish_batch(&link, batch, self.rabbitmq.operation_timeout).await;
            let is_silent =
                |result: &Result<(), PublishError>| matches!(result, Err(PublishError::QueueSilent { .. }));
            if confirmed.iter().any(is_silent) {
                // One of its confirms may still come on this link, and be taken for another's. Whether the next one is there at
                // once also tells whether it is the queue that does not answer, or the broker.
                drop(link);
                match self.open().await {
                    Ok(link) => *place = Some(link),
                    Err(error) => {
                        let rest = "one before it failed".into();
                        results.extend(confirmed.into_iter().map(|result| of_the_broker(result, &error)));
                        results.resize(publications.len(), not_sent(rest));
                        break;
                    }
                }
                results.extend(confirmed);
                // The rest would be waited for in vain once more.
                let problem = "one before it had no answer".to_owned();
                results
                    .resize(publications.len(), Err(PublishError::QueueSilent { problem, is_sent: false }));
                break;
            }
            let clean =
                !confirmed.iter().any(|result| matches!(result, Err(error) if error.is_broker_away()));
            // A queue that has gone is declared again with the next link.
            let declared =
                !confirmed.iter().any(|result| matches!(result, Err(PublishError::Unroutable { .. })));
            results.extend(confirmed);
            if !clean {
                // The rest would wait in vain once more.
                results.resize(publications.len(), not_sent("one before it failed".into()));
                break;
            }
            *place = declared.then_some(link);
        }
        results
    }

    async fn ready(&self, held: Option<Link>) -> Result<Link, LinkError> {
        if let Some(link) = held.filter(Link::is_alive) {
            return Ok(link);
        }
        let limit = self.rabbitmq.operation_timeout;
        let patience = Patience::within(Duration::from_millis(100), Duration::from_secs(2), limit);
        persist(
            patience,
            || self.open(),
            LinkError::is_transient,
            |error, pause| warn!(purpose = self.purpose, %error, ?pause, "RabbitMQ cannot be published to, trying again"),
        )
        .await
    }

    async fn open(&self) -> Result<Link, LinkError> {
        let limit = self.rabbitmq.operation_timeout;
        let opening = async {
            let connection = self.rabbitmq.connect(self.purpose).await?;
            let channel = self.rabbitmq.open_channel(&connection).await?;
            match self.declares {
                Declares::Queues => self.rabbitmq.topology.declare(&channel, limit).await?,
                Declares::EventsExchange => declare_events_exchange(&channel, limit).await?,
            }
            let select = channel.confirm_select(ConfirmSelectOptions::default());
            timed(limit, "switch confirms on for", self.purpose, select).await?;
            Ok(Link { connection, channel })
        };
        // Also all steps together, so that a broker which answers slowly each time does not hold up a scan.
        timeout(limit, opening).await.unwrap_or_else(|_| {
            Err(LinkError::TimedOut { action: "prepare", subject: self.rabbitmq.address(), limit })
        })
    }
}

impl Link {
    /// As far as the client has noticed.
    fn is_alive(&self) -> bool {
        self.connection.status().connected() && self.channel.status().connected()
    }
}

/// Sends all of them before it waits for the first confirm.
async fn publish_batch(link: &Link, batch: &[Publication], limit: Duration) -> Vec<Result<(), PublishError>> {
    let mut waiting: FuturesUnordered<_> = batch
        .iter()
        .enumerate()
        .map(|(index, publication)| confirm(&link.channel, publication, index))
        .collect();
    let mut confirmations: Vec<Option<lapin::Result<Confirmation>>> = batch.iter().map(|_| None).collect();
    let deadline = Instant::now() + limit;
    while let Ok(Some((index, confirmation))) = timeout_at(deadline, waiting.next()).await {
        confirmations[index] = Some(confirmation);
    }
    // What had come by the deadline counts: one queue without a leader must not make the others' messages doubtful.
    while let Some(Some((index, confirmation))) = waiting.next().now_or_never() {
        confirmations[index] = Some(confirmation);
    }
    let silence = if link.connection.status().blocked() {
        let problem = format!(
            "nothing within {limit:?}; it has blocked publishing, look at its memory and disk alarms"
        );
        PublishError::Unconfirmed { problem }
    } else {
        let problem = format!("nothing within {limit:?}; has it a leader?");
        PublishError::QueueSilent { problem, is_sent: true }
    };
    verdicts(batch, confirmations, &silence)
}

/// Where the broker does not answer either, it is not the queue.
fn of_the_broker(result: Result<(), PublishError>, error: &LinkError) -> Result<(), PublishError> {
    match result {
        Err(PublishError::QueueSilent { problem, .. }) => unconfirmed(format!("{problem}; {error}")),
        result => result,
    }
}

/// The broker's answer, with the place of its message in the batch.
async fn confirm(
    channel: &Channel,
    publication: &Publication,
    index: usize,
) -> (usize, lapin::Result<Confirmation>) {
    let options = BasicPublishOptions { mandatory: publication.mandatory, ..BasicPublishOptions::default() };
    let sent = channel.basic_publish(
        publication.exchange.clone(),
        publication.routing_key.clone(),
        options,
        &publication.body,
        publication.properties.clone(),
    );
    match sent.await {
        Ok(confirm) => {
            reached(Point::BeforeConfirm).await;
            (index, confirm.await)
        }
        Err(error) => (index, Err(error)),
    }
}

/// What the broker's answers mean, message by message.
///
/// A message that no queue takes is returned and then acknowledged. The client attaches the returned message to the
/// next acknowledgement that it works on, which need not be its own; so returned messages are told by their content.
fn verdicts(
    batch: &[Publication],
    confirmations: Vec<Option<lapin::Result<Confirmation>>>,
    silence: &PublishError,
) -> Vec<Result<(), PublishError>> {
    let mut returned = HashSet::new();
    let answers: Vec<Result<(), PublishError>> = confirmations
        .into_iter()
        .map(|confirmation| match confirmation {
            Some(Ok(Confirmation::Ack(message))) => {
                returned.extend(message.map(identity));
                Ok(())
            }
            Some(Ok(Confirmation::Nack(message))) => {
                returned.extend(message.map(identity));
                Err(PublishError::Refused)
            }
            Some(Ok(Confirmation::NotRequested)) => unconfirmed("the channel has no confirms".into()),
            Some(Err(error)) => unconfirmed(error.to_string()),
            None => Err(silence.clone()),
        })
        .collect();
    let judge = |(publication, answer): (&Publication, Result<(), PublishError>)| {
        let identity = (publication.routing_key.clone(), publication.properties.message_id().clone());
        if answer.is_ok() && returned.contains(&identity) {
            return Err(PublishError::Unroutable { routing_key: publication.routing_key.to_string() });
        }
        answer
    };
    batch.iter().zip(answers).map(judge).collect()
}

fn identity(message: BasicReturnMessage) -> (ShortString, Option<ShortString>) {
    let delivery = message.delivery;
    (delivery.routing_key, delivery.properties.message_id().clone())
}

pub(super) fn not_sent(problem: String) -> Result<(), PublishError> {
    Err(PublishError::NotSent { problem })
}

fn unconfirmed(problem: String) -> Result<(), PublishError> {
    Err(PublishError::Unconfirmed { problem })
}

#[cfg(test)]
mod tests {
    use lapin::ErrorKind;
    use lapin::message::Delivery;

    use super::*;

    fn properties(id: &str) -> BasicProperties {
        BasicProperties::default().with_message_id(id.into())
    }

    fn publication(id: &str) -> Publication {
        Publication {
            exchange: "e".into(),
            routing_key: "k".into(),
            properties: properties(id),
            body: Vec::new(),
            mandatory: true,
        }
    }

    fn returned(id: &str) -> Option<BasicReturnMessage> {
        let mut delivery = Delivery::mock(0, "e".into(), "k".into(), false, Vec::new());
        delivery.properties = properties(id);
        Some(BasicReturnMessage { delivery, reply_code: 312, reply_text: "NO_ROUTE".into() })
    }

    fn unroutable() -> Result<(), PublishError> {
        Err(PublishError::Unroutable { routing_key: "k".into() })
    }

    #[test]
    fn only_a_clean_acknowledgement_counts() {
        let batch = ["1", "2", "3", "4", "5"].map(publication);
        let confirmations = vec![
            Some(Ok(Confirmation::Ack(None))),
            Some(Ok(Confirmation::Nack(None))),
            Some(Ok(Confirmation::NotRequested)),
            Some(Err(ErrorKind::MissingHeartbeatError.into())),
            None,
        ];
        let silence = PublishError::QueueSilent { problem: "silence".into(), is_sent: true };
        let answers = verdicts(&batch, confirmations, &silence);
        assert_eq!(answers[0], Ok(()));
        assert_eq!(answers[1], Err(PublishError::Refused));
        assert!(matches!(answers[2], Err(PublishError::Unconfirmed { .. })));
        assert!(matches!(answers[3], Err(PublishError::Unconfirmed { .. })));
        assert_eq!(answers[4], Err(silence));
    }

    #[test]
    fn a_returned_message_is_told_by_its_content_not_by_the_confirm_that_carries_it() {
        let batch = ["1", "2", "3"].map(publication);
        let ack = |message| Some(Ok(Confirmation::Ack(message)));
        let nack = |message| Some(Ok(Confirmation::Nack(message)));
        let silence = PublishError::QueueSilent { problem: "silence".into(), is_sent: true };
        let judge = |confirmations| verdicts(&batch, confirmations, &silence);
        assert_eq!(judge(vec![ack(returned("3")), ack(None), ack(None)]), [Ok(()), Ok(()), unroutable()]);
        let refused = Err(PublishError::Refused);
        assert_eq!(judge(vec![ack(None), nack(returned("1")), ack(None)]), [unroutable(), refused, Ok(())]);
    }
}
