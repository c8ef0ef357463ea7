//! What was done to whom, and when: what a second call is explained by.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use freshet_tests::fleet::now;

use crate::network::Part;

/// A server that was killed, a network that failed, or a process's sleep is felt for a while after: sessions are built anew, and
/// messages come again.
const AFTERMATH: TimeDelta = TimeDelta::seconds(5);

/// Who was hit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Whom {
    /// One worker, by the name under which it calls.
    Worker(String),
    /// One producer, by its name.
    Producer(String),
    /// Whoever uses it.
    Everyone,
}

impl Whom {
    /// The worker's name.
    pub(crate) fn worker(&self) -> Option<&str> {
        match self {
            Self::Worker(name) => Some(name),
            Self::Producer(_) | Self::Everyone => None,
        }
    }
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
    /// SIGSTOP, until SIGCONT.
    ProducerStoodStill,
    BrokerAway,
    DatabaseAway,
    RedisAway,
    /// The network between a process and this failed, or was slow.
    CutOff(Part),
}

impl What {
    /// For the table.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::WorkerKilled => "worker killed",
            Self::WorkerStoodStill => "worker stood still",
            Self::WorkerGaveUp => "worker gave up",
            Self::ProducerStoodStill => "producer stood still",
            Self::BrokerAway => "broker away",
            Self::DatabaseAway => "database away",
            Self::RedisAway => "Redis away",
            Self::CutOff(Part::Database) => "database cut off",
            Self::CutOff(Part::Broker) => "broker cut off",
            Self::CutOff(Part::Cache) => "Redis cut off",
            Self::CutOff(Part::Provider) => "provider cut off",
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
        let until = match what {
            What::WorkerKilled | What::WorkerGaveUp => now(),
            _ => now() + AFTERMATH,
        };
        Self { what, whom, from, until }
    }

    /// Whether it may be why what this worker began at `from` was not at its end by `until`: neither is what happens to
    /// the cache, which nothing waits for, nor to producers.
    pub(crate) fn interrupts(&self, worker: &str, from: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        self.is_about(worker)
            && !matches!(self.what, What::RedisAway | What::CutOff(Part::Cache))
            && self.is_between(from, until)
    }

    /// Whether it may be why an answer to this worker's call was lost, if that was not stored by `until`: with the worker, or on
    /// its way. The broker has no part in it, and a database that is away is waited for.
    pub(crate) fn loses_answers(&self, worker: &str, from: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        let may_lose = matches!(
            self.what,
            What::WorkerKilled | What::WorkerStoodStill | What::WorkerGaveUp | What::CutOff(Part::Provider)
        );
        may_lose && self.is_about(worker) && self.is_between(from, until)
    }

    /// Until when this worker may have had no database to store in what it held between these times.
    pub(crate) fn no_database(
        &self,
        worker: &str,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        self.excuses(worker, from, until).then_some(self.until)
    }

    /// Whether it may be why a worker's message came again that was done: its acknowledgement was lost.
    pub(crate) fn keeps_acknowledgements(
        &self,
        worker: &str,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> bool {
        self.interrupts(worker, from, until) && self.what != What::CutOff(Part::Provider)
    }

    /// Whether it may be why this worker had a repair of the cache planned, for which a message of its own comes.
    pub(crate) fn asks_for_repair(&self, worker: &str, from: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        self.is_about(worker)
            && matches!(self.what, What::RedisAway | What::CutOff(Part::Cache))
            && self.is_between(from, until)
    }

    /// Whether it may be why there are two messages of one connection: a confirmation was lost on its way to the producer, or
    /// a producer went on with a claim that had run out meanwhile.
    pub(crate) fn doubles(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        let may_double = matches!(
            (self.what, &self.whom),
            (What::BrokerAway | What::ProducerStoodStill, _)
                | (What::CutOff(Part::Broker), Whom::Producer(_))
        );
        may_double && self.is_between(from, until)
    }

    /// Whether this process, which was asked to end at `asked`, and had ended at `ended`, may have had no database to store
    /// in what it had begun.
    pub(crate) fn excuses(&self, who: &str, asked: DateTime<Utc>, ended: DateTime<Utc>) -> bool {
        self.is_about(who)
            && matches!(self.what, What::DatabaseAway | What::CutOff(Part::Database))
            && self.is_between(asked, ended)
    }

    fn is_about(&self, who: &str) -> bool {
        match &self.whom {
            Whom::Worker(name) | Whom::Producer(name) => name == who,
            Whom::Everyone => true,
        }
    }

    /// Whether any of it was in this time.
    pub(crate) fn is_between(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        self.from <= until && self.until >= from
    }
}

impl fmt::Display for Event {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let whom = match &self.whom {
            Whom::Worker(name) | Whom::Producer(name) => name,
            Whom::Everyone => "everyone",
        };
        write!(formatter, "{} ({whom}), {} to {}", self.what.as_str(), self.from, self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(second)
    }

