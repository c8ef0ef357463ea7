//! What stands before one provider in this process.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use freshet_shared::domain::breaker::{Admission, Breaker, Change, Evidence};
use freshet_shared::domain::limits::{Limits, share};
use tokio::sync::Semaphore;

use super::PermitSettings;
use super::backlog::Backlog;

/// The gate of one provider.
pub(super) struct Gate {
    pub(super) provider: String,
    /// This worker's part of the provider's concurrency, and how many that are; `None`: not limited.
    pub(super) slots: Option<(Arc<Semaphore>, NonZeroU32)>,
    breaker: Mutex<Breaker>,
    queue_for_slots: Mutex<Backlog>,
    queue_for_rate: Mutex<Backlog>,
}

impl Gate {
    pub(super) fn new(provider: &str, limits: &Limits, settings: &PermitSettings) -> Self {
        let slots = limits.concurrency.map(|concurrency| {
            let number = share(concurrency, settings.workers);
            // A semaphore holds fewer on machines of 32 bits; nobody has so many calls in flight.
            let permits = usize::try_from(number.get())
                .map_or(Semaphore::MAX_PERMITS, |permits| permits.min(Semaphore::MAX_PERMITS));
            (Arc::new(Semaphore::new(permits)), number)
        });
        Self {
            provider: provider.to_owned(),
            slots,
            breaker: Mutex::new(Breaker::new(settings.breaker)),
            queue_for_slots: Mutex::default(),
            queue_for_rate: Mutex::default(),
        }
    }

    pub(super) fn breaker(&self) -> MutexGuard<'_, Breaker> {
        lock(&self.breaker)
    }

    pub(super) fn queue_for_slots(&self) -> MutexGuard<'_, Backlog> {
        lock(&self.queue_for_slots)
    }

    pub(super) fn queue_for_rate(&self) -> MutexGuard<'_, Backlog> {
        lock(&self.queue_for_rate)
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
