//! How often a provider may be called.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;

/// What a provider allows, each part where it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Requests over time, of all workers together.
    pub rate: Option<Rate>,
    /// Requests at once, of all workers together.
    pub concurrency: Option<NonZeroU32>,
}

impl Limits {
    /// These, and for each that is not set the one of `otherwise`.
    #[must_use]
    pub fn or(self, otherwise: Self) -> Self {
        Self { rate: self.rate.or(otherwise.rate), concurrency: self.concurrency.or(otherwise.concurrency) }
    }
}

/// A rate of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// So many requests …
    pub requests: NonZeroU32,
    /// … in so long a time.
    #[serde(with = "humantime_serde")]
    pub per: Duration,
    /// How many of them may come at once.
    #[serde(default = "one")]
    pub burst: NonZeroU32,
}

fn one() -> NonZeroU32 {
    NonZeroU32::MIN
}
