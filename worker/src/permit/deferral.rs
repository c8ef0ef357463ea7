//! A job that is put off.

use std::fmt;

use chrono::{DateTime, Utc};

/// A job that has to wait longer than a slot may be held for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deferral {
    /// When it comes back. Different for each job, so that those deferred together do not come back together.
    pub until: DateTime<Utc>,
    /// What it waits for.
    pub reason: DeferralReason,
}

/// What a deferred job waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DeferralReason {
    /// The provider's rate of requests.
    RateLimited,
    /// One of the provider's slots.
    Concurrency,
    /// The provider, which does not serve.
    BreakerOpen,
}

impl DeferralReason {
    /// Every reason, for labels.
    pub const ALL: [Self; 3] = [Self::RateLimited, Self::Concurrency, Self::BreakerOpen];

    /// For logs and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RateLimited => "rate_limited",
            Self::Concurrency => "concurrency",
            Self::BreakerOpen => "breaker_open",
        }
    }
}

impl fmt::Display for DeferralReason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
