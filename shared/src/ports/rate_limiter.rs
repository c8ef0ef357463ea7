//! The rate of requests to a provider, shared by everyone who calls it.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::limits::{Rate, Turns};

pub use crate::domain::limits::Taken;

/// Keeps the rates.
#[async_trait]
pub trait RateLimiter: Send + Sync {
    /// Takes one request to `provider`, if `rate` allows it within `patience`, of which at most [`Gcra::AHEAD`] counts. One
    /// that is granted for later has its moment, and need not ask again; should it not be used, it is lost. One that is
    /// refused consumes nothing, and says how long it would be until one is granted. It always answers: where the shared
    /// state is away, out of a share of our own.
    ///
    /// [`Gcra::AHEAD`]: crate::domain::limits::Gcra::AHEAD
    async fn take(&self, provider: &str, rate: &Rate, patience: Duration) -> Taken;

    /// Gives a turn to one that was refused and comes back later, behind all that were given before to whoever calls this
    /// provider, so that all of them together come back as fast as `rate` allows, however many they are. `earliest`: from
    /// now until the first turn at the earliest. `None` where the queue would be longer than `longest` from then on. It
    /// always answers, as [`RateLimiter::take`] does.
    async fn turn(&self, provider: &str, rate: &Rate, earliest: Duration, longest: Duration) -> Option<Turn>;
}

/// A turn of one that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Turn {
    /// From now until it begins.
    pub begins_in: Duration,
    /// Until the next one's.
    pub lasts: Duration,
}

impl Turn {
    /// The next of these; `earliest` and `longest` as for [`RateLimiter::turn`].
    pub fn next(
        turns: &mut Turns,
        now: DateTime<Utc>,
        earliest: Duration,
        lasts: Duration,
        longest: Duration,
    ) -> Option<Self> {
        let spans = [earliest, lasts, longest].map(TimeDelta::from_std);
        let [Ok(earliest), Ok(spacing), Ok(longest)] = spans else { return None };
        let begins = turns.next(now.checked_add_signed(earliest)?, spacing, longest)?;
        Some(Self { begins_in: (begins - now).to_std().unwrap_or_default(), lasts })
    }
}
