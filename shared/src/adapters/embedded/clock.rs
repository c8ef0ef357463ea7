//! A clock that is moved by hand, and randomness from a seed.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::watch;

use crate::ports::clock::Clock;
use crate::ports::randomness::Randomness;

/// Time stands still until it is advanced.
#[derive(Debug)]
pub struct ManualClock(watch::Sender<DateTime<Utc>>);

impl ManualClock {
    /// A clock that shows `now`.
    pub fn new(now: DateTime<Utc>) -> Self {
        Self(watch::Sender::new(now))
    }

    /// Moves time on and wakes the sleepers whose time has come.
    pub fn advance(&self, by: TimeDelta) {
        self.0.send_modify(|now| *now += by);
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.borrow()
    }

    async fn sleep(&self, duration: Duration) {
        let mut time = self.0.subscribe();
        let until = *time.borrow() + TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
        // The sender lives as long as `self`, which this borrows.
        let _ = time.wait_for(|now| *now >= until).await;
    }
}

/// Numbers that are the same for the same seed.
#[derive(Debug)]
pub struct SeededRandomness(Mutex<StdRng>);

impl SeededRandomness {
    /// Starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Randomness for SeededRandomness {
    fn next(&self) -> u64 {
        // A generator is whole between any two draws, so a panic elsewhere leaves it usable.
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).random()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleeper_wakes_when_its_time_has_come() {
        let clock = std::sync::Arc::new(ManualClock::new(DateTime::UNIX_EPOCH));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep(Duration::from_secs(60)).await }
        });
        tokio::task::yield_now().await;
        clock.advance(TimeDelta::seconds(59));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance(TimeDelta::seconds(1));
        sleeper.await.unwrap();
    }

    #[test]
    fn the_same_seed_draws_the_same() {
        let (one, other) = (SeededRandomness::new(7), SeededRandomness::new(7));
        assert_eq!([one.next(), one.next()], [other.next(), other.next()]);
    }
}
