//! Whether anything comes over a connection. fred asks that too, but counts from the last command that it sent: a connection
//! that is used all the time is never silent to it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// A connection that has been silent for so long after a command is given up.
pub(super) const UNRESPONSIVE_AFTER: Duration = Duration::from_secs(4);

/// A connection of which nothing was asked for so long was not used all the time.
const PAUSE: Duration = UNRESPONSIVE_AFTER;

/// What is known of one connection.
#[derive(Default)]
pub(super) struct Silence(Mutex<State>);

#[derive(Default)]
struct State {
    /// When something came over it last, or it was made.
    heard_at: Option<Instant>,
    /// Since when it owes an answer that was waited for in vain.
    since: Option<Instant>,
    /// When one was last waited for in vain.
    failed_at: Option<Instant>,
    /// Another one is being made.
    is_given_up: bool,
}

impl Silence {
    /// Something came, or it is another connection.
    pub(super) fn broken(&self, now: Instant) {
        *self.state() = State { heard_at: Some(now), ..State::default() };
    }

    /// The answer to a command of that time did not come. `true` where the connection is to be given up; once.
    pub(super) fn lasts(&self, asked_at: Instant, now: Instant) -> bool {
        let mut state = self.state();
        // With a pause between, in which nothing was asked, one says nothing of the other; fred looks at pauses.
        if state.failed_at.is_some_and(|failed_at| asked_at.saturating_duration_since(failed_at) > PAUSE) {
            state.since = None;
        }
        state.failed_at = Some(now);
        let heard_at = state.heard_at.unwrap_or(asked_at);
        let since = *state.since.get_or_insert(asked_at.max(heard_at));
        let is_over = !state.is_given_up && now - since >= UNRESPONSIVE_AFTER;
        state.is_given_up |= is_over;
        is_over
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection, and its times in seconds.
    fn silence() -> (Silence, impl Fn(u64) -> Instant) {
        let begun = Instant::now();
        (Silence::default(), move |second| begun + Duration::from_secs(second))
    }

    #[test]
    fn a_connection_that_owes_answers_for_long_is_given_up_once_however_much_is_asked() {
        let (silence, at) = silence();
        let given_up: Vec<bool> = (0..8).map(|second| silence.lasts(at(second), at(second + 1))).collect();
        assert_eq!(given_up, [false, false, false, true, false, false, false, false]);
        silence.broken(at(9));
        let given_up: Vec<bool> = (9..13).map(|second| silence.lasts(at(second), at(second + 1))).collect();
        assert_eq!(given_up, [false, false, false, true]);
    }

    #[test]
    fn two_answers_that_did_not_come_with_a_pause_between_are_no_silence() {
        let (silence, at) = silence();
        assert!(!silence.lasts(at(0), at(1)));
        assert!(!silence.lasts(at(6), at(7)));
        assert!(!silence.lasts(at(8), at(9)));
        assert!(silence.lasts(at(9), at(10)), "4 s since it was asked after the pause");
    }

    #[test]
    fn one_that_answers_now_and_then_is_not_silent() {
        let (silence, at) = silence();
        for second in 0..20 {
            assert!(!silence.lasts(at(second), at(second + 1)), "{second}");
            if second % 3 == 2 {
                silence.broken(at(second + 1));
            }
        }
        // What was asked before it was heard says nothing of the time after.
        silence.broken(at(30));
        assert!(!silence.lasts(at(29), at(33)) && silence.lasts(at(29), at(34)));
    }
}
