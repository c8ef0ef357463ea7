//! The pool: as many jobs at once as there are slots, and none that nobody waits for.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use freshet_shared::ports::queue::{ConsumeError, Consumer};
use freshet_shared::process::health::Pulse;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::job::{JobReport, handle};
use crate::refresh::Refresher;

/// Told of every job that ended.
pub type Observer = Arc<dyn Fn(&JobReport) + Send + Sync>;

/// What the pool is at, for whoever watches it.
pub struct Activity {
    /// The pulse of its loop.
    pub pulse: Arc<Pulse>,
    in_flight: AtomicU64,
    /// How many times any job went on.
    moves: AtomicU64,
}

impl Default for Activity {
    fn default() -> Self {
        Self { pulse: Arc::new(Pulse::resting()), in_flight: AtomicU64::new(0), moves: AtomicU64::new(0) }
    }
}

impl Activity {
    /// Jobs that are at work.
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Notes each time that `job` goes on.
    async fn watch<T>(&self, job: impl Future<Output = T>) -> T {
        let mut job = pin!(job);
        poll_fn(|context| {
            self.moves.fetch_add(1, Ordering::Relaxed);
            job.as_mut().poll(context)
        })
        .await
    }
}

/// Counted as at work until it is dropped, also by a panic.
struct AtWork(Arc<Activity>);

impl AtWork {
    fn begin(activity: &Arc<Activity>) -> Self {
        activity.in_flight.fetch_add(1, Ordering::Relaxed);
        Self(activity.clone())
    }
}

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}
/// This long before the grace period ends, or in the middle of one that is short.
const LAST_CALL: Duration = Duration::from_secs(10);

/// While all slots are taken it is looked at this often whether any job goes on.
const LOOK_EVERY: Duration = Duration::from_secs(15);
/// No job waits for longer for one thing without asking again: a call takes five minutes at most, and a database that is away
/// is asked every few seconds.
const LONGEST_SILENCE: Duration = Duration::from_secs(600);

/// Waits for a slot. As long as any job moves, the wait has a reason.
async fn free_slot(
    slots: &Arc<Semaphore>,
    activity: &Activity,
) -> Result<OwnedSemaphorePermit, AcquireError> {
    if let Ok(slot) = slots.clone().try_acquire_owned() {
        return Ok(slot);
    }
    let mut seen = activity.moves.load(Ordering::Relaxed);
    activity.pulse.beat(LONGEST_SILENCE);
    loop {
        match timeout(LOOK_EVERY, slots.clone().acquire_owned()).await {
            Ok(slot) => return slot,
            Err(_) => {
                let moves = activity.moves.load(Ordering::Relaxed);
                if moves != seen {
                    activity.pulse.beat(LONGEST_SILENCE);
                }
                seen = moves;
            }
        }
    }
}

/// How the pool runs.
pub struct PoolSettings {
    /// Jobs at once.
    pub concurrency: usize,
    /// How long started jobs may take after the shutdown began.
    pub grace: Duration,
    /// What it says of itself while it runs.
    pub activity: Arc<Activity>,
}

impl PoolSettings {
    /// How long after the shutdown began answers are parked that the database has not taken. What is left is for the broker.
    pub fn until_last_call(&self) -> Duration {
        self.grace - (self.grace / 2).min(LAST_CALL)
    }
}

/// How the pool ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PoolReport {
    /// Jobs that ended.
    pub handled: u64,
    /// Jobs that were still at work when the grace period ended; their messages come again.
    pub abandoned: u64,
}

/// Takes messages and handles them until `shutdown`; then gives back those that were not begun and finishes the others.
///
/// # Errors
/// If consuming cannot go on.
pub async fn run(
    refresher: Arc<Refresher>,
    mut consumer: Box<dyn Consumer>,
    settings: PoolSettings,
    observer: Observer,
    shutdown: CancellationToken,
) -> Result<PoolReport, ConsumeError> {
    let slots = Arc::new(Semaphore::new(settings.concurrency));
    let mut jobs = JoinSet::new();
    let mut report = PoolReport::default();
    let last_call = refresher.last_call.clone();
    let ended = loop {
        // The slot comes first: a message that is taken is begun at once.
        let slot = tokio::select! {
            biased;
            () = shutdown.cancelled() => break Ok(()),
            slot = free_slot(&slots, &settings.activity) => slot,
        };
        // A message may never come.
        settings.activity.pulse.rest();
        let delivery = tokio::select! {
            biased;
            () = shutdown.cancelled() => break Ok(()),
            delivery = consumer.next() => delivery,
        };
        let delivery = match delivery {
            Ok(delivery) => delivery,
            Err(error) => break Err(error),
        };
        let (refresher, observer, shutdown) = (refresher.clone(), observer.clone(), shutdown.clone());
        let at_work = AtWork::begin(&settings.activity);
        jobs.spawn(async move {
            let _slot = slot;
            // On the heap, for a refresh is large and is moved into its task.
            let working = Box::pin(handle(&refresher, delivery, &shutdown));
            observer(&at_work.0.watch(working).await);
        });
        while jobs.try_join_next().is_some() {
            report.handled += 1;
        }
    };
    let finish = async {
        // Both within the grace period: a broker that hangs must not use it up twice.
        let finished = async {
            while jobs.join_next().await.is_some() {
                report.handled += 1
            }
        };
        let finished = async {
            tokio::join!(consumer.stop(), finished);
            consumer.finish().await;
        };
        tokio::pin!(finished);
        if timeout(settings.until_last_call(), &mut finished).await.is_err() {
            last_call.cancel();
            finished.await;
        }
    };
    // Started jobs keep their connections; only the wait for them is bounded.
    let in_time = timeout(settings.grace, finish).await.is_ok();
    if !in_time {
        report.abandoned = jobs.len() as u64;
        tracing::error!(jobs = report.abandoned, "grace period over; messages of unfinished jobs come again");
    }
    ended.map(|()| report)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a pool that has waited for a slot for a quarter of an hour counts as alive.
    async fn is_alive_without_a_slot(are_jobs_moving: bool) -> bool {
        let (slots, activity) = (Arc::new(Semaphore::new(0)), Activity::default());
        let time = async {
            for _ in 0..90 {
                tokio::time::sleep(Duration::from_secs(10)).await;
                if are_jobs_moving {
                    activity.watch(async {}).await;
                }
            }
        };
        tokio::select! {
            _ = free_slot(&slots, &activity) => panic!("there is none"),
            () = time => activity.pulse.is_beating(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pool_whose_jobs_move_waits_for_a_reason_and_one_whose_jobs_do_not_is_stuck() {
        assert!(is_alive_without_a_slot(true).await);
        assert!(!is_alive_without_a_slot(false).await);
    }
}
