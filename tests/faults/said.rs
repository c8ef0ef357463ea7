//! What workers say in their logs: how each job ended, for then its message was acknowledged; and of answers that are lost, or
//! wait in a queue.

use chrono::{DateTime, Utc};
use freshet_tests::binaries::Ended;
use serde_json::Value;

/// So much has to be logged for it.
pub(crate) const FILTER: &str = "error,freshet_worker::job=debug,freshet_worker::parked=info";

/// All that workers have said that have ended.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) jobs: Vec<Job>,
    pub(crate) quarantined: Vec<Quarantined>,
    pub(crate) parked: Parked,
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

    fn read(&mut self, caller: &str, line: &str) {
        // Whoever complains before it has a log does so in plain words.
        let Ok(line) = serde_json::from_str::<Value>(line) else { return };
        let Some(message) = line.get("message").and_then(Value::as_str) else { return };
        self.parked.all += u64::from(message.starts_with(PARKED));
        let outcome = line.get("outcome").and_then(Value::as_str);
        self.parked.stored += u64::from(message.starts_with(TAKEN_UP) && outcome == Some("refreshed"));
        self.quarantined.extend(quarantined(caller, message, &line));
        self.jobs.extend(job(caller, message, &line));
    }
}

const PARKED: &str = "the database is away: the answer waits in its queue";
const TAKEN_UP: &str = "a parked answer was taken up";

fn job(caller: &str, message: &str, line: &Value) -> Option<Job> {
    let connection_id = line.get("span")?.get("connection_id")?.as_i64()?;
    let at = line.get("timestamp")?.as_str()?.parse().ok()?;
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
    let delivered = if line.get("redelivered")?.as_bool()? { Delivered::Again } else { Delivered::First };
    Some(End::Nothing(found, delivered))
}

fn quarantined(caller: &str, message: &str, line: &Value) -> Option<Quarantined> {
    message.starts_with("quarantined: ").then_some(())?;
    Some(Quarantined {
        connection_id: line.get("connection_id")?.as_i64()?,
        unknown_since: line.get("unknown_since")?.as_str()?.parse().ok()?,
        by: caller.to_owned(),
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
        let text = r#"{"level":"ERROR","message":"quarantined: the answer is lost","connection_id":8,"unknown_since":"2026-01-01T00:00:01.5Z"}"#;
        let unknown_since = "2026-01-01T00:00:01.5Z".parse().unwrap();
        let expected = Quarantined { connection_id: 8, unknown_since, by: "worker-1".into() };
        assert_eq!(heard(&[text.to_owned()]).quarantined, [expected]);
        assert_eq!(heard(&[text.replace("quarantined: ", "")]).quarantined, []);
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
