//! How processes end that are asked to: in good order and in time, with all that they had begun.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};

use crate::events::Event;
use crate::explanations::Reasons;
use crate::mischief::Done;
use crate::said::{End, Job};
use crate::stage::{STATEMENT_TIMEOUT, kind_of};
use crate::troupe::{self, Kind};

/// A pool may hold connections for so long that broke with whoever was away before, for a person who looks for the reason.
const BEFORE: TimeDelta = TimeDelta::seconds(30);

/// Those that nothing excuses: a process may give back what it had begun where there is no database.
pub(crate) fn bad_ends(reasons: &Reasons<'_>, excused: &mut u64) -> Vec<String> {
    let mut bad = Vec::new();
    for end in &reasons.done.ends {
        let Some(wrong) = &end.wrong else { continue };
        if is_excused(end, &reasons.done.said.jobs, &reasons.done.events) {
            *excused += 1;
        } else {
            let meanwhile = reasons.chronicle(end.asked - BEFORE, end.ended);
            bad.push(format!("{}: {} (asked at {}){meanwhile}", end.who, wrong.what, end.asked));
        }
    }
    bad
}

/// So long after SIGTERM a worker has its last call: ten seconds before its grace period ends.
const LAST_CALL: TimeDelta = TimeDelta::seconds(15);
/// A job that is given back has waited for its last statement for so long.
const LAST_STATEMENT: TimeDelta = STATEMENT_TIMEOUT;

/// Jobs are given back only by who has no database just then. Whoever is not ready when its grace period ends had none at its last
/// call or after: an answer that was not stored by then is parked, unless there is no broker either; and a call that is still to be
/// written down, and was not sent, waits for the database for 20 s from whenever its turn came.
fn is_excused(end: &troupe::End, jobs: &[Job], events: &[Event]) -> bool {
    let is_without =
        |from, until| events.iter().any(|event| event.is_without_database(&end.who, from, until));
    match end.wrong.as_ref().map(|wrong| wrong.kind) {
        Some(Kind::GraceOver) => is_without(end.asked + LAST_CALL, end.ended),
        Some(Kind::GivenBack) => {
            let mut given_back = jobs
                .iter()
                .filter(|job| job.by == end.who && job.end == End::GivenBack && job.at >= end.asked)
                .peekable();
            given_back.peek().is_some() && given_back.all(|job| is_without(job.at - LAST_STATEMENT, job.at))
        }
        Some(Kind::Other) | None => false,
    }
}

/// When jobs for one connection began in one worker, and when they ended.
#[derive(Default)]
struct Course {
    begun: Vec<DateTime<Utc>>,
    ended: Vec<DateTime<Utc>>,
}

impl Course {
    /// A job may say twice that it goes back, but nothing before it begins.
    fn is_open(&self) -> bool {
        self.begun.len() > self.ended.len() || self.begun.iter().max() > self.ended.iter().max()
    }
}

