//! Rates within one process, which is then all the workers that there are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use crate::domain::limits::{Gcra, Rate};
use crate::ports::clock::Clock;
use crate::ports::rate_limiter::{RateLimiter, Taken};

/// Keeps rates by a clock of its own.
pub struct InProcessRateLimiter {
    clock: Arc<dyn Clock>,
    limits: Mutex<HashMap<String, Gcra>>,
}

impl InProcessRateLimiter {
    /// Nothing has been taken yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, limits: Mutex::default() }
    }
}

#[async_trait]
impl RateLimiter for InProcessRateLimiter {
    async fn take(&self, provider: &str, rate: &Rate) -> Taken {
        // A time stamp is whole between any two takes, so a panic elsewhere leaves it usable.
        let mut limits = self.limits.lock().unwrap_or_else(PoisonError::into_inner);
        limits.entry(provider.to_owned()).or_default().take(rate, self.clock.now())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{DateTime, TimeDelta};

    use super::*;
    use crate::adapters::embedded::clock::ManualClock;

    #[tokio::test]
    async fn each_provider_has_a_rate_of_its_own_that_follows_the_clock() {
        let clock = Arc::new(ManualClock::new(DateTime::UNIX_EPOCH));
        let limiter = InProcessRateLimiter::new(clock.clone());
        let rate = Rate::new(1, Duration::from_secs(10), 1).unwrap();
        assert_eq!(limiter.take("fynd", &rate).await, Taken::Granted);
        assert_eq!(limiter.take("fynd", &rate).await, Taken::Wait(Duration::from_secs(10)));
        assert_eq!(limiter.take("very", &rate).await, Taken::Granted);
        clock.advance(TimeDelta::seconds(4));
        assert_eq!(limiter.take("fynd", &rate).await, Taken::Wait(Duration::from_secs(6)));
        clock.advance(TimeDelta::seconds(6));
        assert_eq!(limiter.take("fynd", &rate).await, Taken::Granted);
    }
}
