//! Rates within one process, which is then all the workers that there are.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::limits::{Gcra, Rate, Turns};
use crate::ports::clock::Clock;
use crate::ports::rate_limiter::{Queue, RateLimiter, Refused, Taken, Turn};

/// Keeps rates by a clock of its own.
pub struct InProcessRateLimiter {
    clock: Arc<dyn Clock>,
    limits: Mutex<HashMap<String, Limit>>,
}

/// One provider's.
#[derive(Default)]
struct Limit {
    granted: Gcra,
    waiting: Turns,
    put_off: Turns,
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
    async fn take(&self, provider: &str, rate: &Rate) -> Taken {
        let now = self.clock.now();
        let mut limits = self.limits();
        let limit = limits.entry(provider.to_owned()).or_default();
        match Turn::wait_behind(&limit.waiting, now) {
            Some(wait) => Taken::Wait(wait),
            None => limit.granted.take(rate, now),
        }
    }

    async fn take_in_turn(&self, provider: &str, rate: &Rate) -> Taken {
        self.limits().entry(provider.to_owned()).or_default().granted.take(rate, self.clock.now())
    }

    async fn turn(
        &self,
        queue: Queue<'_>,
        rate: &Rate,
        earliest: Duration,
        longest: Duration,
    ) -> Option<Turn> {
        let mut limits = self.limits();
        let limit = limits.entry(queue.provider.to_owned()).or_default();
        let turns = match queue.refused {
            Refused::Waits => &mut limit.waiting,
            Refused::IsPutOff => &mut limit.put_off,
        };
        Turn::next(turns, self.clock.now(), earliest, rate.interval(), longest)
    }
}

#[cfg(test)]
mod tests {
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

    #[tokio::test]
    async fn who_was_refused_has_a_turn_behind_the_others_of_that_queue() {
        let clock = Arc::new(ManualClock::new(DateTime::UNIX_EPOCH));
        let limiter = InProcessRateLimiter::new(clock.clone());
        let rate = Rate::new(1, Duration::from_secs(10), 1).unwrap();
        let turn_of = async |provider: &str, refused| {
            let queue = Queue { provider, refused };
            let turn = limiter.turn(queue, &rate, Duration::from_secs(5), Duration::from_secs(30)).await;
            turn.map(|turn| (turn.begins_in.as_secs(), turn.lasts.as_secs()))
        };
        let turn = async |provider: &str| turn_of(provider, Refused::IsPutOff).await;
        assert_eq!([turn("fynd").await, turn("fynd").await], [Some((5, 10)), Some((15, 10))]);
        assert_eq!(turn_of("fynd", Refused::Waits).await, Some((5, 10)));
        assert_eq!(limiter.take("fynd", &rate).await, Taken::Wait(Duration::from_secs(15)), "somebody waits");
        assert_eq!(limiter.take_in_turn("fynd", &rate).await, Taken::Granted);
        assert_eq!(limiter.take("very", &rate).await, Taken::Granted);
        assert_eq!(turn("very").await, Some((5, 10)));
        assert_eq!([turn("fynd").await, turn("fynd").await], [Some((25, 10)), None]);
        clock.advance(TimeDelta::seconds(12));
        assert_eq!(turn("fynd").await, Some((23, 10)));
    }
}
