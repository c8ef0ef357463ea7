//! Connections that lay idle while another one fell silent may be as dead, and each would cost a statement its whole time.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use sqlx::Connection;
use sqlx::mysql::MySqlConnection;
use tokio::time::{Instant, timeout};

/// How long a connection that is doubted may take to say that it is well.
const LONGEST_PING: Duration = Duration::from_secs(1);

/// When a statement remained without an answer last.
#[derive(Default)]
pub(in crate::adapters::database) struct Silence(Mutex<Option<Instant>>);

impl Silence {
    pub(super) fn note(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Whether a connection that was idle for so long was so already when another one fell silent.
    fn casts_doubt(&self, idle_for: Duration) -> bool {
        let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() <= idle_for)
    }

    /// Whether a connection that was idle for so long may be used: one that is doubted is asked.
    pub(in crate::adapters::database) async fn is_well(
        &self,
        connection: &mut MySqlConnection,
        idle_for: Duration,
    ) -> bool {
        !self.casts_doubt(idle_for) || matches!(timeout(LONGEST_PING, connection.ping()).await, Ok(Ok(())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_was_idle_when_another_fell_silent_is_doubted_and_who_came_back_since_is_not() {
        let silence = Silence::default();
        assert!(!silence.casts_doubt(Duration::MAX));
        silence.note();
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(silence.casts_doubt(Duration::from_secs(11)));
        assert!(!silence.casts_doubt(Duration::from_secs(9)));
        silence.note();
        assert!(silence.casts_doubt(Duration::from_secs(9)));
    }
}
