//! What was done to whom, and when: what a second call is explained by.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use freshet_tests::fleet::now;

use crate::network::Part;
use crate::proxy::Mode;
use crate::stage::LONGEST_SILENCE;

/// A server that was killed, a network that failed, or a process's sleep is felt for a while after: sessions are built anew, and
/// messages come again.
const AFTERMATH: TimeDelta = TimeDelta::seconds(5);

/// A process that starts waits for so long for its database, and not for longer because it stands still meanwhile.
const START_PATIENCE: TimeDelta = TimeDelta::seconds(60);

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
    /// SIGSTOP, until SIGCONT.
    ProducerStoodStill,
    BrokerAway,
    DatabaseAway,
    RedisAway,
    /// The network between a process and this failed.
    CutOff(Part),
    /// The network between a process and this was slow. All arrived in time: nothing is lost by it.
    Slow(Part),
    /// The network forgot a process's connections to the database without a word to that: what their transactions had changed
    /// stays locked until it ends those sessions.
    SessionForgotten,
}

impl What {
    /// What a network does to a process by being in this mode. A provider that takes `latency` for its answers is as good as
    /// cut off once they arrive after its callers' `patience`.
    pub(crate) fn of_network(part: Part, mode: Mode, latency: Duration, patience: Duration) -> Self {
        match mode {
            Mode::Slow(delay) if part != Part::Provider || delay * 2 + latency < patience => Self::Slow(part),
            _ => Self::CutOff(part),
        }
    }

    /// For the table.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::WorkerKilled => "worker killed",
            Self::WorkerStoodStill => "worker stood still",
            Self::ProducerStoodStill => "producer stood still",
            Self::BrokerAway => "broker away",
            Self::DatabaseAway => "database away",
            Self::RedisAway => "Redis away",
            Self::CutOff(Part::Database) => "database cut off",
            Self::CutOff(Part::Broker) => "broker cut off",
            Self::CutOff(Part::Cache) => "Redis cut off",
            Self::CutOff(Part::Provider) => "provider cut off",
            Self::Slow(Part::Database) => "database slow",
            Self::Slow(Part::Broker) => "broker slow",
            Self::Slow(Part::Cache) => "Redis slow",
            Self::Slow(Part::Provider) => "provider slow",
            Self::SessionForgotten => "database session forgotten",
        }
    }

    /// The same of a request that the provider never saw.
    pub(crate) fn before_arrival(self) -> &'static str {
        match self {
            Self::WorkerKilled => "never arrived: worker killed",
            Self::WorkerStoodStill => "never arrived: worker stood still",
            Self::CutOff(Part::Provider) => "never arrived: provider cut off",
            _ => "never arrived",
        }
    }
}

/// Something that was done.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) what: What,
    pub(crate) whom: Whom,
    pub(crate) from: DateTime<Utc>,
    pub(crate) until: DateTime<Utc>,
}

impl Event {
    /// It began at `from`, and is over.
    pub(crate) fn since(from: DateTime<Utc>, what: What, whom: Whom) -> Self {
        let until = match what {
            What::WorkerKilled => now(),
            _ => now() + AFTERMATH,
        };
        Self { what, whom, from, until }
    }

    /// The network to the database was gone for good from then on: the rows that this process had in its hands are locked for
    /// `longest_silence`, after which the database ends its sessions, and for what follows.
    pub(crate) fn of_sessions(from: DateTime<Utc>, longest_silence: TimeDelta, whom: Whom) -> Self {
        Self { what: What::SessionForgotten, whom, from, until: from + longest_silence + AFTERMATH }
    }

    /// The same, felt for so much longer.
    pub(crate) fn and_for(self, longer: TimeDelta) -> Self {
        Self { until: self.until + longer, ..self }
    }

