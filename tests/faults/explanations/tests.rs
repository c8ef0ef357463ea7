use freshet_tests::model_provider::Sent;

use crate::said::Delivered;
use crate::troupe;

use super::*;

/// A connection that is there since the first second.
const ID: i64 = 1;

fn at(seconds: f64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::milliseconds((seconds * 1e3) as i64)
}

fn call(caller: &str, arrived_at: f64) -> LedgerEntry {
    LedgerEntry {
        arrived_at: at(arrived_at),
        at_once: 1,
        account: Some("account-1".into()),
        caller: Some(caller.into()),
        grant_type: None,
        presented: None,
        client_secret: None,
        did: Did::Granted { access_token: 1, refresh_token: Some(2) },
        fault: None,
        sent: Sent::Pending,
    }
}

fn job(by: &str, said: f64, end: End) -> Job {
    Job { connection_id: ID, at: at(said), by: by.into(), end }
}

fn event(what: What, whom: Whom, [from, until]: [f64; 2]) -> Event {
    Event { what, whom, from: at(from), until: at(until) }
}

fn of_worker(what: What, who: &str, time: [f64; 2]) -> Event {
    event(what, Whom::Worker(who.into()), time)
}

fn of_all(what: What, time: [f64; 2]) -> Event {
    event(what, Whom::Everyone, time)
}

fn killed(who: &str, when: f64) -> Event {
    of_worker(What::WorkerKilled, who, [when, when])
}

