//! What workers say in their logs: that a job begins, and how it ended, for then its message was acknowledged; whose call was
//! written down; and of answers that are lost, or wait in a queue.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use freshet_tests::binaries::Ended;
use serde_json::Value;

/// So much has to be logged for it.
pub(crate) const FILTER: &str =
    "error,freshet_worker::job=debug,freshet_worker::granting=debug,freshet_worker::parked=info";

/// All that workers have said that have ended.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) begun: Vec<Begun>,
    pub(crate) jobs: Vec<Job>,
    /// Calls that spend a refresh token, in the order in which each worker had written them down.
    pub(crate) written: Vec<Written>,
    /// By the number of a call: whoever was about to write it down.
    writers: HashMap<String, String>,
    pub(crate) quarantined: Vec<Quarantined>,
    pub(crate) parked: Parked,
}

/// The beginning of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Begun {
    pub(crate) connection_id: i64,
    pub(crate) at: DateTime<Utc>,
    pub(crate) by: String,
    pub(crate) delivered: Delivered,
}

/// A call that stands in the database, and was not sent before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) connection_id: i64,
    pub(crate) at: DateTime<Utc>,
    pub(crate) by: String,
}

/// The end of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Job {
    pub(crate) connection_id: i64,
    /// When it was said. What a job stores is stored by then.
    pub(crate) at: DateTime<Utc>,
    /// The worker that had its message.
    pub(crate) by: String,
    pub(crate) end: End,
}

/// How a job ended. Its message was acknowledged then, unless it was given back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The token is in its row, and in the cache or on its way there.
    Stored,
    /// The call failed, or somebody else was faster, or the answer waits in a queue.
    Called,
    /// No call was made now.
    PutOff,
    /// The message goes back to its queue.
    GivenBack,
    /// Nothing was to be done.
    Nothing(Found, Delivered),
}

/// What stood on the row of a message for which there was nothing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    /// A newer token than the message asks for.
    Newer,
    /// The token of which the message speaks, and it is good: the cache is to be repaired.
    Fresh,
    /// An attempt that failed, or was put off, and the next one is not due.
    NotYet,
    /// Anything else.
    Other,
}

/// Whether somebody had the message before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivered {
    First,
    Again,
}

/// A connection whose refresh token may be spent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Quarantined {
    pub(crate) connection_id: i64,
    /// When the call was sent of which nobody knows the answer.
    pub(crate) unknown_since: DateTime<Utc>,
    /// Who says so: whoever called, or whoever came after it.
    pub(crate) by: String,
    /// The number under which that call was written down.
    pub(crate) attempt: Option<String>,
}

/// Answers that a worker could not store before its end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Parked {
    pub(crate) all: u64,
    /// Of them by another worker.
    pub(crate) stored: u64,
}

impl Said {
    /// Reads the log of one.
    pub(crate) fn hear(&mut self, caller: &str, ended: &Ended) {
        for line in ended.stderr.lines() {
            self.read(caller, line);
        }
    }

    /// The worker that wrote this call down, or died before it had.
    pub(crate) fn writer_of(&self, attempt: &str) -> Option<&str> {
        self.writers.get(attempt).map(String::as_str)
    }

    /// What the harness itself knows of it, in a test.
    #[cfg(test)]
    pub(crate) fn note_writer(&mut self, attempt: &str, worker: &str) {
        self.writers.insert(attempt.to_owned(), worker.to_owned());
    }

    fn read(&mut self, caller: &str, line: &str) {
        // Whoever complains before it has a log does so in plain words.
        let Ok(line) = serde_json::from_str::<Value>(line) else { return };
        let Some(message) = line.get("message").and_then(Value::as_str) else { return };
        self.parked.all += u64::from(message.starts_with(PARKED));
        let outcome = line.get("outcome").and_then(Value::as_str);
        self.parked.stored += u64::from(message.starts_with(TAKEN_UP) && outcome == Some("refreshed"));
        self.quarantined.extend(quarantined(caller, message, &line));
        if message == WRITING
            && let Some(attempt) = line.get("attempt").and_then(Value::as_str)
        {
            self.writers.insert(attempt.to_owned(), caller.to_owned());
        }
        self.begun.extend(begun(caller, message, &line));
        self.written.extend(written(caller, message, &line));
        self.jobs.extend(job(caller, message, &line));
    }
}

