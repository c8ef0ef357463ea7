//! What explains what should not have happened: each second call, each message that came again, each answer that is lost and
//! each process that gave up has a reason of its own among all that was done, or it is a violation.
//!
//! Where a worker is killed every second, everything has a reason by chance, unless that had to be just then: while the answer
//! was not stored, or the message was in the worker's hands. Only what keeps a worker waiting makes that time longer.

#[cfg(test)]
mod tests;

use chrono::{DateTime, TimeDelta, Utc};
use freshet_tests::model_provider::{Did, LedgerEntry};

use crate::events::{Event, What, Whom};
use crate::mischief::Done;
use crate::network::Part;
use crate::said::{Begun, End, Found, Job, Quarantined};
use crate::stage::GIVES_UP_AFTER;
use crate::troupe::GaveUp;

/// A request may arrive after its worker was killed, and what a worker says of another one's call is as exact as its look at the
/// database's clock.
const ON_ITS_WAY: TimeDelta = TimeDelta::seconds(2);
/// From the end of a stop until a worker has sent what it had in hand: it has lost its connections, and so have the others.
const WAKING_UP: TimeDelta = TimeDelta::seconds(10);

/// A worker waits for so long for the broker to be told, and the broker takes it in behind what others have told it.
const ACKNOWLEDGED: TimeDelta = TimeDelta::seconds(3);

/// Nothing is put off for longer here.
const PUT_OFF: TimeDelta = TimeDelta::minutes(1);

/// Who waits for longer for a database gives up a token that can be had again.
const PATIENCE: TimeDelta = TimeDelta::seconds(20);

/// A job that found no database, or whose statement was given up, looks again after so long, and needs a moment for it.
const NEXT_LOOK: TimeDelta = TimeDelta::seconds(4);

/// What is found: a reason, or what there is to be said of that for which there is none.
pub(crate) type Explanation = Result<&'static str, String>;

/// What is known of one connection.
#[derive(Clone, Copy)]
pub(crate) struct Past<'a> {
    /// In their order.
    pub(crate) calls: &'a [LedgerEntry],
    /// In the order in which their ends were said.
    pub(crate) jobs: &'a [&'a Job],
}

/// Where reasons are found.
pub(crate) struct Reasons<'a> {
    pub(crate) done: &'a Done,
    /// A call, and what stores its answer, if nothing keeps them waiting.
    pub(crate) may_take: TimeDelta,
}

/// A message in a worker's hands: since when, at most, and until when its job has ended, or the broker knows that it has.
#[derive(Clone, Copy)]
struct InHands<'a> {
    worker: &'a str,
    since: DateTime<Utc>,
    until: DateTime<Utc>,
}

