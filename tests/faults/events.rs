//! What was done to whom, and when: what a second call is explained by.

use chrono::{DateTime, TimeDelta, Utc};
use freshet_tests::fleet::now;

/// A server that was killed, a network that failed, or a worker's sleep is felt for a while after: sessions are built anew, and
/// messages come again.
const AFTERMATH: TimeDelta = TimeDelta::seconds(5);

/// Who was hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whom {
    /// One worker, by the name under which it calls.
    Worker(String),
    /// Whoever uses it.
    Everyone,
}

/// What was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum What {
    /// SIGKILL.
    WorkerKilled,
    /// SIGSTOP, until SIGCONT.
    WorkerStoodStill,
    /// It ended by itself.
    WorkerGaveUp,
    BrokerAway,
    DatabaseAway,
    RedisAway,
    NetworkFailing,
}

impl What {
    /// For the table.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::WorkerKilled => "worker killed",
            Self::WorkerStoodStill => "worker stood still",
            Self::WorkerGaveUp => "worker gave up",
            Self::BrokerAway => "broker away",
            Self::DatabaseAway => "database away",
            Self::RedisAway => "Redis away",
            Self::NetworkFailing => "network failing",
        }
    }
}

/// Something that was done.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) what: What,
    pub(crate) whom: Whom,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
}

impl Event {
    /// It began at `from`, and is over.
    pub(crate) fn since(from: DateTime<Utc>, what: What, whom: Whom) -> Self {
        let until = match (what, &whom) {
            (What::WorkerStoodStill, _) | (_, Whom::Everyone) => now() + AFTERMATH,
            (_, Whom::Worker(_)) => now(),
        };
        Self { what, whom, from, until }
    }

    /// Whether it came between a call of this worker and the next call for the same connection.
    pub(crate) fn explains(&self, caller: &str, call: DateTime<Utc>, next: DateTime<Utc>) -> bool {
        let is_meant = match &self.whom {
            Whom::Worker(name) => name == caller,
            Whom::Everyone => true,
        };
        is_meant && self.from <= next && self.until >= call
    }

    /// Whether a process that was asked to end at `asked`, and had ended at `ended`, may have had no database to store in
    /// what it had begun.
    pub(crate) fn excuses(&self, asked: DateTime<Utc>, ended: DateTime<Utc>) -> bool {
        matches!(self.what, What::DatabaseAway | What::NetworkFailing)
            && self.from <= ended
            && self.until >= asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_hit_the_caller_between_its_call_and_the_next_explains_that() {
        let at = |second| DateTime::UNIX_EPOCH + TimeDelta::seconds(second);
        let event = |whom| Event { what: What::WorkerKilled, whom, from: at(10), until: at(12) };
        let killed = event(Whom::Worker("a".into()));
        assert!(killed.explains("a", at(9), at(11)));
        assert!(!killed.explains("b", at(9), at(11)), "somebody else was killed");
        assert!(!killed.explains("a", at(13), at(14)), "it was killed before");
        assert!(!killed.explains("a", at(8), at(9)), "it was killed after");
        assert!(event(Whom::Everyone).explains("b", at(11), at(20)));
    }

    #[test]
    fn only_a_database_that_was_away_meanwhile_excuses_a_bad_end() {
        let at = |second| DateTime::UNIX_EPOCH + TimeDelta::seconds(second);
        let event = |what| Event { what, whom: Whom::Everyone, from: at(10), until: at(12) };
        let away = event(What::DatabaseAway);
        assert!(away.excuses(at(11), at(11)) && away.excuses(at(9), at(10)) && away.excuses(at(12), at(20)));
        assert!(!away.excuses(at(13), at(20)), "it was back before");
        assert!(!away.excuses(at(5), at(9)), "it went away after");
        assert!(event(What::NetworkFailing).excuses(at(11), at(11)));
        for other in [What::BrokerAway, What::RedisAway, What::WorkerKilled] {
            assert!(!event(other).excuses(at(11), at(11)), "{other:?}");
        }
    }
}
