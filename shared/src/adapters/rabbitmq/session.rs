//! One life of the consuming connection.
//!
//! A queue that cannot be consumed from, because it was deleted or has no leader, is left out and tried again, while
//! the others go on; the session is lost only with its connection.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{BoxFuture, join_all};
use futures_util::stream::FuturesUnordered;
use lapin::Connection;
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::lifeline::Lifeline;
use super::link::LinkError;
use super::subscription::{Received, Subscription};
use super::topology::{Route, Source};
use super::{Prefetch, RabbitMq};
use crate::domain::lane::Lane;
use crate::persistence::{Patience, persist};

/// The queues of a broker that is well answer one right after the other.
const AFTER_THE_FIRST: Duration = Duration::from_millis(500);

/// For a queue that is missing from a session.
const MENDING: Patience = Patience::endless(Duration::from_secs(1), Duration::from_secs(30));

/// A connection that consumes from every queue that it can.
pub(super) struct Session {
    rabbitmq: Arc<RabbitMq>,
    prefetch: Prefetch,
    connection: Arc<Connection>,
    urgent: Vec<Subscription>,
    early: Vec<Subscription>,
    opening: FuturesUnordered<BoxFuture<'static, Result<Subscription, LinkError>>>,
    opened: Instant,
}

impl Session {
    pub(super) async fn open(
        rabbitmq: &Arc<RabbitMq>,
        source: Source,
        prefetch: Prefetch,
    ) -> Result<Self, LinkError> {
        let connection = Arc::new(rabbitmq.connect(source.purpose()).await?);
        let channel = rabbitmq.open_channel(&connection).await?;
        rabbitmq.topology.declare(&channel, rabbitmq.operation_timeout).await?;
        let mut session = Self {
            rabbitmq: Arc::clone(rabbitmq),
            prefetch,
            connection: Arc::clone(&connection),
            urgent: Vec::new(),
            early: Vec::new(),
            opening: FuturesUnordered::new(),
            opened: Instant::now(),
        };
        for route in rabbitmq.topology.routes(source) {
            let (rabbitmq, connection) = (Arc::clone(rabbitmq), Arc::clone(&connection));
            session.opening.push(Box::pin(subscribe(rabbitmq, connection, route.clone(), prefetch)));
        }
        session.open_some(rabbitmq.give_up_after).await?;
        Ok(session)
    }

    /// A queue that does not answer holds up no other: what that one has delivered would wait with it. Fails where none answers
    /// for so long.
    async fn open_some(&mut self, limit: Duration) -> Result<(), LinkError> {
        match timeout(limit, self.opening.next()).await {
            Ok(Some(first)) => self.add(first?),
            Ok(None) => {}
            Err(_) => {
                let subject = "every queue".to_owned();
                return Err(LinkError::TimedOut { action: "consume from", subject, limit });
            }
        }
        while let Ok(Some(another)) = timeout(AFTER_THE_FIRST, self.opening.next()).await {
            self.add(another?);
        }
        Ok(())
    }

    /// The next message, an urgent one where there is one; an error when the session is lost. Dropping the wait
    /// loses nothing: a message leaves the client's buffer only together with the answer.
    pub(super) async fn next(&mut self) -> Result<Received, String> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// Whether it ended so soon that another one may end likewise.
    pub(super) fn was_brief(&self) -> bool {
        self.opened.elapsed() < Duration::from_secs(10)
    }

    /// Takes no more messages and gives back those that were not handed out. Answers what the others are settled by.
    pub(super) async fn retire(self) -> Vec<Arc<Lifeline>> {
        let limit = self.rabbitmq.operation_timeout;
        let subscriptions = self.urgent.into_iter().chain(self.early);
        join_all(subscriptions.map(|subscription| subscription.retire(limit))).await
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<Received, String>> {
        while let Poll::Ready(Some(opened)) = self.opening.poll_next_unpin(context) {
            match opened {
                Ok(subscription) => self.add(subscription),
                Err(error) => return Poll::Ready(Err(error.to_string())),
            }
        }
        for lane in Lane::ALL {
            let mut index = 0;
            while let Some(subscription) = self.lane(lane).get_mut(index) {
                match subscription.poll_next(context) {
                    Poll::Pending => index += 1,
                    Poll::Ready(Ok(received)) => {
                        // Whoever had its turn goes to the end, so that no pool keeps the others of its lane waiting.
                        self.lane(lane)[index..].rotate_left(1);
                        return Poll::Ready(Ok(received));
                    }
                    Poll::Ready(Err(problem)) => {
                        if !self.connection.status().connected() {
                            return Poll::Ready(Err(problem));
                        }
                        let ended = self.lane(lane).remove(index);
                        self.mend(ended.route, problem);
                        // Asked once, so that it wakes us.
                        context.waker().wake_by_ref();
                    }
                }
            }
        }
        Poll::Pending
    }

    fn lane(&mut self, lane: Lane) -> &mut Vec<Subscription> {
        match lane {
            Lane::Urgent => &mut self.urgent,
            Lane::Early => &mut self.early,
        }
    }

    fn add(&mut self, subscription: Subscription) {
        self.lane(subscription.route.lane).push(subscription);
    }

    fn mend(&mut self, route: Route, problem: String) {
        let (rabbitmq, connection) = (Arc::clone(&self.rabbitmq), Arc::clone(&self.connection));
        self.opening.push(Box::pin(mend(rabbitmq, connection, route, self.prefetch, problem)));
    }
}

/// Consumes as soon as the queue can be consumed from. Fails as [`mend`] does.
async fn subscribe(
    rabbitmq: Arc<RabbitMq>,
    connection: Arc<Connection>,
    route: Route,
    prefetch: Prefetch,
) -> Result<Subscription, LinkError> {
    match Subscription::open(&rabbitmq, &connection, &route, prefetch).await {
        Err(error) if connection.status().connected() => {
            mend(rabbitmq, connection, route, prefetch, error.to_string()).await
        }
        opened => opened,
    }
}

/// Declares anew and consumes again. Fails only when the connection is gone or the queue has other arguments now.
async fn mend(
    rabbitmq: Arc<RabbitMq>,
    connection: Arc<Connection>,
    route: Route,
    prefetch: Prefetch,
    problem: String,
) -> Result<Subscription, LinkError> {
    warn!(queue = route.queue.as_str(), problem, "a queue cannot be consumed from, trying it again");
    // A queue whose deliveries end as soon as they begin must not keep us busy.
    tokio::time::sleep(MENDING.first).await;
    let mended = persist(
        MENDING,
        || async {
            let channel = rabbitmq.open_channel(&connection).await?;
            rabbitmq.topology.declare(&channel, rabbitmq.operation_timeout).await?;
            Subscription::open(&rabbitmq, &connection, &route, prefetch).await
        },
        |error| error.is_transient() && connection.status().connected(),
        |error, pause| warn!(%error, ?pause, "a queue still cannot be consumed from"),
    )
    .await?;
    info!(queue = &*mended.queue, "consuming from it again");
    Ok(mended)
}
