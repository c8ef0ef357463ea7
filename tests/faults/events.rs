//! What was done to whom, and when: what a second call is explained by.

use chrono::{DateTime, TimeDelta, Utc};
use freshet_tests::fleet::now;

/// A server that was killed, or a network that failed, is felt for a while after: sessions are built anew, and messages come
/// again.
const AFTERMATH: TimeDelta = TimeDelta::seconds(5);

/// Who was hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whom {
    /// One worker, by the name under which it calls.
    Worker(String),
    /// Whoever uses it.
    Everyone,
}

/// Something that was done.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// For the table.
    pub(crate) what: &'static str,
    pub(crate) whom: Whom,
    from: DateTime<Utc>,
    until: DateTime<Utc>,
}

impl Event {
    /// It began at `from`, and is over.
    pub(crate) fn since(from: DateTime<Utc>, what: &'static str, whom: Whom) -> Self {
        let until = match whom {
            Whom::Worker(_) => now(),
            Whom::Everyone => now() + AFTERMATH,
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_hit_the_caller_between_its_call_and_the_next_explains_that() {
        let at = |second| DateTime::UNIX_EPOCH + TimeDelta::seconds(second);
        let event = |whom| Event { what: "", whom, from: at(10), until: at(12) };
        let killed = event(Whom::Worker("a".into()));
        assert!(killed.explains("a", at(9), at(11)));
        assert!(!killed.explains("b", at(9), at(11)), "somebody else was killed");
        assert!(!killed.explains("a", at(13), at(14)), "it was killed before");
        assert!(!killed.explains("a", at(8), at(9)), "it was killed after");
        assert!(event(Whom::Everyone).explains("b", at(11), at(20)));
    }
}