const PARKED: &str = "the database is away: the answer waits in its queue";
const TAKEN_UP: &str = "a parked answer was taken up";
const WRITING: &str = "writing a call down";
const WRITTEN: &str = "call written down";
const BEGINS: &str = "job begins";

/// The connection that a job is about, and when it said this.
fn of_job(line: &Value) -> Option<(i64, DateTime<Utc>)> {
    let connection_id = line.get("span")?.get("connection_id")?.as_i64()?;
    Some((connection_id, line.get("timestamp")?.as_str()?.parse().ok()?))
}

fn begun(caller: &str, message: &str, line: &Value) -> Option<Begun> {
    let (connection_id, at) = of_job(line).filter(|_| message == BEGINS)?;
    Some(Begun { connection_id, at, by: caller.to_owned(), delivered: delivered(line)? })
}

fn written(caller: &str, message: &str, line: &Value) -> Option<Written> {
    let (connection_id, at) = of_job(line).filter(|_| message == WRITTEN)?;
    Some(Written { connection_id, at, by: caller.to_owned() })
}

fn delivered(line: &Value) -> Option<Delivered> {
    Some(if line.get("redelivered")?.as_bool()? { Delivered::Again } else { Delivered::First })
}

fn job(caller: &str, message: &str, line: &Value) -> Option<Job> {
    let (connection_id, at) = of_job(line)?;
    Some(Job { connection_id, at, by: caller.to_owned(), end: end(message, line)? })
}

fn end(message: &str, line: &Value) -> Option<End> {
    const ENDS: [(&str, End); 7] = [
        ("refreshed", End::Stored),
        ("refresh failed: ", End::Called),
        ("the connection moved on meanwhile", End::Called),
        (PARKED, End::Called),
        ("put off", End::PutOff),
        ("message goes back to its queue", End::GivenBack),
        ("cache repair not planned, for the database is away", End::GivenBack),
    ];
    if message == "nothing to do" {
        return nothing(line);
    }
    ENDS.into_iter().find(|(words, _)| message.starts_with(words)).map(|(_, end)| end)
}

fn nothing(line: &Value) -> Option<End> {
    let found = match line.get("reason")?.as_str()? {
        "generation_moved_on" => Found::Newer,
        "already_fresh" => Found::Fresh,
        "not_yet" => Found::NotYet,
        _ => Found::Other,
    };
    Some(End::Nothing(found, delivered(line)?))
}

