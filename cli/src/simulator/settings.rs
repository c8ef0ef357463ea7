//! How the simulated marketplaces behave.

use std::{io, sync::Arc, time::Duration};

use chrono::{DateTime, Utc};

use super::credentials::Credentials;

/// Where the time in tokens comes from.
pub type Clock = Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>;

/// How the simulated marketplaces behave. No `Debug`: the credentials are secrets.
#[derive(Clone)]
pub struct Settings {
    /// How long a token lives. Fynd's answer does not tell; KornitX tells it in whole seconds and in the JWT.
    pub token_lifetime: Duration,
    /// How long an answer takes, at every endpoint.
    pub latency: Latency,
    /// The share of token requests answered with 429, in 0..=1.
    pub rate_limited_share: f64,
    /// The share of token requests answered with 500, in 0..=1; both shares together are at most 1.
    pub server_error_share: f64,
    /// The `Retry-After` of a 429, sent in seconds, rounded up; none: the header is left out.
    pub retry_after: Option<Duration>,
    /// Whether the ledger keeps every request, secrets included. It grows without bound.
    pub record: bool,
    /// Which credentials are accepted.
    pub credentials: Credentials,
    /// Where the time in tokens comes from.
    pub clock: Clock,
    /// What the draws of faults and latencies, and the tokens, follow from.
    pub seed: u64,
}

/// The time an answer takes, uniform between the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Latency {
    /// The least.
    pub min: Duration,
    /// The most.
    pub max: Duration,
}

impl Latency {
    /// Answers at once.
    pub const NONE: Self = Self { min: Duration::ZERO, max: Duration::ZERO };
}

impl Settings {
    /// Marketplaces on a good day: tokens for an hour to anyone who asks, at once, no faults, nothing recorded.
    pub fn well_behaved(clock: Clock) -> Self {
        Self {
            token_lifetime: Duration::from_hours(1),
            latency: Latency::NONE,
            rate_limited_share: 0.0,
            server_error_share: 0.0,
            retry_after: None,
            record: false,
            credentials: Credentials::Any,
            clock,
            seed: 0,
        }
    }

    pub(super) fn validate(&self) -> io::Result<()> {
        let invalid = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        let shares = [self.rate_limited_share, self.server_error_share];
        // Also false for NaN.
        if !shares.iter().all(|share| (0.0..=1.0).contains(share)) {
            return invalid("rate_limited_share and server_error_share must be in 0..=1");
        }
        // A hair of tolerance, so that shares like 0.9 and 0.1 add up.
        if shares.iter().sum::<f64>() > 1.0 + 1e-9 {
            return invalid("rate_limited_share and server_error_share add up to more than 1");
        }
        if self.latency.max < self.latency.min {
            return invalid("latency.max is less than latency.min");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::tests::settings;

    #[test]
    fn contradictions_are_found() {
        let second = Duration::from_secs(1);
        for (settings, valid) in [
            (settings(), true),
            (Settings { rate_limited_share: 0.9, server_error_share: 0.1, ..settings() }, true),
            (Settings { rate_limited_share: 0.9, server_error_share: 0.2, ..settings() }, false),
            (Settings { rate_limited_share: -0.1, ..settings() }, false),
            (Settings { server_error_share: f64::NAN, ..settings() }, false),
            (Settings { latency: Latency { min: second, max: Duration::ZERO }, ..settings() }, false),
        ] {
            assert_eq!(settings.validate().is_ok(), valid);
        }
    }
}
