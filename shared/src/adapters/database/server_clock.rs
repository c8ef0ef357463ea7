//! The server's clock, as it was heard of last.
//!
//! A statement that is given up is not taken back: a server that stood still does, when it goes on, whatever it finds on its
//! connections, and a network that comes back may bring it a minute later. Most statements meet their own preconditions then, and
//! do nothing. One that must not be done late says how long it is meant, by the clock of whoever does it.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

/// What the server said, and when it was asked.
#[derive(Default)]
pub(super) struct ServerClock(Mutex<Option<(DateTime<Utc>, Instant)>>);

impl ServerClock {
    /// It was asked at this moment, and said so some time after.
    pub(super) fn note(&self, said: DateTime<Utc>, asked_at: Instant) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((said, asked_at));
    }

    /// What it shows so much later than now; rather too late than too early, by the time that the server took to say. `None`:
    /// it was never asked.
    pub(super) fn later(&self, by: Duration) -> Option<DateTime<Utc>> {
        let (said, asked_at) = (*self.0.lock().unwrap_or_else(PoisonError::into_inner))?;
        let since = TimeDelta::from_std(asked_at.elapsed().checked_add(by)?).ok()?;
        said.checked_add_signed(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_from_when_it_was_asked() {
        let (clock, minute) = (ServerClock::default(), Duration::from_secs(60));
        assert_eq!(clock.later(minute), None);
        let said = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        clock.note(said, Instant::now());
        tokio::time::advance(minute).await;
        assert_eq!(clock.later(minute), Some(said + TimeDelta::minutes(2)));
        assert_eq!(clock.later(Duration::MAX), None);
    }
}