    /// From the tenth second to the twelfth.
    fn event(what: What, whom: Whom) -> Event {
        Event { what, whom, from: at(10), until: at(12) }
    }

    fn worker(name: &str) -> Whom {
        Whom::Worker(name.into())
    }

    fn producer(name: &str) -> Whom {
        Whom::Producer(name.into())
    }

    #[test]
    fn only_what_hit_the_caller_between_its_call_and_the_next_explains_that() {
        let killed = event(What::WorkerKilled, worker("a"));
        assert!(killed.interrupts("a", at(9), at(11)));
        assert!(!killed.interrupts("b", at(9), at(11)), "somebody else was killed");
        assert!(!killed.interrupts("a", at(13), at(14)), "it was killed before");
        assert!(!killed.interrupts("a", at(8), at(9)), "it was killed after");
        assert!(event(What::BrokerAway, Whom::Everyone).interrupts("b", at(11), at(20)));
    }

    #[test]
    fn an_answer_is_lost_with_its_caller_or_on_its_way_to_it() {
        let losing =
            [What::WorkerKilled, What::WorkerStoodStill, What::WorkerGaveUp, What::CutOff(Part::Provider)];
        for what in losing {
            let event = event(what, worker("a"));
            assert!(
                event.loses_answers("a", at(9), at(11)) && !event.loses_answers("b", at(9), at(11)),
                "{what:?}"
            );
            assert!(!event.loses_answers("a", at(13), at(14)), "{what:?}");
        }
        for what in [What::BrokerAway, What::DatabaseAway, What::RedisAway] {
            assert!(!event(what, Whom::Everyone).loses_answers("a", at(9), at(11)), "{what:?}");
        }
        for part in [Part::Database, Part::Broker, Part::Cache] {
            assert!(!event(What::CutOff(part), worker("a")).loses_answers("a", at(9), at(11)), "{part:?}");
        }
    }

    #[test]
    fn only_the_network_of_the_caller_explains_and_the_cache_never_does() {
        for part in [Part::Database, Part::Broker, Part::Provider] {
            let cut = event(What::CutOff(part), worker("a"));
            assert!(cut.interrupts("a", at(9), at(11)) && !cut.interrupts("b", at(9), at(11)), "{part:?}");
            let of_producer = event(What::CutOff(part), producer("p"));
            assert!(!of_producer.interrupts("a", at(9), at(11)), "{part:?}");
            assert_eq!(cut.keeps_acknowledgements("a", at(9), at(11)), part != Part::Provider);
        }
        let cut = event(What::CutOff(Part::Cache), worker("a"));
        assert!(!cut.interrupts("a", at(9), at(11)));
        assert!(cut.asks_for_repair("a", at(9), at(11)) && !cut.asks_for_repair("b", at(9), at(11)));
        assert!(!event(What::RedisAway, Whom::Everyone).interrupts("a", at(9), at(11)));
    }

    #[test]
    fn only_the_broker_and_a_producer_double_messages() {
        let doubling = [
            event(What::BrokerAway, Whom::Everyone),
            event(What::ProducerStoodStill, producer("p")),
            event(What::CutOff(Part::Broker), producer("p")),
        ];
        for event in doubling {
            assert!(event.doubles(at(9), at(11)), "{event:?}");
            assert!(!event.doubles(at(13), at(14)) && !event.doubles(at(8), at(9)), "{event:?}");
        }
        let others = [
            event(What::CutOff(Part::Broker), worker("a")),
            event(What::CutOff(Part::Database), producer("p")),
            event(What::WorkerStoodStill, worker("a")),
            event(What::RedisAway, Whom::Everyone),
        ];
        for event in others {
            assert!(!event.doubles(at(9), at(11)), "{event:?}");
        }
    }

    #[test]
    fn only_a_database_that_was_away_meanwhile_excuses_a_bad_end() {
        let away = event(What::DatabaseAway, Whom::Everyone);
        let excuses = |event: &Event, asked, ended| event.excuses("a", at(asked), at(ended));
        assert!(excuses(&away, 11, 11) && excuses(&away, 9, 10) && excuses(&away, 12, 20));
        assert!(!excuses(&away, 13, 20), "it was back before");
        assert!(!excuses(&away, 5, 9), "it went away after");
        assert!(excuses(&event(What::CutOff(Part::Database), worker("a")), 11, 11));
        assert!(!excuses(&event(What::CutOff(Part::Database), worker("b")), 11, 11));
        for other in [What::BrokerAway, What::RedisAway, What::CutOff(Part::Broker)] {
            assert!(!excuses(&event(other, Whom::Everyone), 11, 11), "{other:?}");
        }
    }
}
