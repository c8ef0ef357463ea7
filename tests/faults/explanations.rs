//! What explains what should not have happened: each second call, each message that came again, and each answer that is lost
//! has a reason of its own among all that was done, or it is a violation.

use chrono::{DateTime, TimeDelta, Utc};
use freshet_tests::model_provider::{Did, LedgerEntry};

use crate::events::{Event, What, Whom};
use crate::mischief::Done;
use crate::network::Part;
use crate::said::Again;

/// A request may arrive after its worker was killed, and what a worker says of another one's call is as exact as its look at the
/// database's clock.
const ON_ITS_WAY: TimeDelta = TimeDelta::seconds(2);

/// Nothing is put off for longer here.
const PUT_OFF: TimeDelta = TimeDelta::minutes(1);

/// What is found: a reason, or what there is to be said of that for which there is none.
pub(crate) type Explanation = Result<&'static str, String>;

/// Each call but the first one needs a reason: the provider was told to fail the one before it, something hit the worker
/// that made it before the next one came, the worker that made the next one stood still meanwhile, or there may be two messages
/// since `doubled_since`. That a worker was asked to end is none.
pub(crate) fn second_calls(
    calls: &[LedgerEntry],
    doubled_since: Option<DateTime<Utc>>,
    done: &Done,
) -> Vec<Explanation> {
    let explain = |pair: &[LedgerEntry]| {
        let [before, after] = pair else { return None };
        let caller = name(before);
        let reason = match before.fault {
            Some(_) => Some("the provider failed"),
            None => interruption(caller, before.arrived_at, after.arrived_at, done)
                .or_else(|| what_held_up(after, before.arrived_at, done))
                .or_else(|| what_doubled(doubled_since, after.arrived_at, done)),
        };
        Some(reason.ok_or_else(|| {
            let (first, second) = (before.arrived_at, after.arrived_at);
            let meanwhile = chronicle(first - ON_ITS_WAY, second, done);
            format!("{caller} at {first}, {:?}; {} at {second}{meanwhile}", before.sent, name(after))
        }))
    };
    calls.windows(2).filter_map(explain).collect()
}

/// A message whose job had ended comes again only if something hit the worker that had it before the broker knew, or if there are
/// two of it: what the broker took in and could not confirm is published again, and the first one may wait anywhere.
pub(crate) fn came(again: &Again, calls: &[LedgerEntry], done: &Done) -> Explanation {
    let earlier: Vec<&LedgerEntry> = calls.iter().filter(|call| call.arrived_at <= again.at).rev().collect();
    let before = earlier.first();
    // Each call was for a message of its own: this may be the one of a call that failed, and was made again since.
    let lost = earlier.iter().find_map(|call| {
        let since = call.arrived_at - ON_ITS_WAY;
        first(done, |event| event.keeps_acknowledgements(name(call), since, again.at))
    });
    // Who put it off need not have called; and neither need who had the message by which the cache was to be repaired.
    let repairs = |call: &&LedgerEntry| {
        let since = call.arrived_at - ON_ITS_WAY;
        done.events.iter().any(|event| event.asks_for_repair(name(call), since, again.at))
    };
    let is_anybodys = !again.is_done || before.is_some_and(repairs);
    let lost = lost.or_else(|| {
        let since = again.at - PUT_OFF;
        let hit = |worker| first(done, |event| event.keeps_acknowledgements(worker, since, again.at));
        if is_anybodys { done.workers().find_map(hit) } else { None }
    });
    lost.or_else(|| what_doubled(done.added(again.connection_id), again.at, done)).ok_or_else(|| {
        let at = before.map(|call| call.arrived_at.to_string()).unwrap_or_default();
        let caller = before.map(|call| name(call)).unwrap_or_default();
        let meanwhile = before.map(|call| chronicle(call.arrived_at, again.at, done)).unwrap_or_default();
        format!("done by {caller} at {at}; came to {} at {}{meanwhile}", again.to, again.at)
    })
}

/// The one window that cannot be closed: a call that may have spent a strict token, of which nobody knows the answer
/// since `unknown_since`, because its worker was interrupted before that was stored. `may_take`: a call and what stores its
/// answer, if nothing interrupts them.
pub(crate) fn quarantined(
    unknown_since: Option<DateTime<Utc>>,
    calls: &[LedgerEntry],
    may_take: TimeDelta,
    done: &Done,
) -> Explanation {
    let granted = calls.iter().filter(|call| matches!(call.did, Did::Granted { .. })).count();
    if granted > 1 {
        return Err(format!("quarantined after {granted} grants"));
    }
    let since = unknown_since.ok_or("quarantined, and no worker has said since when")?;
    let until = since + may_take;
    let is_it =
        |call: &&LedgerEntry| call.fault.is_none() && (since - ON_ITS_WAY..=until).contains(&call.arrived_at);
    let call = calls.iter().rfind(is_it);
    let reason = match call {
        Some(call) => what_lost(name(call), call.arrived_at, call.arrived_at + may_take, done),
        // It never arrived, and so nobody knows whose it was.
        None => done.workers().find_map(|worker| what_lost(worker, since, until, done)),
    };
    reason.ok_or_else(|| {
        let of = call.map_or("somebody whom it did not reach", name);
        let meanwhile = chronicle(since - ON_ITS_WAY, until + PUT_OFF, done);
        format!("quarantined for a call at {since} of {of}, and nothing interrupted that{meanwhile}")
    })
}

