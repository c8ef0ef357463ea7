//! Consuming, over as many sessions as it takes.

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all};
use tokio::sync::watch;
use tracing::{info, warn};

use super::dead_letters::DeadLetters;
use super::headers;
use super::lifeline::Lifeline;
use super::link::LinkError;
use super::session::Session;
use super::settle::Unsettled;
use super::subscription::Received;
use super::topology::Source;
use super::{Prefetch, RabbitMq};
use crate::persistence::{Patience, persist};
use crate::ports::queue::{ConsumeError, Consumer, Delivery};

/// Between attempts to reach a broker that is away.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Before trying again after a session that ended as soon as it had begun.
const AFTER_A_BRIEF_SESSION: Duration = Duration::from_secs(1);

/// Consumes from the queues of all pools over a connection of its own.
pub struct RabbitMqConsumer {
    rabbitmq: Arc<RabbitMq>,
    source: Source,
    prefetch: Prefetch,
    dead_letters: Arc<DeadLetters>,
    state: State,
    /// Of the session that was stopped: what was handed out is settled by them.
    lifelines: Vec<Arc<Lifeline>>,
    consuming: watch::Sender<bool>,
}

enum State {
    /// Kept here and not in the call that waits, so that a call which is dropped does not begin again from nothing.
    Opening(BoxFuture<'static, Result<Session, LinkError>>),
    Open(Session),
    Closed(ConsumeError),
}

impl RabbitMqConsumer {
    pub(super) fn new(rabbitmq: Arc<RabbitMq>, source: Source, prefetch: Prefetch) -> Self {
        let dead_letters = Arc::new(DeadLetters::new(Arc::clone(&rabbitmq)));
        let state = State::Opening(open(Arc::clone(&rabbitmq), source, prefetch, None).boxed());
        let consuming = watch::Sender::new(false);
        Self { rabbitmq, source, prefetch, dead_letters, state, lifelines: Vec::new(), consuming }
    }

    /// Tells whether there is a session with the broker, as far as [`Consumer::next`] has noticed.
    pub fn consuming(&self) -> watch::Receiver<bool> {
        self.consuming.subscribe()
    }

    fn hand_out(&self, received: Received) -> Delivery {
        let Received { mut delivery, lane, queue, destination, lifeline } = received;
        let properties = mem::take(&mut delivery.properties);
        Delivery {
            body: mem::take(&mut delivery.data),
            lane,
            destination,
            redelivered: delivery.redelivered,
            context: headers::to_context(properties.headers().as_ref()),
            settle: Box::new(Unsettled {
                acker: delivery.acker,
                tag: delivery.delivery_tag,
                is_settled: false,
                queue,
                properties,
                dead_letters: Arc::clone(&self.dead_letters),
                limit: self.rabbitmq.operation_timeout,
                lifeline,
            }),
        }
    }

    /// Leaves the state that it is in.
    fn close(&mut self, problem: String) -> State {
        self.consuming.send_replace(false);
        mem::replace(&mut self.state, State::Closed(ConsumeError { problem }))
    }
}

#[async_trait]
impl Consumer for RabbitMqConsumer {
    async fn next(&mut self) -> Result<Delivery, ConsumeError> {
        loop {
            match &mut self.state {
                State::Opening(opening) => match opening.await {
                    Ok(session) => {
                        info!(broker = self.rabbitmq.address(), "consuming");
                        self.consuming.send_replace(true);
                        self.state = State::Open(session);
                    }
                    Err(error) => {
                        let limit = self.rabbitmq.give_up_after;
                        self.close(match error.is_transient() {
                            true => format!(
                                "no session with RabbitMQ for {limit:?} (rabbitmq.give_up_after): {error}"
                            ),
                            false => error.to_string(),
                        });
                    }
                },
                State::Open(session) => match session.next().await {
                    Ok(received) => return Ok(self.hand_out(received)),
                    Err(problem) => {
                        warn!(problem, "the session with RabbitMQ is lost, beginning another");
                        if let State::Open(session) = self.close(problem) {
                            let rabbitmq = Arc::clone(&self.rabbitmq);
                            let opening = open(rabbitmq, self.source, self.prefetch, Some(session));
                            self.state = State::Opening(opening.boxed());
                        }
                    }
                },
                State::Closed(error) => return Err(error.clone()),
            }
        }
    }

    async fn stop(&mut self) {
        if let State::Open(session) = self.close("this consumer was stopped".into()) {
            self.lifelines = session.retire().await;
        }
    }

    async fn finish(&mut self) {
        let (lifelines, limit) = (mem::take(&mut self.lifelines), self.rabbitmq.operation_timeout);
        let closed = join_all(lifelines.iter().map(|lifeline| lifeline.close(limit))).await;
        let mut ended: Result<(), LinkError> = closed.into_iter().collect();
        if let (Ok(()), Some(lifeline)) = (&ended, lifelines.first()) {
            ended = lifeline.close_connection(limit).await;
        }
        if let Err(error) = ended {
            warn!(%error, "the broker may not have taken in the last acknowledgements: messages of finished jobs may come again");
        }
    }
}

/// Opens a session, after giving back what is left of the one before. Fails for good, or when the broker has been away for so
/// long that whoever watches this process should hear of it by its end.
async fn open(
    rabbitmq: Arc<RabbitMq>,
    source: Source,
    prefetch: Prefetch,
    before: Option<Session>,
) -> Result<Session, LinkError> {
    if let Some(session) = before {
        let brief = session.was_brief();
        session.retire().await;
        if brief {
            tokio::time::sleep(AFTER_A_BRIEF_SESSION).await;
        }
    }
    persist(
        Patience::within(FIRST_PAUSE, LONGEST_PAUSE, rabbitmq.give_up_after),
        || Session::open(&rabbitmq, source, prefetch),
        LinkError::is_transient,
        |error, pause| warn!(%error, ?pause, "RabbitMQ cannot be consumed from, trying again"),
    )
    .await
}
