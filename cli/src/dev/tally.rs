//! What the jobs of a run came to.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use freshet_shared::domain::failure::FailureClass;
use freshet_shared::domain::outcome::Outcome;
use freshet_worker::job::JobReport;
use hdrhistogram::Histogram;

/// Counts jobs as they end.
pub(super) struct Tally {
    started_at: DateTime<Utc>,
    counts: Mutex<Counts>,
}

/// The numbers.
pub(super) struct Counts {
    /// Tokens renewed.
    pub(super) refreshed: u64,
    /// Attempts that failed and are tried again.
    pub(super) retried: u64,
    /// Messages that asked for nothing.
    pub(super) skipped: u64,
    /// Grants that came second to another.
    pub(super) stale: u64,
    /// Messages put aside.
    pub(super) dead_letters: u64,
    /// Tokens that had expired, since the start, before they were renewed, by whether the provider was at fault.
    pub(super) expired_before_refresh: u64,
    pub(super) expired_by_provider: u64,
    /// Connections whose last attempt failed, and why.
    pub(super) failing: HashMap<i64, FailureClass>,
    /// Time of a refresh in microseconds.
    pub(super) elapsed: Histogram<u64>,
}

impl Tally {
    pub(super) fn new(started_at: DateTime<Utc>) -> Result<Self, hdrhistogram::CreationError> {
        let counts = Counts {
            refreshed: 0,
            retried: 0,
            skipped: 0,
            stale: 0,
            dead_letters: 0,
            expired_before_refresh: 0,
            expired_by_provider: 0,
            failing: HashMap::new(),
            elapsed: Histogram::new(3)?,
        };
        Ok(Self { started_at, counts: Mutex::new(counts) })
    }

    /// Counts are whole between any two notes, so a panic elsewhere leaves them usable.
    pub(super) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn note(&self, report: &JobReport) {
        let mut counts = self.counts();
        let id = report.connection_id.map(|id| id.0);
        match &report.outcome {
            Outcome::Refreshed(refreshed) => {
                counts.refreshed += 1;
                let microseconds = u64::try_from(report.elapsed.as_micros()).unwrap_or(u64::MAX);
                // It grows with what it is given; only a value beyond its memory is refused.
                let _ = counts.elapsed.record(microseconds);
                let failed_before = id.and_then(|id| counts.failing.remove(&id));
                let died_at = refreshed
                    .lead
                    .filter(|lead| lead.num_milliseconds() < 0)
                    .map(|lead| refreshed.stored_at + lead);
                if died_at.is_some_and(|died_at| died_at > self.started_at) {
                    counts.expired_before_refresh += 1;
                    if failed_before.is_some_and(FailureClass::is_providers) {
                        counts.expired_by_provider += 1;
                    }
                }
            }
            Outcome::Failed(failed) => {
                counts.retried += 1;
                if let Some(id) = id {
                    counts.failing.insert(id, failed.failure.class);
                }
            }
            Outcome::Skipped(_) => counts.skipped += 1,
            Outcome::Stale => counts.stale += 1,
            Outcome::Undecodable(_) => counts.dead_letters += 1,
            Outcome::Deferred { .. }
            | Outcome::Unavailable { .. }
            | Outcome::Parked
            | Outcome::Panicked { .. } => {}
        }
    }
}