/// What interrupted this worker between its call and the next thing that happened to the connection; rather what was done to
/// it alone.
fn interruption(worker: &str, call: DateTime<Utc>, next: DateTime<Utc>, done: &Done) -> Option<&'static str> {
    let interrupts = |event: &Event| event.interrupts(worker, call - ON_ITS_WAY, next);
    first(done, |event| event.whom != Whom::Everyone && interrupts(event)).or_else(|| first(done, interrupts))
}

/// What lost this worker's answer before that was stored. While there is no database, whoever has an answer keeps it.
fn what_lost(worker: &str, call: DateTime<Utc>, stored: DateTime<Utc>, done: &Done) -> Option<&'static str> {
    let since = call - ON_ITS_WAY;
    let mut until = stored;
    while let Some(back) =
        done.events.iter().filter_map(|event| event.no_database(worker, since, until)).max()
        && back > until
    {
        until = back;
    }
    first(done, |event| event.loses_answers(worker, since, until))
}

/// Whoever stood still between its look at the row and its call does not know of one that was made meanwhile, and no more
/// does whoever's request was held up by the network.
fn what_held_up(call: &LedgerEntry, before: DateTime<Utc>, done: &Done) -> Option<&'static str> {
    first(done, |event| {
        matches!(event.what, What::WorkerStoodStill | What::CutOff(Part::Provider))
            && event.interrupts(name(call), before, call.arrived_at)
    })
}

/// What may have made two messages of a connection since it is there.
fn what_doubled(added: Option<DateTime<Utc>>, until: DateTime<Utc>, done: &Done) -> Option<&'static str> {
    let added = added?;
    first(done, |event| event.doubles(added, until))
}

/// All that was done to anybody in this time, for whoever looks for the reason.
pub(crate) fn chronicle(from: DateTime<Utc>, until: DateTime<Utc>, done: &Done) -> String {
    let events = done.events.iter().filter(|event| event.is_between(from, until)).map(ToString::to_string);
    let ends = done.ends.iter().filter(|end| end.asked <= until && end.ended >= from);
    let ends = ends.map(|end| format!("{} asked to end at {}, ended at {}", end.who, end.asked, end.ended));
    events.chain(ends).map(|what| format!("\n        meanwhile: {what}")).collect()
}

fn first(done: &Done, is_meant: impl Fn(&Event) -> bool) -> Option<&'static str> {
    done.events.iter().find(|event| is_meant(event)).map(|event| event.what.as_str())
}

