//! What stands before one provider in this process.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use freshet_shared::domain::breaker::{Admission, Breaker, Change, Evidence};
use freshet_shared::domain::limits::{Limits, share};
use tokio::sync::Semaphore;

use super::PermitSettings;
use super::backlog::{Backlog, random_part};

/// The gate of one provider.
pub(super) struct Gate {
    pub(super) provider: String,
    /// This worker's part of the provider's concurrency, and how many that are; `None`: not limited.
    pub(super) slots: Option<(Arc<Semaphore>, NonZeroU32)>,
    breaker: Mutex<Breaker>,
    queue_for_slots: Mutex<Backlog>,
    call_takes: Mutex<Option<Duration>>,
    longest_call: Duration,
    /// When the job comes back that is to be the next probe.
    next_probe: Mutex<Option<DateTime<Utc>>>,
}

/// A semaphore holds fewer on machines of 32 bits; nobody has so many calls in flight.
pub(super) fn permits_of(number: NonZeroU32) -> usize {
    usize::try_from(number.get())
        .map_or(Semaphore::MAX_PERMITS, |permits| permits.min(Semaphore::MAX_PERMITS))
}

impl Gate {
    pub(super) fn new(provider: &str, limits: &Limits, settings: &PermitSettings) -> Self {
        let slots = limits.concurrency.map(|concurrency| {
            let number = share(concurrency, settings.workers);
            (Arc::new(Semaphore::new(permits_of(number))), number)
        });
        Self {
            provider: provider.to_owned(),
            slots,
            breaker: Mutex::new(Breaker::new(settings.breaker)),
            queue_for_slots: Mutex::default(),
            call_takes: Mutex::default(),
            longest_call: settings.longest_call,
            next_probe: Mutex::default(),
        }
    }

    /// When a job that found the breaker open comes back, not before `earliest`.
    ///
    /// One of them soon, because somebody has to be the probe. All the others should find it answered: they are spread over as
    /// long as the provider has failed by now. Over less, all that a long outage has put off would go round through the queue
    /// again and again, and look like work for more workers.
    pub(super) fn comes_back(
        &self,
        earliest: DateTime<Utc>,
        now: DateTime<Utc>,
        settings: &PermitSettings,
        random: u64,
    ) -> DateTime<Utc> {
        let soon = settings.breaker.open_for();
        let failing_for = self.breaker().failing_for(now);
        let mut next_probe = lock(&self.next_probe);
        let has_probe = next_probe.is_some_and(|probe| probe >= earliest && probe <= earliest + soon);
        let spread = if has_probe { failing_for.min(settings.longest_spread).max(soon) } else { soon };
        let until = earliest + random_part(spread, random);
        if !has_probe {
            *next_probe = Some(until);
        }
        until
    }

    /// How long a call takes, as the last ones did; `None` before the first.
    pub(super) fn call_takes(&self) -> Option<Duration> {
        *lock(&self.call_takes)
    }

    /// A call took so long.
    pub(super) fn call_took(&self, elapsed: Duration) {
        let elapsed = elapsed.min(self.longest_call);
        let mut takes = lock(&self.call_takes);
        // The older, the less it counts: half as much after five more.
        *takes = Some(takes.map_or(elapsed, |takes| (takes * 7 + elapsed) / 8));
    }

    pub(super) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        lock(&self.breaker)
    }

    pub(super) fn queue_for_slots(&self) -> MutexGuard<'_, Backlog> {
        lock(&self.queue_for_slots)
    }

    /// Tells the breaker how a call ended.
    pub(super) fn report(&self, admission: Admission, evidence: Evidence, now: DateTime<Utc>) {
        let change = self.breaker().report(admission, evidence, now);
        let provider = &self.provider;
        match change {
            Some(Change::Opened { wait }) => {
                let seconds = wait.num_seconds();
                tracing::warn!(
                    provider,
                    seconds,
                    "too many calls failed: provider is left alone, its jobs are deferred"
                );
            }
            Some(Change::Closed) => tracing::info!(provider, "provider serves again"),
            None => {}
        }
    }
}

/// All that is kept behind these locks is whole between any two calls, so a panic elsewhere leaves it usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
