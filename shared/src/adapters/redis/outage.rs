//! Whether Redis is worth asking. While it is away, one caller at a time finds out whether it is back; all others would
//! only wait for the same time-out.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How long after a failure nobody asks.
pub(super) const PAUSE: Duration = Duration::from_secs(1);

/// What is known of Redis.
pub(super) struct Outage {
    /// The longest that one question can take.
    patience: Duration,
    /// `None`: it answers. Else it is asked again at this time.
    ask_at: Mutex<Option<Instant>>,
}

impl Outage {
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, ask_at: Mutex::new(None) }
    }

    /// Whether the caller is to ask. During an outage that is one caller, and the next one only after that one came back
    /// or was given up.
    pub(super) fn may_ask(&self, now: Instant) -> bool {
        match &mut *self.ask_at() {
            None => true,
            Some(at) if now < *at => false,
            Some(at) => {
                *at = now + self.patience + PAUSE;
                true
            }
        }
    }

    /// Whether it is away, as far as is known.
    pub(super) fn is_on(&self) -> bool {
        self.ask_at().is_some()
    }

    /// It did not answer. `true` if that is news.
    pub(super) fn failed(&self, now: Instant) -> bool {
        self.ask_at().replace(now + PAUSE).is_none()
    }

    /// It answered. `true` if that is news.
    pub(super) fn answered(&self) -> bool {
        self.ask_at().take().is_some()
    }

    fn ask_at(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.ask_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_at_a_time_finds_out_and_news_is_told_once() {
        let (patience, start) = (Duration::from_secs(2), Instant::now());
        let outage = Outage::new(patience);
        assert!(outage.may_ask(start) && outage.may_ask(start), "while it answers everybody asks");
        assert!(!outage.answered(), "that it answers is no news");
        assert!(!outage.is_on());
        assert!(outage.failed(start));
        assert!(outage.is_on());
        assert!(!outage.failed(start), "another one that was under way");
        assert!(!outage.may_ask(start + PAUSE / 2));
        let again = start + PAUSE;
        assert!(outage.may_ask(again));
        assert!(!outage.may_ask(again), "one is asking");
        assert!(!outage.may_ask(again + patience));
        assert!(outage.may_ask(again + patience + PAUSE), "whoever asked was cut off");
        assert!(!outage.failed(again + patience), "still the same outage");
        assert!(outage.answered());
        assert!(!outage.is_on());
        assert!(outage.may_ask(again) && outage.may_ask(again));
        assert!(outage.failed(again), "a new one");
    }
}