impl Reasons<'_> {
    /// Each call but the first one needs a reason: the provider was told to fail the one before it; the answer to that was lost
    /// before it was stored; another worker was given the same message meanwhile; or there may be two messages, since
    /// `doubled_since` or since an attempt before both. That a worker was asked to end is none as long as there is a database.
    pub(crate) fn of_second_calls(
        &self,
        past: Past<'_>,
        doubled_since: Option<DateTime<Utc>>,
    ) -> Vec<Explanation> {
        let explain = |pair: &[LedgerEntry]| {
            let [before, after] = pair else { return None };
            let reason = match before.fault {
                Some(_) => Some("the provider failed"),
                None => self.of_second_call(before, after, past, doubled_since),
            };
            Some(reason.ok_or_else(|| {
                let (first, second) = (before.arrived_at, after.arrived_at);
                let meanwhile = self.chronicle(first - ON_ITS_WAY, second);
                let (caller, sent) = (name(before), before.sent);
                format!("{caller} at {first}, {sent:?}; {} at {second}{meanwhile}", name(after))
            }))
        };
        past.calls.windows(2).filter_map(explain).collect()
    }

    fn of_second_call(
        &self,
        before: &LedgerEntry,
        after: &LedgerEntry,
        past: Past<'_>,
        doubled_since: Option<DateTime<Utc>>,
    ) -> Option<&'static str> {
        let call = self.in_call(before, past);
        let is_before = |looked_by| after.arrived_at <= self.stored(name(after), looked_by);
        let stored = past.jobs.iter().find(|job| job.end == End::Stored).map(|job| job.at);
        let held_up = || self.what_held_up(after, before.arrived_at, stored.unwrap_or(call.until));
        if stored.is_some_and(|stored| !is_before(stored)) {
            // Whoever looks at the row by then has nothing to call for.
            return held_up();
        }
        // A call whose worker was left alone is stored, and what others have in their hands meanwhile, they call for meanwhile.
        let is_beside = is_before(call.until);
        let meanwhile = InHands { until: call.until.min(after.arrived_at), ..call };
        self.what_lost(&meanwhile, before.arrived_at)
            .or_else(|| self.what_gave_up(&call, before.arrived_at))
            .or_else(|| self.what_shared(&meanwhile).filter(|_| is_beside))
            .or_else(held_up)
            .or_else(|| self.what_doubled(doubled_since, after.arrived_at).filter(|_| is_beside))
            .or_else(|| self.what_brought_back(before, past).filter(|_| is_beside))
    }

    /// A message whose job had ended comes again only if the broker took it from the worker that had it before it knew, if it
    /// was given back, or if there are two of it: what the broker took in and could not confirm is published again, and the
    /// first one may wait anywhere. `again`: its second end, which found this.
    pub(crate) fn of_coming_again(&self, again: &Job, found: Found, past: Past<'_>) -> Explanation {
        self.what_lost_the_acknowledgement(again, found, past)
            .or_else(|| what_gave_back(again, past))
            .or_else(|| self.what_took_from_who_began(again, past))
            .or_else(|| self.what_hid_its_own_work(again, found, past))
            .or_else(|| match found {
                Found::NotYet => self.what_silenced(again, past),
                Found::Fresh => self.what_left_a_repair(again, past),
                Found::Newer | Found::Other => None,
            })
            .or_else(|| {
                let until = self.published(past).filter(|_| found == Found::Newer).unwrap_or(again.at);
                let doubled = self.what_doubled(self.done.added(again.connection_id), until.min(again.at));
                // Of two messages, too, none has been in somebody's hands before unless it was taken from there.
                doubled.filter(|_| self.what_took_from_anybody(again).is_some())
            })
            .ok_or_else(|| self.told(again, found, past))
    }

    /// What there is to be said of a message that came again without a reason.
    fn told(&self, again: &Job, found: Found, past: Past<'_>) -> String {
        let story = self.story(past, again.at);
        format!("came to {} at {}, and it found: {found:?}{story}", again.by, again.at)
    }

    /// All that is known of a connection until then, and what was done to anybody since its last call.
    pub(crate) fn story(&self, past: Past<'_>, until: DateTime<Utc>) -> String {
        let calls = || past.calls.iter().filter(|call| call.arrived_at <= until);
        let called = calls().map(|call| format!("\n        call of {} at {}", name(call), call.arrived_at));
        let jobs = past.jobs.iter().filter(|job| job.at <= until);
        let said = jobs.map(|job| format!("\n        {} said at {}: {:?}", job.by, job.at, job.end));
        let since = calls().next_back().map_or(until - PUT_OFF, |call| call.arrived_at);
        called.chain(said).collect::<String>() + &self.chronicle(since - ON_ITS_WAY, until)
    }

    /// The one window that cannot be closed: a call that may have spent a strict token, of which nobody knows the answer,
    /// because its worker was interrupted before that was stored.
    pub(crate) fn of_quarantine(&self, lost: Option<&Quarantined>, past: Past<'_>) -> Explanation {
        let granted = past.calls.iter().filter(|call| matches!(call.did, Did::Granted { .. })).count();
        if granted > 1 {
            return Err(format!("quarantined after {granted} grants"));
        }
        let lost = lost.ok_or("quarantined, and no worker has said since when")?;
        let caller = lost.attempt.as_deref().and_then(|attempt| self.done.said.writer_of(attempt));
        let caller = caller.ok_or_else(|| format!("quarantined for {:?}, a call of nobody", lost.attempt))?;
        let (since, until) = (lost.unknown_since, lost.unknown_since + self.may_take);
        let is_it = |call: &&LedgerEntry| {
            let is_its_own = call.fault.is_none() && name(call) == caller;
            is_its_own && (since - ON_ITS_WAY..=until).contains(&call.arrived_at)
        };
        let call = past.calls.iter().rfind(is_it);
        let reason = match call {
            Some(call) => self.what_lost(&self.in_call(call, past), call.arrived_at),
            None => self.what_kept_from_arriving(caller, lost, past),
        };
        reason.ok_or_else(|| {
            let arrived = if call.is_some() { "arrived" } else { "did not arrive" };
            let meanwhile = self.chronicle(since - ON_ITS_WAY, until + PUT_OFF);
            let by = &lost.by;
            format!(
                "quarantined by {by} for a call of {caller} at {since} that {arrived}, and nothing interrupted it{meanwhile}"
            )
        })
    }

    /// A process that has begun ends by itself only where it has had no session with the broker for as long as it waits for one,
    /// and says so: the database it waits for to the end. One that has not begun needs the database for that.
    pub(crate) fn of_giving_up(&self, gone: &GaveUp) -> Explanation {
        let GaveUp { who, started, last_seen, noticed, .. } = gone;
        let reason = match gone.is_refused_start {
            true => self.first(|event| event.refuses_start(who, *started, *noticed)),
            false => self.what_outlasted(gone),
        };
        let reason = reason.filter(|_| gone.is_in_order);
        reason.ok_or_else(|| format!("{}{}", gone.why, self.chronicle(*last_seen, *noticed)))
    }

    /// What kept this process without a session for as long as it waits for one: an absence, or several of them each of which
    /// began before there was a session again.
    fn what_outlasted(&self, gone: &GaveUp) -> Option<&'static str> {
        let GaveUp { who, started, last_seen, noticed, .. } = gone;
        let events = self.done.events.iter();
        let mut without: Vec<&Event> =
            events.filter(|event| event.is_without_session(who, *started, *noticed)).collect();
        without.sort_by_key(|event| event.from);
        let (mut from, mut until) = (*started, *started);
        for event in without {
            if event.from > until {
                from = event.from;
            }
            until = until.max(event.until);
            let lasted = (until.min(*noticed) - from).to_std().unwrap_or_default();
            if until >= *last_seen && lasted >= GIVES_UP_AFTER {
                return Some(event.what.as_str());
            }
        }
        None
    }

    /// From the request to the end of its job, as its worker said, or at the latest.
    fn in_call<'a>(&self, call: &'a LedgerEntry, past: Past<'_>) -> InHands<'a> {
        let (worker, at) = (name(call), call.arrived_at);
        let latest = self.stored(worker, at);
        InHands { worker, since: self.delivered(worker, at), until: self.said(call, past).unwrap_or(latest) }
    }

    /// The same until the broker knows.
    fn until_acknowledged<'a>(&self, call: &'a LedgerEntry, past: Past<'_>) -> InHands<'a> {
        let hands = self.in_call(call, past);
        InHands { until: hands.until + ACKNOWLEDGED, ..hands }
    }

    /// Whoever ended a job need not have called.
    fn in_job<'a>(&self, job: &'a Job) -> InHands<'a> {
        InHands { worker: &job.by, since: self.delivered(&job.by, job.at), until: job.at + ACKNOWLEDGED }
    }

    /// When its caller said how it ended. A job for another message of the connection may say something in between, but not what
    /// a call comes to.
    fn said(&self, call: &LedgerEntry, past: Past<'_>) -> Option<DateTime<Utc>> {
        self.said_by(name(call), call.arrived_at, past)
    }

    fn said_by(&self, worker: &str, at: DateTime<Utc>, past: Past<'_>) -> Option<DateTime<Utc>> {
        let may_end = at..=self.stored(worker, at);
        let is_end = |job: &&&Job| {
            let follows_a_call = matches!(job.end, End::Stored | End::Called | End::GivenBack);
            follows_a_call && job.by == worker && may_end.contains(&job.at)
        };
        past.jobs.iter().find(is_end).map(|job| job.at)
    }

    /// When the answer to this worker's call is stored at the latest. While there is no database, whoever has an answer keeps
    /// it.
    fn stored(&self, worker: &str, call: DateTime<Utc>) -> DateTime<Utc> {
        self.until_there_is_a_database(worker, call, call + self.may_take)
    }

    fn until_there_is_a_database(
        &self,
        worker: &str,
        from: DateTime<Utc>,
        mut until: DateTime<Utc>,
    ) -> DateTime<Utc> {
        let waits = |until| {
            let events = self.done.events.iter();
            events.filter_map(move |event| event.delays(worker, from - ON_ITS_WAY, until))
        };
        while let Some(back) = waits(until).max().filter(|back| *back > until) {
            until = back;
        }
        until
    }

    /// Since when this worker may have had the message for what it did then: it waits for a place for as long as another job
    /// takes, and no job ends while there is no database.
    fn delivered(&self, worker: &str, did: DateTime<Utc>) -> DateTime<Utc> {
        let mut since = did - self.may_take;
        let waits = |since| {
            let events = self.done.events.iter();
            events.filter(move |event| event.delays(worker, since, did).is_some())
        };
        while let Some(earlier) =
            waits(since).map(|event| event.from - self.may_take).min().filter(|earlier| *earlier < since)
        {
            since = earlier;
        }
        since
    }

    /// What lost the answer to this worker's call before that was stored; rather what was done to it alone.
    fn what_lost(&self, call: &InHands<'_>, arrived_at: DateTime<Utc>) -> Option<&'static str> {
        self.rather_its_own(|event| event.loses_answers(call.worker, arrived_at - ON_ITS_WAY, call.until))
    }

    /// What gave to another worker the message for which this one calls.
    fn what_shared(&self, call: &InHands<'_>) -> Option<&'static str> {
        self.rather_its_own(|event| {
            event.what != What::WorkerKilled && event.takes_messages_away(call.worker, call.since, call.until)
        })
    }

    /// Without a database a token that can be had again is given up after a while, or when its worker has to end; and an answer
    /// waits for another worker then.
    fn what_gave_up(&self, call: &InHands<'_>, since: DateTime<Utc>) -> Option<&'static str> {
        let is_long = call.until - since >= PATIENCE;
        let ends = self.done.ends.iter().filter(|end| end.asked <= call.until && end.ended >= since);
        let is_asked = ends.map(|end| end.who.as_str()).any(|who| who == call.worker);
        if !is_long && !is_asked {
            return None;
        }
        self.first(|event| {
            event.holds_rows(since, call.until)
                || event.is_without_database(call.worker, since - ON_ITS_WAY, call.until)
        })
    }

    /// Whose hands the message was in before it came again: of who called for it, and of who ended a job for it. One for a repair
    /// is another one than that for the token, and nobody calls for it.
    fn what_lost_the_acknowledgement(
        &self,
        again: &Job,
        found: Found,
        past: Past<'_>,
    ) -> Option<&'static str> {
        let is_repair = found == Found::Fresh;
        let calls = past.calls.iter().rev().filter(|call| !is_repair && call.arrived_at <= again.at);
        let jobs = earlier(again, past).rev().filter(|job| is_of_repair(job) == is_repair);
        let hands =
            calls.map(|call| self.until_acknowledged(call, past)).chain(jobs.map(|job| self.in_job(job)));
        hands.filter_map(|hands| self.what_took_away(&hands, again.at)).next()
    }

    /// Whoever had begun with the message, and lost it before it said what came of that: of what it did meanwhile, as of an
    /// attempt that it put off, nobody knows but the row.
    fn what_took_from_who_began(&self, again: &Job, past: Past<'_>) -> Option<&'static str> {
        let is_earlier = |begun: &&Begun| {
            begun.connection_id == again.connection_id && begun.by != again.by && begun.at <= again.at
        };
        let begun = self.done.said.begun.iter().filter(is_earlier);
        let hands = begun.filter_map(|Begun { by, at, .. }| {
            let until = self.stored(by, *at);
            let has_said = past.jobs.iter().any(|job| job.by == *by && (*at..=until).contains(&job.at));
            (!has_said).then_some(InHands { worker: by, since: *at, until })
        });
        hands.filter_map(|hands| self.what_took_away(&hands, again.at)).next()
    }

    /// What took the message from this worker, before it came again at `again`.
    fn what_took_away(&self, hands: &InHands<'_>, again: DateTime<Utc>) -> Option<&'static str> {
        let until = hands.until.min(again);
        self.rather_its_own(|event| event.takes_messages_away(hands.worker, hands.since, until))
    }

    /// A job to which the database's reply was lost looks at the row again, and finds what it did itself.
    fn what_hid_its_own_work(&self, again: &Job, found: Found, past: Past<'_>) -> Option<&'static str> {
        let has_called =
            || past.calls.iter().any(|call| name(call) == again.by && call.arrived_at <= again.at);
        let may_be = found == Found::NotYet || (found == Found::Newer && has_called());
        self.first(|event| event.is_without_database(&again.by, again.at - NEXT_LOOK, again.at))
            .filter(|_| may_be)
    }

    /// Whoever puts an attempt off says so, unless it is killed before. Of one that is due again soon, nobody has said anything
    /// then.
    fn what_silenced(&self, again: &Job, past: Past<'_>) -> Option<&'static str> {
        let since = again.at - PUT_OFF;
        let recently = |at: DateTime<Utc>| at >= since && at < again.at;
        let is_known = past.jobs.iter().any(|job| recently(job.at))
            || past.calls.iter().any(|call| recently(call.arrived_at));
        let killed =
            || self.first(|event| event.what == What::WorkerKilled && event.is_between(since, again.at));
        if is_known { None } else { killed() }
    }

    /// A message by which the cache is to be repaired comes again without an end that anybody has said where it was taken from a
    /// worker that had not begun with it. Whose, nobody knows; but it waits nowhere else than in the hands of the worker to
    /// which it comes.
    fn what_left_a_repair(&self, again: &Job, past: Past<'_>) -> Option<&'static str> {
        let calls = past.calls.iter().filter(|call| call.arrived_at <= again.at);
        let jobs = earlier(again, past).map(|job| self.in_job(job));
        let mut hands = calls.map(|call| self.in_call(call, past)).chain(jobs);
        let asked = |hands: InHands<'_>| {
            let asks = |event: &Event| event.asks_for_repair(hands.worker, hands.since, hands.until);
            self.done.events.iter().any(asks)
        };
        if !hands.any(asked) {
            return None;
        }
        self.what_took_from_anybody(again)
    }

    /// What took a message from anybody just before it came again. Whoever has none in hand yet has not begun with it.
    fn what_took_from_anybody(&self, again: &Job) -> Option<&'static str> {
        let since = self.delivered(&again.by, again.at);
        let taken = |worker| self.first(|event| event.takes_messages_away(worker, since, again.at));
        self.done.workers().find_map(taken)
    }

    /// A request of `caller` that never arrived: the network swallowed it, of which it can say so itself; or it died, or stood
    /// still, before it said what came of it, or must have: on a busy machine seconds lie between the note of a call and the call.
    fn what_kept_from_arriving(
        &self,
        caller: &str,
        lost: &Quarantined,
        past: Past<'_>,
    ) -> Option<&'static str> {
        let since = lost.unknown_since;
        let until = self.said_by(caller, since, past).unwrap_or_else(|| self.stored(caller, since));
        let mut events = self.done.events.iter();
        let swallowed = events.clone().find(|event| {
            event.what == What::CutOff(Part::Provider)
                && event.is_about(caller)
                && event.is_between(since - ON_ITS_WAY, until)
        });
        let stopped = events.find(|event| {
            event.what != What::CutOff(Part::Provider)
                && event.loses_answers(caller, since - ON_ITS_WAY, until)
        });
        // Whoever is left alone says itself what came of its call.
        let reason = swallowed.filter(|_| lost.by == caller).or(stopped);
        reason.map(|event| event.what.before_arrival())
    }

    /// Whoever stood still between its look at the row and its call does not know of one that was stored meanwhile. And whose
    /// request was held up by the network had sent it before, given it up, and called again: so it was the network already when
    /// the other call arrived.
    fn what_held_up(
        &self,
        call: &LedgerEntry,
        before: DateTime<Utc>,
        stored: DateTime<Utc>,
    ) -> Option<&'static str> {
        self.first(|event| {
            let looked_by = match event.what {
                What::WorkerStoodStill => stored,
                What::CutOff(Part::Provider) => before,
                _ => return false,
            };
            let on_its_way = match event.what {
                // Whoever wakes up has everything to do at once.
                What::WorkerStoodStill => WAKING_UP,
                _ => ON_ITS_WAY,
            };
            let is_held_up = event.is_between(call.arrived_at - on_its_way, call.arrived_at);
            event.is_about(name(call)) && event.from <= looked_by && is_held_up
        })
    }

    /// An attempt that failed has its message acknowledged, and another one is published when the next attempt is due. If the
    /// broker did not learn of the first, there are two of them by then.
    fn what_brought_back(&self, before: &LedgerEntry, past: Past<'_>) -> Option<&'static str> {
        let at = before.arrived_at;
        let calls = past.calls.iter().filter(|call| call.arrived_at < at);
        let jobs = past.jobs.iter().filter(|job| job.at < at && job.end != End::Stored && !is_of_repair(job));
        let hands =
            calls.map(|call| self.until_acknowledged(call, past)).chain(jobs.map(|job| self.in_job(job)));
        hands.filter_map(|hands| self.what_took_away(&hands, at)).next()
    }

    /// Until when messages for the token may have been published: until it was stored, which some worker did after a call.
    fn published(&self, past: Past<'_>) -> Option<DateTime<Utc>> {
        let stored = past.jobs.iter().find(|job| job.end == End::Stored).map(|job| job.at);
        let called = past.calls.last().map(|call| self.stored(name(call), call.arrived_at));
        stored.or(called)
    }

    /// What may have made two messages of a connection since it is there.
    fn what_doubled(&self, added: Option<DateTime<Utc>>, until: DateTime<Utc>) -> Option<&'static str> {
        let added = added?;
        self.first(|event| event.doubles(added, until))
    }

    /// All that was done to anybody in this time, for whoever looks for the reason.
    pub(crate) fn chronicle(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> String {
        let Done { events, ends, gave_up, .. } = self.done;
        let events = events.iter().filter(|event| event.is_between(from, until)).map(ToString::to_string);
        let ends = ends.iter().filter(|end| end.asked <= until && end.ended >= from);
        let ends =
            ends.map(|end| format!("{} asked to end at {}, ended at {}", end.who, end.asked, end.ended));
        let gave_up = gave_up.iter().filter(|gone| gone.last_seen <= until && gone.noticed >= from);
        let gave_up = gave_up
            .map(|gone| format!("{} gave up between {} and {}", gone.who, gone.last_seen, gone.noticed));
        events.chain(ends).chain(gave_up).map(|what| format!("\n        meanwhile: {what}")).collect()
    }

    fn first(&self, is_meant: impl Fn(&Event) -> bool) -> Option<&'static str> {
        self.done.events.iter().find(|event| is_meant(event)).map(|event| event.what.as_str())
    }

    fn rather_its_own(&self, is_meant: impl Fn(&Event) -> bool) -> Option<&'static str> {
        self.first(|event| event.whom != Whom::Everyone && is_meant(event)).or_else(|| self.first(&is_meant))
    }
}

/// What had been said of the connection before.
fn earlier<'a>(again: &Job, past: Past<'a>) -> impl DoubleEndedIterator<Item = &'a Job> {
    let at = again.at;
    past.jobs.iter().copied().filter(move |job| job.at < at)
}

fn what_gave_back(again: &Job, past: Past<'_>) -> Option<&'static str> {
    earlier(again, past).any(|job| job.end == End::GivenBack).then_some("given back without a database")
}

fn is_of_repair(job: &Job) -> bool {
    matches!(job.end, End::Nothing(Found::Fresh, _))
}

fn name(call: &LedgerEntry) -> &str {
    call.caller.as_deref().unwrap_or_default()
}