/// What was begun by a worker that was asked to end and was ready in time, and of whose end it says nothing: its message comes
/// again, and whoever has it then finds nothing wrong with it.
pub(crate) fn dropped(done: &Done) -> Vec<String> {
    let is_ready = |end: &&troupe::End| match end.wrong.as_ref().map(|wrong| wrong.kind) {
        None | Some(Kind::GivenBack) => true,
        Some(Kind::GraceOver | Kind::Other) => false,
    };
    let ready = done.ends.iter().filter(is_ready);
    let asked: HashMap<&str, DateTime<Utc>> = ready.map(|end| (end.who.as_str(), end.asked)).collect();
    let mut courses: BTreeMap<(&str, i64), Course> = BTreeMap::new();
    for begun in done.said.begun.iter().filter(|begun| asked.contains_key(begun.by.as_str())) {
        courses.entry((&begun.by, begun.connection_id)).or_default().begun.push(begun.at);
    }
    for job in &done.said.jobs {
        if let Some(course) = courses.get_mut(&(job.by.as_str(), job.connection_id)) {
            course.ended.push(job.at);
        }
    }
    let open = courses.into_iter().filter(|(_, course)| course.is_open());
    open.map(|((who, id), course)| {
        let (kind, last) = (kind_of(id).1, course.begun.iter().max());
        format!(
            "{kind} connection {id}: begun by {who}, last at {last:?}, asked to end at {:?}",
            asked.get(who)
        )
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use crate::events::{What, Whom};
    use crate::network::Part;
    use crate::said::{Begun, Delivered};

    use std::sync::Arc;

    use freshet_shared::configuration::Configuration;
    use freshet_worker::pool::PoolSettings;

    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(second)
    }

    /// It was asked to end in the hundredth second.
    fn end(kind: Option<Kind>, ended: i64) -> troupe::End {
        let wrong = kind.map(|kind| troupe::Wrong { what: "it".into(), kind });
        troupe::End { who: "a".into(), asked: at(100), ended: at(ended), wrong }
    }

    fn away(who: &str, from: i64, until: i64) -> [Event; 1] {
        let (what, whom) = (What::CutOff(Part::Database), Whom::Worker(who.into()));
        [Event { what, whom, from: at(from), until: at(until) }]
    }

    fn job(by: &str, said: i64, end: End) -> Job {
        Job { connection_id: 7, at: at(said), by: by.into(), end }
    }

    #[test]
    fn only_what_is_given_back_while_there_is_no_database_is_excused() {
        let given_back = [job("a", 90, End::GivenBack), job("a", 105, End::GivenBack)];
        let judged = |kind, jobs: &[Job], events: &[Event]| is_excused(&end(Some(kind), 106), jobs, events);
        assert!(judged(Kind::GivenBack, &given_back, &away("a", 99, 101)));
        assert!(judged(Kind::GivenBack, &given_back, &away("a", 105, 110)));
        assert!(
            !judged(Kind::GivenBack, &given_back, &away("a", 90, 100)),
            "it was back when it was asked last"
        );
        assert!(!judged(Kind::GivenBack, &given_back, &away("a", 106, 110)), "it went away after");
        assert!(!judged(Kind::GivenBack, &given_back, &away("b", 99, 110)), "somebody else had no database");
        assert!(!judged(Kind::GivenBack, &[], &away("a", 99, 110)), "nobody knows when");
        assert!(!judged(Kind::Other, &given_back, &away("a", 99, 110)), "a panic, or whatever it was");
        let twice = [&given_back[..], &[job("a", 112, End::GivenBack)]].concat();
        assert!(!judged(Kind::GivenBack, &twice, &away("a", 99, 105)), "each of them needs a reason");
        let slow = Event { what: What::Slow(Part::Database), ..away("a", 99, 110)[0].clone() };
        assert!(!judged(Kind::GivenBack, &given_back, &[slow]), "it was there");
    }

    #[test]
    fn the_last_call_comes_when_the_product_says() {
        let grace = Configuration::load(None, &HashMap::new()).unwrap().worker.shutdown_grace;
        let settings = PoolSettings { concurrency: 1, grace, activity: Arc::default() };
        assert_eq!(TimeDelta::from_std(settings.until_last_call()).unwrap(), LAST_CALL);
    }

    #[test]
    fn a_grace_period_that_is_over_is_excused_by_a_database_that_was_away_at_the_last_call_or_after() {
        let judged = |events: &[Event]| is_excused(&end(Some(Kind::GraceOver), 126), &[], events);
        assert!(judged(&away("a", 90, 115)) && judged(&away("a", 125, 130)));
        assert!(!judged(&away("a", 90, 114)), "it was back before, and all could be stored");
        assert!(!judged(&away("a", 127, 130)) && !judged(&away("b", 90, 130)) && !judged(&[]));
    }

    #[test]
    fn a_job_that_was_begun_and_dropped_by_who_was_asked_to_end_is_found() {
        let begun = |by: &str, begun| Begun {
            connection_id: 7,
            at: at(begun),
            by: by.into(),
            delivered: Delivered::First,
        };
        let found = |kind, begun: Vec<Begun>, jobs: Vec<Job>| {
            let mut done = Done { ends: vec![end(kind, 101)], ..Done::default() };
            (done.said.begun, done.said.jobs) = (begun, jobs);
            dropped(&done).len()
        };
        assert_eq!(found(None, vec![begun("a", 99)], vec![]), 1, "it waited for leave to call");
        assert_eq!(found(None, vec![begun("a", 99)], vec![job("a", 100, End::Stored)]), 0);
        assert_eq!(
            found(None, vec![begun("a", 99)], vec![job("b", 103, End::Stored)]),
            1,
            "another one did it"
        );
        assert_eq!(
            found(None, vec![begun("a", 99)], vec![job("a", 90, End::PutOff)]),
            1,
            "that was one before"
        );
        let one_of_two = found(None, vec![begun("a", 80), begun("a", 99)], vec![job("a", 100, End::PutOff)]);
        assert_eq!(one_of_two, 1);
        assert_eq!(found(None, vec![begun("b", 99)], vec![]), 0, "that one was killed");
        assert_eq!(
            found(Some(Kind::GivenBack), vec![begun("a", 99)], vec![]),
            1,
            "another one was given back"
        );
        assert_eq!(found(Some(Kind::GraceOver), vec![begun("a", 99)], vec![]), 0, "it has said so");
    }
}
