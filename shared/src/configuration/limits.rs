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
    /// The most producer processes that run at once.
    pub producers: NonZeroU32,
    /// The most connections that MySQL has for all of them together; `None` where nobody counted.
    #[serde(default)]
    pub database_connections: Option<u32>,
}

impl LimitsSection {
    /// The most connections that all processes together open to MySQL, with `each` in every one of them.
    pub fn database_connections_at_most(&self, each: u32) -> u64 {
        (u64::from(self.workers.get()) + u64::from(self.producers.get())) * u64::from(each)
    }

    pub(super) fn check(&self, connections_each: u32) -> Result<(), ConfigurationError> {
        // Beyond it a share would be too slow to count; see `Rate`.
        for (key, number) in [("workers", self.workers), ("producers", self.producers)] {
            if number.get() > 1_000 {
                return Err(ConfigurationError::Key(format!("limits.{key}: must be between 1 and 1000")));
            }
        }
        let Some(given) = self.database_connections else { return Ok(()) };
        let needed = self.database_connections_at_most(connections_each);
        if needed > u64::from(given) {
            let (workers, producers) = (self.workers, self.producers);
            return Err(ConfigurationError::Key(format!(
                "limits.database_connections: {given} are too few: limits.workers ({workers}) and limits.producers \
                 ({producers}) processes open up to database.max_connections ({connections_each}) each, {needed} in all; \
                 allow fewer processes, fewer connections each, or give MySQL more"
            )));
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
