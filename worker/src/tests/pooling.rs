//! The pool: bounds, order and shutdown.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use freshet_shared::adapters::embedded::queue::InProcessQueue;
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::provider::answer::ProviderAnswer;
use freshet_shared::domain::provider::request::ProviderRequest;
use freshet_shared::ports::provider::{CallError, ProviderCaller};
use freshet_shared::ports::queue::{Outgoing, Publisher};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::{Bench, message};
use crate::pool::{PoolReport, PoolSettings, run};
use crate::refresh::Refresher;

/// A provider that answers one call for each permit it is given.
struct Gated {
    gate: Semaphore,
    waiting: AtomicU64,
}

#[async_trait]
impl ProviderCaller for Gated {
    async fn call(&self, _: &ProviderRequest) -> Result<ProviderAnswer, CallError> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.gate.acquire().await.unwrap().forget();
        let body = br#"{"status":"SUCCESS","accessToken":"new"}"#.to_vec();
        Ok(ProviderAnswer { status: 200, retry_after: None, body: body.into() })
    }
}

struct Running {
    provider: Arc<Gated>,
    queue: Arc<InProcessQueue>,
    shutdown: CancellationToken,
    pool: tokio::task::JoinHandle<PoolReport>,
}

/// Five connections, a pool of two slots, and a provider that lets nobody through yet.
async fn start(grace: Duration) -> Running {
    let bench = Bench::new().await;
    let queue = InProcessQueue::new();
    let mut outgoing = Vec::new();
    for id in 1..=5 {
        bench.add(id, 20).await;
        let message = message(id, 0, Lane::Early);
        outgoing.push(Outgoing { message, pool: "shared".into(), context: Default::default() });
    }
    queue.publish(&outgoing).await;
    let provider = Arc::new(Gated { gate: Semaphore::new(0), waiting: AtomicU64::new(0) });
    let refresher =
        Arc::into_inner(bench.refresher).map(|refresher| Refresher { caller: provider.clone(), ..refresher });
    let shutdown = CancellationToken::new();
    let pool = run(
        Arc::new(refresher.unwrap()),
        Box::new(queue.consumer()),
        PoolSettings { concurrency: 2, grace, activity: Arc::default() },
        Arc::new(|_| ()),
        shutdown.clone(),
    );
    let pool = tokio::spawn(async move { pool.await.unwrap() });
    while provider.waiting.load(Ordering::SeqCst) < 2 {
        tokio::task::yield_now().await;
    }
    Running { provider, queue, shutdown, pool }
}

#[tokio::test]
async fn no_more_jobs_run_than_there_are_slots_and_all_are_handled() {
    let Running { provider, queue, shutdown, pool } = start(Duration::from_secs(30)).await;
    let depth = queue.depth();
    assert_eq!(
        (depth.ready, depth.unacknowledged),
        (3, 2),
        "no message is taken before there is a slot for it"
    );
    provider.gate.add_permits(5);
    while queue.depth().ready + queue.depth().unacknowledged > 0 {
        tokio::task::yield_now().await;
    }
    shutdown.cancel();
    assert_eq!(pool.await.unwrap(), PoolReport { handled: 5, abandoned: 0 });
}

#[tokio::test]
async fn started_jobs_are_finished_and_the_others_stay_queued() {
    let Running { provider, queue, shutdown, pool } = start(Duration::from_secs(30)).await;
    shutdown.cancel();
    provider.gate.add_permits(2);
    assert_eq!(pool.await.unwrap(), PoolReport { handled: 2, abandoned: 0 });
    let depth = queue.depth();
    assert_eq!((depth.ready, depth.unacknowledged), (3, 0));
}

#[tokio::test]
async fn jobs_that_outlast_the_grace_period_are_counted_and_their_messages_come_again() {
    let Running { queue, shutdown, pool, .. } = start(Duration::from_millis(50)).await;
    shutdown.cancel();
    assert_eq!(pool.await.unwrap(), PoolReport { handled: 0, abandoned: 2 });
    while queue.depth().ready < 5 {
        tokio::task::yield_now().await;
    }
}
