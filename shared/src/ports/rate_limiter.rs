//! The rate of requests to a provider, shared by everyone who calls it.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use crate::domain::limits::{Rate, Turns};

pub use crate::domain::limits::Taken;

/// Keeps the rates.
#[async_trait]
pub trait RateLimiter: Send + Sync {
    /// Takes one request to `provider`, if `rate` allows it now. One that is refused consumes nothing, and says how long
    /// it would be until one is granted. It always answers: where the shared state is away, out of a share of our own.
    ///
    /// One that comes while others wait ([`Refused::Waits`]) is refused: it would take what the first of them waited for.
    async fn take(&self, provider: &str, rate: &Rate) -> Taken;

    /// Takes one request for one that waited, and whose turn it is.
    async fn take_in_turn(&self, provider: &str, rate: &Rate) -> Taken;

    /// Gives a turn to one that was refused, behind all that were given before in this queue to whoever calls this provider,
    /// so that all of them together ask again as fast as `rate` allows, however many they are. `earliest`: from now until
    /// the first turn at the earliest. `None` where the queue would be longer than `longest` from then on. It always answers,
    /// as [`RateLimiter::take`] does.
    async fn turn(
        &self,
        queue: Queue<'_>,
        rate: &Rate,
        earliest: Duration,
        longest: Duration,
    ) -> Option<Turn>;
}

/// Those that were refused by a provider's rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Queue<'a> {
    /// The provider.
    pub provider: &'a str,
    /// Which of them.
    pub refused: Refused,
}

/// What becomes of one that was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refused {
    /// It waits.
    Waits,
    /// It is put off, and comes back by a message of its own.
    IsPutOff,
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

    /// How long it is until all turns have passed that were given; `None` if they have.
    pub fn wait_behind(turns: &Turns, now: DateTime<Utc>) -> Option<Duration> {
        (turns.end()? - now).to_std().ok().filter(|wait| !wait.is_zero())
    }
}
