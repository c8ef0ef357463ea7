//! How much a provider lets us ask of it: requests in a time, and requests at once. Part of its definition, and of the
//! operator's settings, which win.

mod gcra;
#[cfg(test)]
mod tests;
mod turns;

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Deserializer, de};
use thiserror::Error;

pub use gcra::{Gcra, Taken};
pub use turns::Turns;

/// The limits of one provider, counted over all workers together. What is left out is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests in a time.
    pub rate: Option<Rate>,
    /// Requests at once.
    #[serde(deserialize_with = "more_than_none")]
    pub concurrency: Option<NonZeroU32>,
}

impl Limits {
    /// These, and for each that is not set the one of `otherwise`.
    #[must_use]
    pub fn or(self, otherwise: Self) -> Self {
        Self { rate: self.rate.or(otherwise.rate), concurrency: self.concurrency.or(otherwise.concurrency) }
    }
}

/// So many requests in a time, evenly spaced but for a burst: GCRA. Written
/// `{ requests = 2, per = "1s", burst = 10 }`; without a `burst` it is 1.
///
/// In any stretch of time at most `burst` requests go out, and one more for each `per / requests` of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Rate {
    requests: NonZeroU32,
    per: Duration,
    burst: NonZeroU32,
}

/// As in the file, unchecked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    requests: u32,
    #[serde(with = "humantime_serde")]
    per: Duration,
    #[serde(default = "one")]
    burst: u32,
}

fn one() -> u32 {
    1
}

/// A rate that cannot be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RateError {
    /// Nothing would ever be sent.
    #[error("requests must be more than 0; to have no limit, leave the rate out")]
    NoRequests,
    /// In no time there is no rate.
    #[error("per must be more than 0s, for example 1s")]
    NoTime,
    /// Nothing would ever be sent.
    #[error("burst must be more than 0: it is how many requests may go out at once")]
    NoBurst,
    /// Finer than the clock that it is kept by.
    #[error("requests in per are more than one in a microsecond, which no limit can tell from none")]
    TooFast,
    /// Nobody means that, and the state would have to be kept for so long.
    #[error("burst requests at this rate take more than 31 days: lower burst or per, or raise requests")]
    TooSlow,
}

impl Rate {
    /// The longest time that a burst may take to be saved up: the state is kept for so long. With the most workers that
    /// the configuration takes, a worker's share still fits into the microseconds that a limit counts in.
    const LONGEST: Duration = Duration::from_secs(31 * 24 * 3_600);

    /// `requests` in each `per`, of which `burst` may go out at once after a silence.
    ///
    /// # Errors
    /// If one of them is 0, or together they make a rate that cannot be kept.
    pub fn new(requests: u32, per: Duration, burst: u32) -> Result<Self, RateError> {
        let requests = NonZeroU32::new(requests).ok_or(RateError::NoRequests)?;
        let burst = NonZeroU32::new(burst).ok_or(RateError::NoBurst)?;
        if per.is_zero() {
            return Err(RateError::NoTime);
        }
        if per < Duration::from_micros(1) * requests.get() {
            return Err(RateError::TooFast);
        }
        let rate = Self { requests, per, burst };
        // Before the interval is asked for: it has to fit.
        if per > Self::LONGEST || rate.interval().saturating_mul(burst.get()) > Self::LONGEST {
            return Err(RateError::TooSlow);
        }
        Ok(rate)
    }

    /// How long after one request the next may follow when there is nothing saved up. In whole microseconds, rounded up,
    /// so that the rate is never exceeded.
    pub fn interval(&self) -> Duration {
        let microseconds = self.per.as_nanos().div_ceil(u128::from(self.requests.get()) * 1_000);
        // `per` is a month at most, times a thousand workers.
        Duration::from_micros(u64::try_from(microseconds).unwrap_or(u64::MAX))
    }

    /// How many requests may go out at once after a silence.
    pub fn burst(&self) -> NonZeroU32 {
        self.burst
    }

    /// What one of `workers` may send without asking the others, so that together they stay below the whole. At least
    /// one request at a time, so the bursts may add up to more where there are fewer of them than workers.
    #[must_use]
    pub fn share(&self, workers: NonZeroU32) -> Self {
        Self {
            requests: self.requests,
            per: self.per.saturating_mul(workers.get()),
            burst: share(self.burst, workers),
        }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let per = humantime_serde::re::humantime::format_duration(self.per);
        write!(formatter, "{} requests in {per}, {} at once", self.requests, self.burst)
    }
}

impl TryFrom<Written> for Rate {
    type Error = RateError;

    fn try_from(written: Written) -> Result<Self, Self::Error> {
        Self::new(written.requests, written.per, written.burst)
    }
}

/// A `workers`th of `whole`, rounded down, at least 1.
pub fn share(whole: NonZeroU32, workers: NonZeroU32) -> NonZeroU32 {
    NonZeroU32::new(whole.get() / workers).unwrap_or(NonZeroU32::MIN)
}

fn more_than_none<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroU32>, D::Error> {
    let zero = || de::Error::custom("must be more than 0; to have no limit, leave it out");
    u32::deserialize(deserializer).and_then(|number| NonZeroU32::new(number).map(Some).ok_or_else(zero))
}
