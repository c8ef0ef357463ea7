//! What workers say in their logs: of messages that came again although their job had ended, which is an acknowledgement that
//! did not reach the broker; of what they have stored; and of answers that are lost.

use chrono::{DateTime, Utc};
use freshet_tests::binaries::Ended;

/// So much has to be logged for it.
pub(crate) const FILTER: &str = "error,freshet_worker::job=debug";

/// All that workers have said that have ended.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) came_again: Vec<Again>,
    pub(crate) stored: Vec<Stored>,
    /// Connections whose refresh token may be spent, and since when.
    pub(crate) quarantined: Vec<(i64, DateTime<Utc>)>,
}

/// A message that came again and found nothing to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Again {
    pub(crate) connection_id: i64,
    pub(crate) at: DateTime<Utc>,
    /// Whoever it came to.
    pub(crate) to: String,
    /// Whether another token stood there; otherwise the attempt that it asked for had failed, or was put off.
    pub(crate) is_done: bool,
}

/// A token that is in its row and in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) connection_id: i64,
    /// Since when, at the latest.
    pub(crate) at: DateTime<Utc>,
}

impl Said {
    /// Reads the log of one.
    pub(crate) fn hear(&mut self, caller: &str, ended: &Ended) {
        for line in ended.stderr.lines() {
            self.came_again.extend(again(caller, line));
            self.stored.extend(stored(line));
            self.quarantined.extend(quarantined(line));
        }
    }
}

fn again(caller: &str, line: &str) -> Option<Again> {
    let line = read(line, "nothing to do")?;
    let is_again = line.get("redelivered")?.as_bool()?;
    let is_done = match line.get("reason")?.as_str()? {
        "generation_moved_on" | "already_fresh" => true,
        "not_yet" => false,
        _ => return None,
    };
    is_again.then_some(())?;
    let Stored { connection_id, at } = named(&line)?;
    Some(Again { connection_id, at, to: caller.to_owned(), is_done })
}

fn stored(line: &str) -> Option<Stored> {
    named(&read(line, "refreshed")?)
}

fn quarantined(line: &str) -> Option<(i64, DateTime<Utc>)> {
    let line = read(line, "quarantined: ")?;
    Some((line.get("connection_id")?.as_i64()?, line.get("unknown_since")?.as_str()?.parse().ok()?))
}

/// The line, if its message begins so.
fn read(line: &str, message: &str) -> Option<serde_json::Value> {
    if !line.contains(message) {
        return None;
    }
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    line.get("message")?.as_str()?.starts_with(message).then_some(line)
}

fn named(line: &serde_json::Value) -> Option<Stored> {
    Some(Stored {
        connection_id: line.get("span")?.get("connection_id")?.as_i64()?,
        at: line.get("timestamp")?.as_str()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(reason: &str, redelivered: bool) -> String {
        format!(
            r#"{{"timestamp":"2026-01-01T00:00:01.5Z","level":"DEBUG","message":"nothing to do","reason":"{reason}","redelivered":{redelivered},"target":"freshet_worker::job","span":{{"connection_id":7,"name":"job"}}}}"#
        )
    }

    #[test]
    fn only_what_was_ended_and_came_again_counts() {
        let at = "2026-01-01T00:00:01.5Z".parse().unwrap();
        let expected = |is_done| Some(Again { connection_id: 7, at, to: "worker-1".into(), is_done });
        assert_eq!(again("worker-1", &line("generation_moved_on", true)), expected(true));
        assert_eq!(again("worker-1", &line("not_yet", true)), expected(false));
        assert!(again("worker-1", &line("already_fresh", true)).is_some());
        for other in [line("generation_moved_on", false), line("in_flight", true), "started".into()] {
            assert_eq!(again("worker-1", &other), None, "{other}");
        }
    }

    #[test]
    fn since_when_an_answer_is_lost_is_said_with_its_quarantine() {
        let text = r#"{"level":"ERROR","message":"quarantined: the answer is lost","connection_id":8,"unknown_since":"2026-01-01T00:00:01.5Z"}"#;
        assert_eq!(quarantined(text), Some((8, "2026-01-01T00:00:01.5Z".parse().unwrap())));
        assert_eq!(quarantined(&text.replace("quarantined: ", "")), None);
    }

    #[test]
    fn what_is_stored_is_said_by_its_own_line() {
        let at = "2026-01-01T00:00:01.5Z".parse().unwrap();
        let refreshed = line("", false).replace("nothing to do", "refreshed");
        assert_eq!(stored(&refreshed), Some(Stored { connection_id: 7, at }));
        assert_eq!(stored(&line("refreshed", false)), None);
    }
}
