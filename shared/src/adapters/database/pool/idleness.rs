//! How long the server keeps a session of which it hears nothing. A network may forget a connection without a word to either
//! end, and what its transaction has changed stays locked for everybody until the server ends it.

use std::time::Duration;

/// Servers take no more for it: a year.
const LONGEST: u64 = 31_536_000;

/// How long sessions may be silent, and connections idle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::adapters::database) struct Idleness {
    seconds: u64,
}

impl Idleness {
    /// Whoever has said nothing for twice the time that a statement may take has gone.
    pub(in crate::adapters::database) fn twice(statement_timeout: Duration) -> Self {
        let twice = statement_timeout.saturating_mul(2);
        let seconds = twice.as_secs().saturating_add(u64::from(twice.subsec_nanos() > 0));
        Self { seconds: seconds.clamp(1, LONGEST) }
    }

    /// For `SET`: after so long without a word the server ends a session, and rolls back what it has begun. A statement that it works on
    /// does not count.
    pub(in crate::adapters::database) fn session_setting(self) -> String {
        format!("SESSION wait_timeout = {}", self.seconds)
    }

    /// After so long the pool closes what lies idle, so that the server has nothing to complain of. It looks that often, and
    /// forgets at each look since when the others lie idle: its second look finds them, or its third, before the server does.
    pub(in crate::adapters::database) fn longest_in_pool(self) -> Duration {
        Duration::from_secs(self.seconds) / 4
    }

    /// For how much longer a connection may lie idle than the pool knows.
    pub(super) fn forgotten(self) -> Duration {
        self.longest_in_pool() * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_may_be_silent_for_twice_as_long_as_a_statement_takes_in_whole_seconds() {
        let of = |timeout| Idleness::twice(timeout).session_setting();
        for (timeout, seconds) in [
            (Duration::from_secs(30), 60),
            (Duration::from_millis(1_500), 3),
            (Duration::from_millis(1_501), 4),
            (Duration::from_millis(1), 1),
            (Duration::ZERO, 1),
            (Duration::MAX, LONGEST),
        ] {
            assert_eq!(of(timeout), format!("SESSION wait_timeout = {seconds}"), "{timeout:?}");
        }
    }

    #[test]
    fn whatever_the_pool_lends_unasked_the_server_has_not_ended() {
        for timeout in [Duration::from_millis(1), Duration::from_secs(30)] {
            let idleness = Idleness::twice(timeout);
            let unasked = idleness.longest_in_pool() + idleness.forgotten();
            assert!(unasked < Duration::from_secs(idleness.seconds), "{timeout:?}");
        }
    }
}
