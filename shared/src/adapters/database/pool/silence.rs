//! Connections that lay idle while another one fell silent may be as dead, and each would cost a statement its whole time. So may
//! those be that lay idle for long: the server ends their sessions.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::Connection;
use sqlx::mysql::MySqlConnection;
use tokio::time::{Instant, timeout};

use super::idleness::Idleness;

/// How long a connection that is doubted may take to say that it is well.
const LONGEST_PING: Duration = Duration::from_secs(1);

/// When a statement remained without an answer last, and how long sessions may be silent.
#[derive(Default)]
pub(in crate::adapters::database) struct Silence {
    last: Mutex<Option<Instant>>,
    /// `None`: for as long as the server likes.
    idleness: Option<Idleness>,
}

impl Silence {
    pub(in crate::adapters::database) fn of_sessions(idleness: Option<Idleness>) -> Self {
        Self { idleness, ..Self::default() }
    }

    pub(super) fn note(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a connection of that age that was idle for so long, as the pool knows, may have been so already when another one fell
    /// silent, or for so long that the server has ended its session.
    fn casts_doubt(&self, age: Duration, idle_for: Duration) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let forgotten = self.idleness.map_or(Duration::ZERO, Idleness::forgotten);
        let was_idle_then = last.is_some_and(|last| {
            let since = last.elapsed();
            since <= age && since <= idle_for.saturating_add(forgotten)
        });
        was_idle_then || self.idleness.is_some_and(|idleness| idle_for >= idleness.longest_in_pool())
    }

    /// Whether a connection of that age that was idle for so long may be used: one that is doubted is asked.
    pub(in crate::adapters::database) async fn is_well(
        &self,
        connection: &mut MySqlConnection,
        age: Duration,
        idle_for: Duration,
    ) -> bool {
        !self.casts_doubt(age, idle_for)
            || matches!(timeout(LONGEST_PING, connection.ping()).await, Ok(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_was_idle_when_another_fell_silent_is_doubted_and_who_came_back_since_is_not() {
        let silence = Silence::default();
        assert!(!silence.casts_doubt(Duration::MAX, Duration::MAX));
        silence.note();
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(silence.casts_doubt(Duration::MAX, Duration::from_secs(11)));
        assert!(!silence.casts_doubt(Duration::MAX, Duration::from_secs(9)));
        silence.note();
        assert!(silence.casts_doubt(Duration::MAX, Duration::from_secs(9)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_idle_for_as_long_as_the_pool_allows_is_doubted_and_so_is_whom_it_may_have_looked_at() {
        let silence = Silence::of_sessions(Some(Idleness::twice(Duration::from_secs(30))));
        assert!(silence.casts_doubt(Duration::MAX, Duration::from_secs(15)));
        assert!(!silence.casts_doubt(Duration::MAX, Duration::from_secs(14)));
        silence.note();
        tokio::time::advance(Duration::from_secs(30)).await;
        assert!(
            silence.casts_doubt(Duration::MAX, Duration::ZERO),
            "the pool may have looked at it twice since"
        );
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(silence.casts_doubt(Duration::MAX, Duration::from_secs(2)));
        assert!(!silence.casts_doubt(Duration::MAX, Duration::from_secs(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_opened_since_another_fell_silent_is_not_doubted() {
        let silence = Silence::of_sessions(Some(Idleness::twice(Duration::from_secs(30))));
        silence.note();
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(silence.casts_doubt(Duration::from_secs(10), Duration::ZERO));
        assert!(!silence.casts_doubt(Duration::from_secs(9), Duration::ZERO));
        assert!(
            silence.casts_doubt(Duration::from_secs(9), Duration::from_secs(15)),
            "it has lain idle for long"
        );
    }
}