/// A call and what stores its answer take seven seconds at most.
fn with<T>(done: &Done, ask: impl FnOnce(&Reasons<'_>) -> T) -> T {
    ask(&Reasons { done, may_take: TimeDelta::seconds(7) })
}

fn done(events: &[Event]) -> Done {
    Done { events: events.to_vec(), waves: vec![(ID, at(1.0))], ..Done::default() }
}

fn second(calls: &[LedgerEntry], jobs: &[Job], done: &Done) -> Explanation {
    let jobs: Vec<&Job> = jobs.iter().collect();
    with(done, |reasons| {
        let mut found = reasons.of_second_calls(Past { calls, jobs: &jobs }, None);
        assert_eq!(found.len(), 1);
        found.remove(0)
    })
}

fn again(found: Found, by: &str, when: f64) -> Job {
    job(by, when, End::Nothing(found, Delivered::Again))
}

fn came(again: &Job, calls: &[LedgerEntry], jobs: &[Job], done: &Done) -> Explanation {
    let End::Nothing(found, _) = again.end else { panic!("there was something to do") };
    let jobs: Vec<&Job> = jobs.iter().chain([again]).collect();
    with(done, |reasons| reasons.of_coming_again(again, found, Past { calls, jobs: &jobs }))
}

fn lost(calls: &[LedgerEntry], quarantined: Option<&Quarantined>, done: &Done) -> Explanation {
    with(done, |reasons| reasons.of_quarantine(quarantined, Past { calls, jobs: &[] }))
}

/// The number of a call.
const ATTEMPT: &str = "0a";

fn unknown_since(since: f64, by: &str) -> Quarantined {
    Quarantined { connection_id: ID, unknown_since: at(since), by: by.into(), attempt: Some(ATTEMPT.into()) }
}

/// The same where this worker had written the call down.
fn done_of(writer: &str, events: &[Event]) -> Done {
    let mut done = done(events);
    done.said.note_writer(ATTEMPT, writer);
    done
}

const DATABASE: What = What::CutOff(Part::Database);
const BROKER: What = What::CutOff(Part::Broker);
const CACHE: What = What::CutOff(Part::Cache);
const PROVIDER: What = What::CutOff(Part::Provider);

#[test]
fn a_second_call_needs_what_hit_the_first_before_its_answer_was_stored() {
    let calls = [call("a", 100.0), call("b", 200.0)];
    let explained = |events: &[Event]| second(&calls, &[], &done(events));
    for when in [99.0, 101.0, 107.0] {
        assert_eq!(explained(&[killed("a", when)]), Ok("worker killed"), "{when}");
    }
    for when in [97.0, 107.5, 150.0] {
        assert!(explained(&[killed("a", when)]).is_err(), "{when}");
    }
    assert!(explained(&[killed("b", 101.0)]).unwrap_err().contains("a at "));
    assert_eq!(explained(&[of_worker(PROVIDER, "a", [95.0, 99.0])]), Ok("provider cut off"));
    assert!(explained(&[of_worker(What::Slow(Part::Provider), "a", [95.0, 105.0])]).is_err());
    let mut failing = calls.clone();
    failing[0].fault = Some("status 503");
    assert_eq!(second(&failing, &[], &done(&[])), Ok("the provider failed"));
}

#[test]
fn while_a_worker_has_no_database_its_answer_can_be_lost_with_it() {
    let calls = [call("a", 100.0), call("b", 200.0)];
    let explained = |events: &[Event]| second(&calls, &[], &done(events));
    let cut = of_worker(DATABASE, "a", [101.0, 112.0]);
    assert_eq!(explained(&[cut.clone(), killed("a", 111.0)]), Ok("worker killed"));
    assert_eq!(
        explained(&[cut.clone(), of_all(What::DatabaseAway, [111.0, 117.0]), killed("a", 116.0)]),
        Ok("worker killed")
    );
    assert!(explained(&[cut.clone(), killed("a", 113.0)]).is_err(), "it was back");
    assert!(explained(&[of_worker(DATABASE, "b", [101.0, 112.0]), killed("a", 111.0)]).is_err());
    assert!(explained(&[cut]).is_err(), "it was waited for");
}

#[test]
fn without_a_database_a_token_is_given_up_by_who_has_to_end_or_waits_for_too_long() {
    let calls = [call("a", 100.0), call("b", 200.0)];
    let away = |until| done(&[of_all(What::DatabaseAway, [101.0, until])]);
    assert!(second(&calls, &[], &away(119.0)).is_err());
    assert_eq!(second(&calls, &[], &away(121.0)), Ok("database away"));
    let ending = |who: &str, asked, ended, mut done: Done| {
        let (asked, ended) = (at(asked), at(ended));
        done.ends.push(troupe::End { who: who.into(), asked, ended, wrong: None });
        second(&calls, &[], &done)
    };
    assert_eq!(ending("a", 103.0, 110.0, away(112.0)), Ok("database away"));
    assert!(ending("b", 103.0, 110.0, away(112.0)).is_err());
    assert!(ending("a", 113.0, 114.0, away(112.0)).is_err(), "it was back");
    assert!(ending("a", 103.0, 110.0, done(&[])).is_err(), "it was there");
}

#[test]
fn what_hit_a_worker_after_it_had_said_how_its_job_ended_is_no_reason() {
    let calls = [call("a", 100.0), call("b", 102.0)];
    let explained = |end, when| second(&calls, &[job("a", 101.0, end)], &done(&[killed("a", when)]));
    assert_eq!(explained(End::Called, 100.5), Ok("worker killed"));
    assert!(explained(End::Called, 101.5).is_err());
    let other = End::Nothing(Found::Other, Delivered::First);
    assert_eq!(explained(other, 101.5), Ok("worker killed"), "that was a job for another message");
}

#[test]
fn a_call_after_the_token_was_stored_is_made_by_none_but_who_looked_before() {
    let calls = [call("a", 100.0), call("c", 130.0)];
    let stored = [job("b", 110.0, End::Stored)];
    let lost = killed("a", 101.0);
    assert!(second(&calls, &stored, &done(std::slice::from_ref(&lost))).is_err());
    assert_eq!(second(&calls, &[job("b", 124.0, End::Stored)], &done(&[lost])), Ok("worker killed"));
    let stood_still = |from| done(&[of_worker(What::WorkerStoodStill, "c", [from, 131.0])]);
    assert_eq!(second(&calls, &stored, &stood_still(109.0)), Ok("worker stood still"));
    assert!(second(&calls, &stored, &stood_still(111.0)).is_err(), "it had not looked yet");
    let woke_up = |until| done(&[of_worker(What::WorkerStoodStill, "c", [109.0, until])]);
    assert_eq!(second(&calls, &stored, &woke_up(121.0)), Ok("worker stood still"));
    assert!(second(&calls, &stored, &woke_up(119.0)).is_err(), "it had been awake for too long");
}

#[test]
fn whoever_stands_still_holds_its_rows_until_the_database_has_ended_its_session_and_no_longer() {
    let calls = [call("a", 100.0), call("b", 200.0)];
    let explained = |from, when| {
        second(
            &calls,
            &[],
            &done(&[of_worker(What::WorkerStoodStill, "c", [from, 190.0]), killed("a", when)]),
        )
    };
    assert_eq!(explained(98.0, 110.5), Ok("worker killed"), "it waited for the row with its answer");
    assert!(explained(98.0, 111.5).is_err(), "the row was there by then, however long that one stands still");
    assert!(explained(80.0, 108.0).is_err(), "it was there all the time");
    // Shorter than anybody waits before it gives a token up.
    let calls = [call("a", 100.0), call("a", 125.0)];
    assert!(second(&calls, &[], &done(&[of_worker(What::WorkerStoodStill, "b", [95.0, 123.0])])).is_err());
}

#[test]
fn rows_of_a_session_that_is_forgotten_are_waited_for_until_the_database_has_ended_it_and_no_longer() {
    let calls = [call("a", 100.0), call("a", 125.0)];
    let forgotten = |until| of_worker(What::SessionForgotten, "b", [95.0, until]);
    assert_eq!(second(&calls, &[], &done(&[forgotten(123.0)])), Ok("database session forgotten"));
    assert!(second(&calls, &[], &done(&[forgotten(115.0)])).is_err(), "the row was there again");
    let calls = [call("a", 100.0), call("b", 200.0)];
    let explained = |event: Event, when| second(&calls, &[], &done(&[event, killed("a", when)]));
    assert_eq!(explained(forgotten(113.0), 112.0), Ok("worker killed"), "it waited with its answer");
    assert!(explained(forgotten(113.0), 114.0).is_err(), "it was stored by then");
    let cut_off = of_worker(DATABASE, "b", [95.0, 113.0]);
    assert!(explained(cut_off, 112.0).is_err(), "whoever is merely cut off lets go of its rows");
    assert!(second(&calls, &[], &done(&[forgotten(113.0)])).is_err(), "it was waited for");
}

#[test]
fn a_message_that_the_broker_gave_to_another_worker_is_called_for_beside_the_first() {
    let explained =
        |after, events: &[Event]| second(&[call("a", 100.0), call("b", after)], &[], &done(events));
    for event in [of_worker(BROKER, "a", [90.0, 94.0]), of_all(What::BrokerAway, [102.0, 108.0])] {
        assert!(explained(103.0, std::slice::from_ref(&event)).is_ok(), "{event}");
        assert!(explained(120.0, std::slice::from_ref(&event)).is_err(), "{event}");
    }
    assert!(explained(103.0, &[of_all(What::BrokerAway, [104.0, 110.0])]).is_err(), "that came after");
    let early = of_worker(BROKER, "a", [80.0, 92.0]);
    assert!(explained(103.0, std::slice::from_ref(&early)).is_err());
    // It waited for the database with all the others that its worker had.
    let cut = of_worker(DATABASE, "a", [91.0, 99.0]);
    assert_eq!(explained(103.0, &[cut, early]), Ok("broker cut off"));
    assert!(explained(103.0, &[of_worker(What::Slow(Part::Broker), "a", [99.0, 101.0])]).is_err());
}

#[test]
fn two_messages_are_called_for_at_the_same_time_or_once() {
    let doubled = |after| {
        let done = done(&[event(What::ProducerStoodStill, Whom::Producer("p".into()), [50.0, 60.0])]);
        let calls = [call("a", 100.0), call("b", after)];
        let past = Past { calls: &calls, jobs: &[] };
        let ask = |since| with(&done, |reasons| reasons.of_second_calls(past, since).remove(0));
        assert!(ask(None).is_err(), "the second of two messages finds it");
        assert!(ask(Some(at(61.0))).is_err(), "it was not there yet");
        ask(Some(at(1.0)))
    };
    assert_eq!(doubled(106.0), Ok("producer stood still"));
    assert!(doubled(120.0).is_err());
}

#[test]
fn a_message_of_an_attempt_before_may_come_again_beside_the_one_for_the_next_attempt() {
    let explained = |after, failed, event: Event| {
        let calls = [call("a", 100.0), call("a", after)];
        second(&calls, &[job("c", failed, End::Called)], &done(&[event]))
    };
    let cut = |who: &str| of_worker(BROKER, who, [92.0, 96.0]);
    assert_eq!(explained(100.5, 95.0, cut("c")), Ok("broker cut off"));
    assert!(explained(120.0, 95.0, cut("c")).is_err(), "whoever comes later finds what was stored");
    assert!(explained(100.5, 95.0, cut("b")).is_err(), "the broker knew");
    assert!(
        explained(100.5, 101.0, of_worker(BROKER, "c", [99.0, 102.0])).is_err(),
        "that was no attempt before"
    );
    assert!(explained(100.5, 95.0, killed("c", 98.5)).is_err(), "the broker knew by then");
}

#[test]
fn a_request_that_was_held_up_was_sent_before_the_other_one_arrived() {
    let calls = [call("a", 100.0), call("b", 104.0)];
    let explained = |who: &str, time| second(&calls, &[], &done(&[of_worker(PROVIDER, who, time)]));
    assert_eq!(explained("b", [99.0, 104.0]), Ok("provider cut off"));
    assert!(explained("b", [100.5, 104.0]).is_err(), "it would have arrived as late without");
    assert!(explained("b", [95.0, 101.0]).is_err(), "it would have arrived before");
    assert!(explained("c", [99.0, 104.0]).is_err());
}

#[test]
fn a_lost_answer_needs_what_hit_its_caller_before_it_was_stored() {
    let calls = [call("a", 100.0)];
    let since = unknown_since(100.0, "b");
    let judged = |events: &[Event]| lost(&calls, Some(&since), &done_of("a", events));
    assert_eq!(judged(&[killed("a", 101.0)]), Ok("worker killed"));
    assert!(judged(&[killed("b", 101.0)]).is_err(), "somebody else was killed");
    assert!(judged(&[killed("a", 108.0)]).is_err(), "it was stored by then");
    assert!(judged(&[]).unwrap_err().contains("nothing interrupted"));
    assert!(judged(&[of_all(What::BrokerAway, [99.0, 105.0])]).is_err(), "the broker has no part in it");
    let away = of_all(What::DatabaseAway, [101.0, 120.0]);
    assert!(judged(std::slice::from_ref(&away)).is_err(), "nobody was killed");
    assert_eq!(judged(&[away, killed("a", 119.0)]), Ok("worker killed"));
    let none = done_of("a", &[killed("a", 101.0)]);
    assert!(lost(&calls, None, &none).unwrap_err().contains("no worker has said"));
    let twice = [call("a", 100.0), call("a", 100.0)];
    assert!(lost(&twice, Some(&since), &none).is_err());
    // Of another one's call nothing follows for this one, and a call of which nobody speaks has no reason.
    assert!(lost(&calls, Some(&since), &done_of("c", &[killed("a", 101.0)])).is_err());
    assert!(lost(&calls, Some(&since), &done(&[killed("a", 101.0)])).unwrap_err().contains("of nobody"));
    let unnumbered = Quarantined { attempt: None, ..since.clone() };
    assert!(lost(&calls, Some(&unnumbered), &none).unwrap_err().contains("of nobody"));
}

#[test]
fn a_call_that_never_arrived_was_not_sent_or_swallowed() {
    let by = |by: &str, events: &[Event]| lost(&[], Some(&unknown_since(100.0, by)), &done_of("a", events));
    let judged = |events: &[Event]| by("b", events);
    assert_eq!(judged(&[killed("a", 101.0)]), Ok("never arrived: worker killed"));
    assert_eq!(judged(&[killed("a", 106.5)]), Ok("never arrived: worker killed"), "the machine was busy");
    assert!(judged(&[killed("a", 107.5)]).is_err(), "it was sent, and answered, by then");
    let said = job("a", 102.0, End::Called);
    let after = |when| {
        with(&done_of("a", &[killed("a", when)]), |reasons| {
            reasons.of_quarantine(Some(&unknown_since(100.0, "b")), Past { calls: &[], jobs: &[&said] })
        })
    };
    assert_eq!(after(101.0), Ok("never arrived: worker killed"));
    assert!(after(103.0).is_err(), "it had said what came of it");
    let still = of_worker(What::WorkerStoodStill, "a", [100.0, 130.0]);
    assert_eq!(judged(&[still]), Ok("never arrived: worker stood still"));
    // Who calls without an answer says so itself, unless it dies while it waits.
    let cut = |who: &str| of_worker(PROVIDER, who, [99.0, 104.0]);
    assert_eq!(by("a", &[cut("a")]), Ok("never arrived: provider cut off"));
    assert!(judged(&[cut("a")]).is_err());
    assert_eq!(judged(&[cut("a"), killed("a", 106.0)]), Ok("never arrived: worker killed"));
    let away = of_worker(DATABASE, "a", [101.0, 111.0]);
    assert_eq!(judged(&[away, killed("a", 110.0)]), Ok("never arrived: worker killed"));
    assert!(judged(&[event(What::ProducerStoodStill, Whom::Producer("p".into()), [99.0, 101.0])]).is_err());
}

/// In a long run somebody is always killed.
#[test]
fn a_call_that_never_arrived_is_explained_by_what_hit_the_worker_that_had_written_it_down_and_by_nothing_else()
 {
    let of_others: Vec<Event> = ["b", "c", ""]
        .into_iter()
        .flat_map(|who| {
            let still = of_worker(What::WorkerStoodStill, who, [99.0, 130.0]);
            [killed(who, 100.5), still, of_worker(PROVIDER, who, [99.0, 104.0])]
        })
        .collect();
    for by in ["a", "b"] {
        let since = unknown_since(100.0, by);
        assert!(lost(&[], Some(&since), &done_of("a", &of_others)).is_err(), "a journals and drops the job");
        assert!(lost(&[], Some(&since), &done_of("c", &of_others)).is_ok());
        assert!(lost(&[], Some(&since), &done(&of_others)).is_err(), "nobody knows whose it was");
    }
}

#[test]
fn a_done_message_comes_again_if_the_broker_took_it_away_before_it_knew() {
    let (calls, again) = ([call("a", 100.0)], again(Found::Newer, "b", 200.0));
    let stored = [job("a", 101.0, End::Stored)];
    let judged = |jobs: &[Job], event: Event| came(&again, &calls, jobs, &done(&[event]));
    for when in [99.0, 101.5, 104.0] {
        assert_eq!(judged(&stored, killed("a", when)), Ok("worker killed"), "{when}");
    }
    assert!(judged(&stored, killed("a", 104.5)).is_err(), "the broker knew by then");
    assert_eq!(judged(&[], killed("a", 107.0)), Ok("worker killed"), "nobody has said when it ended");
    assert!(judged(&[], killed("a", 110.5)).is_err());
    assert!(judged(&stored, killed("b", 101.0)).unwrap_err().contains("came to b"));
    assert_eq!(judged(&stored, of_all(What::BrokerAway, [90.0, 96.0])), Ok("broker away"));
    assert_eq!(judged(&stored, of_worker(BROKER, "a", [103.0, 109.0])), Ok("broker cut off"));
    assert!(judged(&stored, of_all(What::BrokerAway, [105.0, 111.0])).is_err());
    for event in [of_worker(PROVIDER, "a", [99.0, 102.0]), of_worker(CACHE, "a", [99.0, 102.0])] {
        assert!(judged(&stored, event.clone()).is_err(), "{event}");
    }
    // The one of a call that failed, and was made again since.
    let both = [call("c", 90.0), call("a", 100.0)];
    assert_eq!(came(&again, &both, &stored, &done(&[killed("c", 91.0)])), Ok("worker killed"));
}

#[test]
fn a_database_makes_the_time_longer_in_which_an_acknowledgement_can_be_lost_and_loses_none() {
    let (calls, again) = ([call("a", 100.0)], again(Found::Newer, "b", 200.0));
    let away = of_worker(DATABASE, "a", [99.0, 120.0]);
    assert!(came(&again, &calls, &[], &done(std::slice::from_ref(&away))).is_err());
    assert_eq!(came(&again, &calls, &[], &done(&[away, killed("a", 119.0)])), Ok("worker killed"));
    assert!(came(&again, &calls, &[], &done(&[killed("a", 119.0)])).is_err());
}

#[test]
fn a_message_that_was_given_back_comes_again() {
    let (calls, again) = ([call("a", 100.0)], again(Found::Newer, "b", 200.0));
    let given_back = [job("a", 110.0, End::GivenBack)];
    assert_eq!(came(&again, &calls, &given_back, &done(&[])), Ok("given back without a database"));
    assert!(came(&again, &calls, &[], &done(&[])).is_err());
    let later = [job("a", 210.0, End::GivenBack)];
    assert!(came(&again, &calls, &later, &done(&[])).is_err());
}

#[test]
fn who_put_an_attempt_off_has_said_so_or_was_killed_before() {
    let again = again(Found::NotYet, "b", 200.0);
    let judged = |jobs: &[Job], events: &[Event]| came(&again, &[], jobs, &done(events));
    let put_off = [job("a", 195.0, End::PutOff)];
    assert_eq!(judged(&put_off, &[killed("a", 196.0)]), Ok("worker killed"));
    assert!(judged(&put_off, &[killed("c", 196.0)]).is_err(), "it was not that one's");
    assert!(judged(&put_off, &[killed("a", 199.0)]).is_err(), "the broker knew by then");
    assert_eq!(judged(&[], &[killed("c", 196.0)]), Ok("worker killed"));
    assert!(judged(&[], &[killed("c", 130.0)]).is_err(), "it is due again since");
    assert!(judged(&[], &[of_worker(BROKER, "c", [195.0, 196.0])]).is_err(), "that one could still speak");
    let called = came(&again, &[call("a", 150.0)], &[], &done(&[killed("c", 196.0)]));
    assert!(called.is_err(), "whoever called has put it off");
}

#[test]
fn a_message_comes_again_from_who_had_begun_with_it_and_was_killed_before_it_said_how_that_ended() {
    let calls = [call("a", 100.0)];
    let failed = job("a", 102.0, End::Called);
    let again = again(Found::NotYet, "c", 110.0);
    let judged = |jobs: &[Job], when: f64, events: &[Event]| {
        let mut done = done(events);
        let (at, by) = (at(when), "b".to_owned());
        done.said.begun = vec![Begun { connection_id: ID, at, by, delivered: Delivered::First }];
        came(&again, &calls, jobs, &done)
    };
    let alone = std::slice::from_ref(&failed);
    assert_eq!(judged(alone, 108.0, &[killed("b", 109.0)]), Ok("worker killed"));
    assert!(judged(alone, 108.0, &[killed("b", 107.0)]).is_err(), "it had not begun");
    assert!(judged(alone, 108.0, &[killed("b", 111.0)]).is_err(), "it came again before");
    assert!(judged(alone, 108.0, &[killed("d", 109.0)]).is_err(), "somebody else had begun");
    assert!(judged(alone, 100.0, &[killed("b", 109.0)]).is_err(), "it must have said how that ended");
    let ended = [failed.clone(), job("b", 105.5, End::PutOff)];
    assert!(judged(&ended, 104.0, &[killed("b", 109.0)]).is_err(), "it had said that, and the broker knew");
}

#[test]
fn a_job_that_lost_the_databases_reply_finds_its_own_work() {
    let judged = |found, calls: &[LedgerEntry], event: Event| {
        came(&again(found, "b", 200.0), calls, &[], &done(&[event]))
    };
    let cut = |who: &str, until| of_worker(DATABASE, who, [190.0, until]);
    assert_eq!(judged(Found::NotYet, &[], cut("b", 197.0)), Ok("database cut off"));
    assert!(judged(Found::NotYet, &[], cut("b", 195.0)).is_err(), "it has looked since");
    assert!(judged(Found::NotYet, &[], cut("a", 197.0)).is_err(), "that was somebody else's");
    assert!(judged(Found::Newer, &[], cut("b", 197.0)).is_err(), "it has stored nothing");
    assert_eq!(judged(Found::Newer, &[call("b", 189.0)], cut("b", 197.0)), Ok("database cut off"));
}

#[test]
fn a_message_for_a_repair_comes_again_from_whoever_was_hit_last_before() {
    let (calls, again) = ([call("a", 100.0)], again(Found::Fresh, "b", 200.0));
    let stored = job("a", 101.0, End::Stored);
    let judged = |events: &[Event]| came(&again, &calls, std::slice::from_ref(&stored), &done(events));
    let no_cache = of_worker(CACHE, "a", [99.0, 103.0]);
    assert_eq!(judged(&[no_cache.clone(), killed("c", 195.0)]), Ok("worker killed"));
    assert!(judged(&[no_cache.clone(), killed("c", 190.0)]).is_err(), "it would have come before");
    assert!(judged(&[killed("c", 195.0)]).is_err(), "the cache had it");
    assert!(judged(&[of_worker(CACHE, "c", [99.0, 103.0]), killed("c", 195.0)]).is_err());
    // The message for the token is another one.
    assert!(judged(&[no_cache, killed("a", 102.0)]).is_err());
    let repaired = [stored.clone(), job("d", 180.0, End::Nothing(Found::Fresh, Delivered::First))];
    assert_eq!(came(&again, &calls, &repaired, &done(&[killed("d", 181.0)])), Ok("worker killed"));
}

#[test]
fn the_second_of_two_messages_was_published_before_the_token_was_stored() {
    let calls = [call("a", 100.0)];
    let doubled = |id, found, from| {
        let again = Job { connection_id: id, ..again(found, "b", 200.0) };
        let away = event(What::ProducerStoodStill, Whom::Producer("p".into()), [from, from + 1.0]);
        came(&again, &calls, &[], &done(&[away, of_worker(BROKER, "c", [195.0, 196.0])]))
    };
    assert_eq!(doubled(ID, Found::Newer, 50.0), Ok("producer stood still"));
    assert!(doubled(ID, Found::Newer, 110.0).is_err());
    let away = done(&[of_all(What::BrokerAway, [105.0, 111.0]), killed("c", 195.0)]);
    let newer = again(Found::Newer, "b", 200.0);
    assert_eq!(came(&newer, &calls, &[], &away), Ok("broker away"));
    assert!(came(&newer, &calls, &[job("a", 101.0, End::Stored)], &away).is_err());
    assert_eq!(doubled(ID, Found::NotYet, 110.0), Ok("producer stood still"));
    assert!(doubled(0, Found::Newer, 50.0).is_err(), "nobody has added it");
    // It is one of two, but nobody had it before.
    let away = event(What::ProducerStoodStill, Whom::Producer("p".into()), [50.0, 51.0]);
    for events in [vec![away.clone()], vec![away, killed("c", 190.0)]] {
        assert!(came(&newer, &calls, &[], &done(&events)).is_err(), "{events:?}");
    }
}

/// It ran from the tenth second on, and had ended when somebody looked in the 401st.
fn gone(is_refused_start: bool) -> GaveUp {
    GaveUp {
        who: "a".into(),
        started: at(10.0),
        last_seen: at(400.0),
        noticed: at(401.0),
        why: "a: exit code".into(),
        is_in_order: true,
        is_refused_start,
    }
}

fn gave_up(gone: &GaveUp, events: &[Event]) -> Explanation {
    with(&done(events), |reasons| reasons.of_giving_up(gone))
}

#[test]
fn who_has_begun_gives_up_after_it_had_no_session_for_as_long_as_it_waits_for_one() {
    let judged = |events: &[Event]| gave_up(&gone(false), events);
    for what in [BROKER, What::WorkerStoodStill] {
        assert_eq!(judged(&[of_worker(what, "a", [100.0, 400.5])]), Ok(what.as_str()));
    }
    assert_eq!(judged(&[of_all(What::BrokerAway, [100.0, 405.0])]), Ok("broker away"));
    assert!(judged(&[of_all(What::BrokerAway, [340.0, 405.0])]).unwrap_err().contains("exit code"));
    assert!(judged(&[of_all(What::BrokerAway, [102.0, 500.0])]).is_err(), "it did not wait so long");
    assert!(judged(&[of_all(What::BrokerAway, [50.0, 399.0])]).is_err(), "it was back");
    assert!(judged(&[of_worker(BROKER, "b", [50.0, 405.0])]).is_err(), "that was somebody else");
    for what in [DATABASE, CACHE, PROVIDER, What::DatabaseAway, What::RedisAway] {
        assert!(judged(&[of_all(what, [20.0, 405.0])]).is_err(), "{what:?} is waited for");
    }
    // There was no session in between.
    let again = of_worker(BROKER, "a", [300.0, 405.0]);
    assert_eq!(judged(&[again.clone(), of_all(What::BrokerAway, [90.0, 301.0])]), Ok("broker cut off"));
    assert!(judged(&[again, of_all(What::BrokerAway, [90.0, 299.0])]).is_err());
    // It waits since it is there.
    let late = GaveUp { started: at(150.0), ..gone(false) };
    assert!(gave_up(&late, &[of_all(What::BrokerAway, [50.0, 405.0])]).is_err());
    let panicked = GaveUp { is_in_order: false, ..gone(false) };
    assert!(gave_up(&panicked, &[of_all(What::BrokerAway, [50.0, 405.0])]).is_err());
}

#[test]
fn a_start_is_refused_where_there_is_no_database() {
    let judged = |event| gave_up(&gone(true), &[event]);
    assert_eq!(judged(of_worker(DATABASE, "a", [9.0, 11.0])), Ok("database cut off"));
    assert_eq!(judged(of_all(What::DatabaseAway, [400.0, 405.0])), Ok("database away"));
    assert_eq!(judged(of_worker(What::WorkerStoodStill, "a", [20.0, 80.0])), Ok("worker stood still"));
    assert!(judged(of_worker(What::WorkerStoodStill, "a", [20.0, 79.0])).is_err());
    assert!(judged(of_worker(DATABASE, "b", [9.0, 11.0])).is_err());
    assert!(judged(of_worker(DATABASE, "a", [5.0, 9.0])).is_err(), "it was back before");
    assert!(judged(of_all(What::BrokerAway, [9.0, 405.0])).is_err(), "a start does not need it");
    let panicked = GaveUp { is_in_order: false, ..gone(true) };
    assert!(gave_up(&panicked, &[of_all(What::DatabaseAway, [9.0, 405.0])]).is_err());
}

#[test]
fn what_is_told_of_a_violation_is_what_was_done_just_then() {
    let mut done = done(&[killed("a", 100.0), killed("b", 50.0)]);
    let (asked, ended) = (at(101.0), at(102.0));
    done.ends.push(troupe::End { who: "c".into(), asked, ended, wrong: None });
    let told = with(&done, |reasons| reasons.chronicle(at(99.0), at(103.0)));
    assert!(told.contains("worker killed (a)") && told.contains("c asked to end") && !told.contains("(b)"));
}