    /// Whether it may be why an answer to this worker's call was lost that was not stored between these times: with the worker,
    /// or on its way. The broker has no part in it; a database that is away is waited for; and who gives up finishes before what
    /// it has, or parks it.
    pub(crate) fn loses_answers(&self, worker: &str, from: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        let may_lose =
            matches!(self.what, What::WorkerKilled | What::WorkerStoodStill | What::CutOff(Part::Provider));
        may_lose && self.is_about(worker) && self.is_between(from, until)
    }

    /// Whether the broker may have given to others by it what this worker had in its hands between these times: what was
    /// acknowledged, too, as long as the broker had not taken that in.
    pub(crate) fn takes_messages_away(
        &self,
        worker: &str,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> bool {
        let may_take = matches!(
            self.what,
            What::WorkerKilled | What::WorkerStoodStill | What::BrokerAway | What::CutOff(Part::Broker)
        );
        may_take && self.is_about(worker) && self.is_between(from, until)
    }

    /// Whether this worker had to wait by it for what it wanted of the database between these times.
    pub(crate) fn keeps_waiting(&self, worker: &str, from: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        let is_database = matches!(
            self.what,
            What::DatabaseAway | What::CutOff(Part::Database) | What::Slow(Part::Database)
        );
        is_database && self.is_about(worker) && self.is_between(from, until)
    }

    /// Whether anybody may have had to wait by it for rows of the database.
    pub(crate) fn holds_rows(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        self.rows_until().is_some_and(|released| self.from <= until && released >= from)
    }

    /// Until when this worker may have had to wait by it for the database, between these times.
    pub(crate) fn delays(
        &self,
        worker: &str,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let its_own = self.keeps_waiting(worker, from, until).then_some(self.until);
        its_own.or_else(|| self.rows_until().filter(|_| self.holds_rows(from, until)))
    }

    /// Until when it may hold rows of the database: a session of which nobody but the database knows does, and a worker that
    /// stands still in the middle of a transaction, which the database ends when it has heard nothing of it for long enough.
    fn rows_until(&self) -> Option<DateTime<Utc>> {
        match self.what {
            What::SessionForgotten => Some(self.until),
            What::WorkerStoodStill => Some(self.until.min(self.from + LONGEST_SILENCE + AFTERMATH)),
            _ => None,
        }
    }

    /// Whether it may be why this worker had a repair of the cache planned, for which a message of its own comes: the cache did
    /// not answer, or had answered long before that was read.
    pub(crate) fn asks_for_repair(&self, worker: &str, from: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        let may_ask = matches!(
            self.what,
            What::RedisAway | What::CutOff(Part::Cache) | What::Slow(Part::Cache) | What::WorkerStoodStill
        );
        may_ask && self.is_about(worker) && self.is_between(from, until)
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

    /// Whether this process may have had no database between these times. A slow one is one.
    pub(crate) fn is_without_database(&self, who: &str, from: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        let is_away = matches!(self.what, What::DatabaseAway | What::CutOff(Part::Database));
        is_away && self.is_about(who) && self.is_between(from, until)
    }

    /// Whether it may be why this process could not begin between these times: it begins with the database, and has no patience
    /// left for that where it stood still for as long as that lasts.
    pub(crate) fn refuses_start(&self, who: &str, from: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        let is_too_long = self.is_sleep() && self.until - self.from >= START_PATIENCE;
        let slept = is_too_long && self.is_about(who) && self.is_between(from, until);
        slept || self.is_without_database(who, from, until)
    }

    /// Whether this process may have had no session with the broker by it between these times. Its patience for one does not
    /// last longer because it stands still meanwhile.
    pub(crate) fn is_without_session(&self, who: &str, from: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        let is_away = matches!(self.what, What::BrokerAway | What::CutOff(Part::Broker)) || self.is_sleep();
        is_away && self.is_about(who) && self.is_between(from, until)
    }

    fn is_sleep(&self) -> bool {
        matches!(self.what, What::WorkerStoodStill | What::ProducerStoodStill)
    }

    /// Whether it was about this process, or about all.
    pub(crate) fn is_about(&self, who: &str) -> bool {
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

    const PARTS: [Part; 4] = [Part::Database, Part::Broker, Part::Cache, Part::Provider];

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

    /// All that can happen to a worker.
    fn all() -> Vec<What> {
        let of_parts = PARTS.into_iter().flat_map(|part| [What::CutOff(part), What::Slow(part)]);
        let others = [
            What::WorkerKilled,
            What::WorkerStoodStill,
            What::BrokerAway,
            What::DatabaseAway,
            What::RedisAway,
            What::SessionForgotten,
        ];
        of_parts.chain(others).collect()
    }

    /// These and no others are a reason for what began and ended around them, of this worker and no other.
    fn only(reasons: &[What], is_one: fn(&Event, &str, DateTime<Utc>, DateTime<Utc>) -> bool) {
        for what in all() {
            let hit = event(what, worker("a"));
            assert_eq!(is_one(&hit, "a", at(9), at(11)), reasons.contains(&what), "{what:?}");
            assert!(!is_one(&hit, "b", at(9), at(11)), "{what:?} of somebody else");
            assert!(!is_one(&hit, "a", at(13), at(14)), "{what:?} before");
            assert!(!is_one(&hit, "a", at(8), at(9)), "{what:?} after");
            assert_eq!(
                is_one(&event(what, Whom::Everyone), "b", at(11), at(20)),
                reasons.contains(&what),
                "{what:?} of everyone"
            );
        }
    }

    #[test]
    fn an_answer_is_lost_with_its_caller_or_on_its_way_to_it() {
        only(
            &[What::WorkerKilled, What::WorkerStoodStill, What::CutOff(Part::Provider)],
            Event::loses_answers,
        );
    }

    #[test]
    fn the_broker_gives_to_others_what_those_had_whom_it_does_not_hear() {
        let reasons =
            [What::WorkerKilled, What::WorkerStoodStill, What::BrokerAway, What::CutOff(Part::Broker)];
        only(&reasons, Event::takes_messages_away);
    }

    #[test]
    fn only_a_database_keeps_waiting_and_only_one_that_was_away_is_missed() {
        let away = [What::DatabaseAway, What::CutOff(Part::Database)];
        only(&[&away[..], &[What::Slow(Part::Database)]].concat(), Event::keeps_waiting);
        only(&away, Event::is_without_database);
    }

    #[test]
    fn only_who_stands_still_and_sessions_that_are_forgotten_hold_rows_and_for_as_long() {
        let holding = [What::WorkerStoodStill, What::SessionForgotten];
        for what in all() {
            let hit = event(what, worker("a"));
            assert_eq!(hit.holds_rows(at(9), at(11)), holding.contains(&what), "{what:?}");
            assert!(!hit.holds_rows(at(13), at(14)) && !hit.holds_rows(at(8), at(9)), "{what:?}");
        }
        assert!(!event(What::ProducerStoodStill, producer("p")).holds_rows(at(9), at(11)));
    }

    #[test]
    fn who_stands_still_holds_rows_until_the_database_has_ended_its_session_and_no_longer() {
        let stood_still = |until| Event { until: at(until), ..event(What::WorkerStoodStill, worker("a")) };
        let released = (LONGEST_SILENCE + AFTERMATH).num_seconds() + 10;
        let long = stood_still(100);
        assert!(long.holds_rows(at(released), at(200)) && !long.holds_rows(at(released + 1), at(200)));
        assert_eq!(long.delays("b", at(11), at(12)), Some(at(released)));
        assert_eq!(long.delays("b", at(released + 1), at(200)), None);
        assert_eq!(stood_still(12).delays("b", at(11), at(12)), Some(at(12)), "it let go of them itself");
        // Its own answer waits with it, and its messages are others' for as long.
        assert!(long.loses_answers("a", at(90), at(95)) && long.takes_messages_away("a", at(90), at(95)));
    }

    #[test]
    fn who_has_no_database_is_kept_waiting_alone_and_who_wants_rows_of_others_is_kept_waiting_by_those() {
        let cut_off = event(What::CutOff(Part::Database), worker("a"));
        assert_eq!(cut_off.delays("a", at(9), at(11)), Some(at(12)));
        assert_eq!((cut_off.delays("b", at(9), at(11)), cut_off.delays("a", at(13), at(14))), (None, None));
        let forgotten = event(What::SessionForgotten, worker("a"));
        assert_eq!(forgotten.delays("b", at(9), at(11)), Some(at(12)));
        assert_eq!(event(What::WorkerKilled, worker("a")).delays("a", at(9), at(11)), None);
    }

    #[test]
    fn sessions_are_forgotten_until_the_database_has_ended_them() {
        let forgotten = Event::of_sessions(at(10), TimeDelta::seconds(8), worker("a"));
        assert!(forgotten.holds_rows(at(18), at(19)) && forgotten.holds_rows(at(23), at(24)));
        assert!(!forgotten.holds_rows(at(24), at(25)) && !forgotten.holds_rows(at(8), at(9)));
    }

    #[test]
    fn what_is_felt_for_longer_begins_when_it_did() {
        let hit = event(What::CutOff(Part::Database), worker("a"));
        let longer = hit.clone().and_for(TimeDelta::seconds(3));
        assert_eq!((longer.from, longer.until), (at(10), at(15)));
        assert!(
            longer.is_without_database("a", at(14), at(15)) && !hit.is_without_database("a", at(14), at(15))
        );
    }

    #[test]
    fn who_has_no_database_cannot_start_nor_can_who_stood_still_for_as_long_as_it_would_wait() {
        only(&[What::DatabaseAway, What::CutOff(Part::Database)], Event::refuses_start);
        for what in [What::WorkerStoodStill, What::ProducerStoodStill] {
            let stood_still = |until| Event { until: at(until), ..event(what, worker("a")) };
            assert!(stood_still(70).refuses_start("a", at(70), at(71)));
            assert!(!stood_still(69).refuses_start("a", at(69), at(71)));
        }
    }

    #[test]
    fn who_has_no_broker_or_stands_still_has_no_session() {
        let reasons = [What::BrokerAway, What::CutOff(Part::Broker), What::WorkerStoodStill];
        only(&reasons, Event::is_without_session);
    }

    #[test]
    fn a_repair_is_planned_where_the_cache_did_not_answer_in_time() {
        let reasons =
            [What::RedisAway, What::CutOff(Part::Cache), What::Slow(Part::Cache), What::WorkerStoodStill];
        only(&reasons, Event::asks_for_repair);
    }

    #[test]
    fn a_slow_network_is_no_reason_unless_answers_come_too_late_by_it() {
        let (latency, patience) = (Duration::from_millis(100), Duration::from_secs(2));
        let of = |part, mode| What::of_network(part, mode, latency, patience);
        for part in PARTS {
            assert_eq!(of(part, Mode::Slow(Duration::from_millis(949))), What::Slow(part));
            let others = [Mode::Reset, Mode::HalfOpen, Mode::BlackHole, Mode::Gone];
            assert!(others.into_iter().all(|mode| of(part, mode) == What::CutOff(part)), "{part:?}");
        }
        let slow = Mode::Slow(Duration::from_millis(950));
        assert_eq!(of(Part::Provider, slow), What::CutOff(Part::Provider));
        assert_eq!(of(Part::Broker, slow), What::Slow(Part::Broker));
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
            event(What::Slow(Part::Broker), producer("p")),
            event(What::WorkerStoodStill, worker("a")),
            event(What::RedisAway, Whom::Everyone),
        ];
        for event in others {
            assert!(!event.doubles(at(9), at(11)), "{event:?}");
        }
    }
}
