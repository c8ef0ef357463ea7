//! The sections that say how providers are spared.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::Deserialize;

use super::ConfigurationError;
use crate::domain::breaker::BreakerPolicy;

/// `[limits]`. The limits themselves are each provider's.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LimitsSection {
    /// The most worker processes that run at once.
    pub workers: NonZeroU32,
}

impl LimitsSection {
    pub(super) fn check(&self) -> Result<(), ConfigurationError> {
        // Beyond it a share would be too slow to count; see `Rate`.
        if self.workers.get() > 1_000 {
            return Err(ConfigurationError::Key("limits.workers: must be between 1 and 1000".into()));
        }
        Ok(())
    }
}

/// `[breaker]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BreakerSection {
    /// The share of failed calls, 0 to 1, at which a provider is left alone.
    pub share: f64,
    /// The fewest calls of which a share is taken.
    pub minimum: u32,
    /// The time over which calls are counted.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// How long it is left alone.
    #[serde(with = "humantime_serde")]
    pub open_for: Duration,
}

impl BreakerSection {
    /// As a checked policy; a provider that asks for longer is left alone up to `longest`.
    ///
    /// # Errors
    /// Names the key that makes no sense.
    pub fn policy(&self, longest: Duration) -> Result<BreakerPolicy, ConfigurationError> {
        BreakerPolicy::new(self.share, self.minimum, self.window, self.open_for, longest)
            .map_err(|error| ConfigurationError::Key(error.to_string()))
    }
}