fn name(call: &LedgerEntry) -> &str {
    call.caller.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use freshet_tests::fleet::now;
    use freshet_tests::model_provider::Sent;

    use super::*;

    const MAY_TAKE: TimeDelta = TimeDelta::seconds(7);

    fn call(caller: &str, arrived_at: DateTime<Utc>, granted: bool) -> LedgerEntry {
        let did = match granted {
            true => Did::Granted { access_token: 1, refresh_token: Some(2) },
            false => Did::NotAsked,
        };
        LedgerEntry {
            arrived_at,
            at_once: 1,
            account: Some("account-1".into()),
            caller: Some(caller.into()),
            grant_type: None,
            presented: None,
            client_secret: None,
            did,
            fault: None,
            sent: Sent::Pending,
        }
    }

    fn after(events: Vec<Event>) -> Done {
        Done { events, waves: vec![(1, now() - TimeDelta::minutes(2))], ..Done::default() }
    }

    fn killed(worker: &str) -> Event {
        Event::since(now(), What::WorkerKilled, Whom::Worker(worker.into()))
    }

    #[test]
    fn a_second_call_needs_something_that_hit_the_caller_of_the_first() {
        let at = now();
        let calls =
            [call("a", at - TimeDelta::seconds(1), false), call("b", at + TimeDelta::seconds(9), true)];
        let explained = |events| second_calls(&calls, None, &after(events));
        assert_eq!(explained(vec![killed("a")]), [Ok("worker killed")]);
        for events in [vec![], vec![killed("b")]] {
            assert!(explained(events)[0].as_ref().unwrap_err().contains("a at "));
        }
        let mut failing = calls.clone();
        failing[0].fault = Some("status 503");
        assert_eq!(second_calls(&failing, None, &after(vec![])), [Ok("the provider failed")]);
        let away = || after(vec![Event::since(at, What::ProducerStoodStill, Whom::Producer("p".into()))]);
        assert_eq!(second_calls(&calls, away().added(1), &away()), [Ok("producer stood still")]);
        assert!(second_calls(&calls, None, &away())[0].is_err(), "the second of two messages finds it");
    }

    #[test]
    fn a_lost_answer_needs_something_that_hit_its_caller_just_then() {
        let at = now() - TimeDelta::seconds(1);
        let calls = [call("a", at, true)];
        let judged =
            |since, calls: &[LedgerEntry], events| quarantined(since, calls, MAY_TAKE, &after(events));
        assert_eq!(judged(Some(at), &calls, vec![killed("a")]), Ok("worker killed"));
        assert!(judged(Some(at), &calls, vec![killed("b")]).is_err(), "somebody else was killed");
        assert!(judged(Some(at), &calls, vec![]).unwrap_err().contains("nothing interrupted"));
        assert!(judged(None, &calls, vec![killed("a")]).unwrap_err().contains("no worker has said"));
        let long_ago = at - TimeDelta::minutes(1);
        assert!(judged(Some(long_ago), &[call("a", long_ago, true)], vec![killed("a")]).is_err());
        assert!(judged(Some(at), &[call("a", at, true), call("a", at, true)], vec![killed("a")]).is_err());
        let broker = Event::since(at, What::BrokerAway, Whom::Everyone);
        assert!(judged(Some(at), &calls, vec![broker]).is_err(), "the broker has no part in it");
    }

    #[test]
    fn an_answer_that_waits_for_a_database_is_lost_with_its_worker_alone() {
        let at = now() - TimeDelta::seconds(30);
        let calls = [call("a", at, true)];
        let judged = |events| quarantined(Some(at), &calls, MAY_TAKE, &after(events));
        let away = || Event::since(at, What::DatabaseAway, Whom::Everyone);
        let cut_off =
            |worker: &str| Event::since(at, What::CutOff(Part::Database), Whom::Worker(worker.into()));
        assert!(judged(vec![killed("a")]).is_err(), "it was killed much later");
        assert!(judged(vec![away()]).is_err() && judged(vec![cut_off("a")]).is_err(), "nobody was killed");
        assert_eq!(judged(vec![away(), killed("a")]), Ok("worker killed"));
        assert_eq!(judged(vec![cut_off("a"), killed("a")]), Ok("worker killed"));
        assert!(judged(vec![cut_off("b"), killed("a")]).is_err(), "somebody else had no database");
        assert!(judged(vec![away(), killed("b")]).is_err(), "somebody else was killed");
    }

    #[test]
    fn a_request_that_was_held_up_may_arrive_after_another_ones() {
        let at = now();
        let calls = [call("a", at - TimeDelta::seconds(2), true), call("b", at, true)];
        let explained = |who: &str| {
            second_calls(
                &calls,
                None,
                &after(vec![Event::since(at, What::CutOff(Part::Provider), Whom::Worker(who.into()))]),
            )
        };
        assert_eq!(explained("b"), [Ok("provider cut off")]);
        assert!(explained("c")[0].is_err());
    }

    #[test]
    fn of_a_call_that_never_arrived_any_worker_may_have_been_the_caller() {
        let at = now() - TimeDelta::seconds(1);
        assert_eq!(quarantined(Some(at), &[], MAY_TAKE, &after(vec![killed("a")])), Ok("worker killed"));
        assert!(quarantined(Some(at), &[], MAY_TAKE, &after(vec![])).is_err());
        let of_producer = Event::since(at, What::ProducerStoodStill, Whom::Producer("p".into()));
        assert!(quarantined(Some(at), &[], MAY_TAKE, &after(vec![of_producer])).is_err());
    }

    #[test]
    fn a_done_message_comes_again_by_a_lost_acknowledgement_or_twice() {
        let at = now();
        let calls = [call("a", at - TimeDelta::seconds(1), true)];
        let again = |id, is_done| Again {
            connection_id: id,
            at: at + TimeDelta::seconds(1),
            to: "b".into(),
            is_done,
        };
        let came = |id, events| came(&again(id, true), &calls, &after(events));
        let cut = Event::since(at, What::CutOff(Part::Cache), Whom::Worker("a".into()));
        assert!(came(1, vec![cut.clone()]).is_err());
        assert_eq!(came(1, vec![cut, killed("b")]), Ok("worker killed"));
        let put_off = |events| super::came(&again(1, false), &[], &after(events));
        assert_eq!(put_off(vec![killed("b")]), Ok("worker killed"));
        assert!(put_off(vec![]).is_err());
        assert_eq!(came(1, vec![killed("a")]), Ok("worker killed"));
        assert!(came(1, vec![killed("b")]).unwrap_err().contains("came to b"));
        let away = || vec![Event::since(at - TimeDelta::seconds(90), What::BrokerAway, Whom::Everyone)];
        assert_eq!(came(1, away()), Ok("broker away"));
        // Somebody else has called again since.
        let failed = call("c", at - TimeDelta::seconds(2), false);
        let [called_again] = &calls;
        let since =
            |events| super::came(&again(1, true), &[failed.clone(), called_again.clone()], &after(events));
        assert_eq!(since(vec![killed("c")]), Ok("worker killed"));
        assert!(since(vec![killed("b")]).is_err());
        // Nobody has added it.
        assert!(
            came(0, vec![Event::since(at, What::ProducerStoodStill, Whom::Producer("p".into()))]).is_err()
        );
    }
}
