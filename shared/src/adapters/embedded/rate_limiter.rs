//! Rates within one process, which is then all the workers that there are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::limits::{Gcra, Rate, Turns};
use crate::ports::clock::Clock;
use crate::ports::rate_limiter::{RateLimiter, Taken, Turn};

/// Keeps rates by a clock of its own.
pub struct InProcessRateLimiter {
    clock: Arc<dyn Clock>,
    limits: Mutex<HashMap<String, Limit>>,
}

/// One provider's.
#[derive(Default)]
struct Limit {
    granted: Gcra,
    turns: Turns,
}

impl InProcessRateLimiter {
    /// Nothing has been taken yet.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, limits: Mutex::default() }
    }

    /// Time stamps are whole between any two calls, so a panic elsewhere leaves them usable.
    fn limits(&self) -> MutexGuard<'_, HashMap<String, Limit>> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl RateLimiter for InProcessRateLimiter {
    async fn take(&self, provider: &str, rate: &Rate, patience: Duration) -> Taken {
        let now = self.clock.now();
        self.limits().entry(provider.to_owned()).or_default().granted.take(rate, now, patience)
    }

    async fn turn(&self, provider: &str, rate: &Rate, earliest: Duration, longest: Duration) -> Option<Turn> {
        let (now, lasts) = (self.clock.now(), rate.interval());
        let mut limits = self.limits();
        let turns = &mut limits.entry(provider.to_owned()).or_default().turns;
        Turn::next(turns, now, earliest, lasts, longest)
    }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, TimeDelta};

    use super::*;
    use crate::adapters::embedded::clock::ManualClock;

    const NOW: Duration = Duration::ZERO;

    fn seconds(number: u64) -> Duration {
        Duration::from_secs(number)
    }

    #[tokio::test]
    async fn each_provider_has_a_rate_of_its_own_that_follows_the_clock() {
        let clock = Arc::new(ManualClock::new(DateTime::UNIX_EPOCH));
        let limiter = InProcessRateLimiter::new(clock.clone());
        let rate = Rate::new(1, seconds(10), 1).unwrap();
        assert_eq!(limiter.take("fynd", &rate, NOW).await, Taken::Granted(NOW));
        assert_eq!(limiter.take("fynd", &rate, seconds(60)).await, Taken::Refused(seconds(10)));
        assert_eq!(limiter.take("very", &rate, NOW).await, Taken::Granted(NOW));
        clock.advance(TimeDelta::seconds(9));
        assert_eq!(limiter.take("fynd", &rate, NOW).await, Taken::Refused(seconds(1)));
        assert_eq!(limiter.take("fynd", &rate, seconds(1)).await, Taken::Granted(seconds(1)));
        assert_eq!(limiter.take("fynd", &rate, seconds(1)).await, Taken::Refused(seconds(11)), "it has gone");
        clock.advance(TimeDelta::seconds(11));
        assert_eq!(limiter.take("fynd", &rate, NOW).await, Taken::Granted(NOW));
    }

    #[tokio::test]
    async fn who_was_refused_has_a_turn_behind_the_others_of_its_provider() {
        let clock = Arc::new(ManualClock::new(DateTime::UNIX_EPOCH));
        let limiter = InProcessRateLimiter::new(clock.clone());
        let rate = Rate::new(1, seconds(10), 1).unwrap();
        let turn = async |provider: &str| {
            let turn = limiter.turn(provider, &rate, seconds(5), seconds(30)).await;
            turn.map(|turn| (turn.begins_in.as_secs(), turn.lasts.as_secs()))
        };
        assert_eq!([turn("fynd").await, turn("fynd").await], [Some((5, 10)), Some((15, 10))]);
        assert_eq!(limiter.take("fynd", &rate, NOW).await, Taken::Granted(NOW), "whoever comes first");
        assert_eq!(turn("very").await, Some((5, 10)));
        assert_eq!([turn("fynd").await, turn("fynd").await], [Some((25, 10)), None]);
        clock.advance(TimeDelta::seconds(12));
        assert_eq!(turn("fynd").await, Some((23, 10)));
    }
}