fn quarantined(caller: &str, message: &str, line: &Value) -> Option<Quarantined> {
    message.starts_with("quarantined: ").then_some(())?;
    Some(Quarantined {
        connection_id: line.get("connection_id")?.as_i64()?,
        unknown_since: line.get("unknown_since")?.as_str()?.parse().ok()?,
        by: caller.to_owned(),
        attempt: line.get("attempt").and_then(Value::as_str).map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(lines: &[String]) -> Said {
        let mut said = Said::default();
        lines.iter().for_each(|line| said.read("worker-1", line));
        said
    }

    /// A line of a job.
    fn line(message: &str, more: &str) -> String {
        format!(
            r#"{{"timestamp":"2026-01-01T00:00:01.5Z","level":"DEBUG","message":"{message}",{more}"target":"freshet_worker::job","span":{{"connection_id":7,"name":"job"}}}}"#
        )
    }

    fn end_of(message: &str, more: &str) -> Option<End> {
        let jobs = heard(&[line(message, more)]).jobs;
        let [job] = &jobs[..] else { return None };
        let at = "2026-01-01T00:00:01.5Z".parse().unwrap();
        assert_eq!((job.connection_id, job.at, job.by.as_str()), (7, at, "worker-1"));
        Some(job.end)
    }

    #[test]
    fn each_end_of_a_job_is_known_by_its_words() {
        let cases = [
            ("refreshed", End::Stored),
            ("refresh failed: no answer", End::Called),
            ("the connection moved on meanwhile; its newer token stands", End::Called),
            ("the database is away: the answer waits in its queue for another worker", End::Called),
            ("put off", End::PutOff),
            ("message goes back to its queue: the database is away", End::GivenBack),
            ("cache repair not planned, for the database is away and this process ends: ", End::GivenBack),
        ];
        for (message, end) in cases {
            assert_eq!(end_of(message, ""), Some(end), "{message}");
        }
        for other in ["waiting for the database", "not refreshed", "message not settled"] {
            assert_eq!(end_of(other, ""), None, "{other}");
        }
        assert_eq!(heard(&["plain words: refreshed".into()]).jobs, []);
    }

    #[test]
    fn what_was_found_and_whether_the_message_had_come_before_is_told_apart() {
        let found = |reason: &str, redelivered: bool| {
            end_of("nothing to do", &format!(r#""reason":"{reason}","redelivered":{redelivered},"#))
        };
        let nothing = |found, delivered| Some(End::Nothing(found, delivered));
        assert_eq!(found("generation_moved_on", true), nothing(Found::Newer, Delivered::Again));
        assert_eq!(found("already_fresh", true), nothing(Found::Fresh, Delivered::Again));
        assert_eq!(found("not_yet", false), nothing(Found::NotYet, Delivered::First));
        assert_eq!(found("in_flight", true), nothing(Found::Other, Delivered::Again));
    }

    #[test]
    fn since_when_an_answer_is_lost_is_said_with_its_quarantine() {
        let text = r#"{"level":"ERROR","message":"quarantined: the answer is lost","connection_id":8,"unknown_since":"2026-01-01T00:00:01.5Z","attempt":"0a"}"#;
        let unknown_since = "2026-01-01T00:00:01.5Z".parse().unwrap();
        let attempt = Some("0a".to_owned());
        let expected = Quarantined { connection_id: 8, unknown_since, by: "worker-1".into(), attempt };
        let unnumbered = Quarantined { attempt: None, ..expected.clone() };
        assert_eq!(heard(&[text.to_owned()]).quarantined, [expected]);
        assert_eq!(heard(&[text.replace(r#","attempt":"0a""#, "")]).quarantined, [unnumbered]);
        assert_eq!(heard(&[text.replace("quarantined: ", "")]).quarantined, []);
    }

    #[test]
    fn a_job_says_that_it_begins_and_whose_call_is_written_down() {
        let at = "2026-01-01T00:00:01.5Z".parse().unwrap();
        for (redelivered, delivered) in [(false, Delivered::First), (true, Delivered::Again)] {
            let said = heard(&[line("job begins", &format!(r#""redelivered":{redelivered},"#))]);
            assert_eq!(said.begun, [Begun { connection_id: 7, at, by: "worker-1".into(), delivered }]);
            assert_eq!(said.jobs, [], "it has not ended");
        }
        let said = heard(&[line("writing a call down", r#""attempt":"0a","#)]);
        assert_eq!((said.writer_of("0a"), said.writer_of("0b")), (Some("worker-1"), None));
        assert_eq!(said.written, [], "it may die before");
        let said = heard(&[line("call written down", r#""attempt":"0a","#)]);
        assert_eq!(said.written, [Written { connection_id: 7, at, by: "worker-1".into() }]);
    }

    #[test]
    fn answers_are_counted_that_were_parked_and_those_of_them_that_were_stored() {
        let parked = line("the database is away: the answer waits in its queue for another worker", "");
        let taken_up = |outcome: &str| {
            format!(
                r#"{{"message":"a parked answer was taken up","outcome":"{outcome}","target":"freshet_worker::parked"}}"#
            )
        };
        let said = heard(&[parked.clone(), parked, taken_up("refreshed"), taken_up("stale")]);
        assert_eq!(said.parked, Parked { all: 2, stored: 1 });
    }
}
