//! Messages that came again although their job was done: an acknowledgement that did not reach the broker.

use chrono::{DateTime, Utc};
use freshet_tests::binaries::Ended;

/// What a worker says of them, for which this much has to be logged.
pub(crate) const FILTER: &str = "error,freshet_worker::job=debug";

/// A message that came again and found nothing to do, for another token stood there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Again {
    pub(crate) connection_id: i64,
    pub(crate) at: DateTime<Utc>,
    /// Whoever it came to.
    pub(crate) to: String,
}

/// What it says of them in its log.
pub(crate) fn came_again(caller: &str, ended: &Ended) -> Vec<Again> {
    ended.stderr.lines().filter_map(|line| read(caller, line)).collect()
}

fn read(caller: &str, line: &str) -> Option<Again> {
    if !line.contains("nothing to do") {
        return None;
    }
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let is_again = line.get("redelivered")?.as_bool()?;
    let is_done = matches!(line.get("reason")?.as_str()?, "generation_moved_on" | "already_fresh");
    (is_again && is_done).then_some(())?;
    Some(Again {
        connection_id: line.get("span")?.get("connection_id")?.as_i64()?,
        at: line.get("timestamp")?.as_str()?.parse().ok()?,
        to: caller.to_owned(),
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
    fn only_what_was_done_and_came_again_counts() {
        let at = "2026-01-01T00:00:01.5Z".parse().unwrap();
        let again = Again { connection_id: 7, at, to: "worker-1".into() };
        assert_eq!(read("worker-1", &line("generation_moved_on", true)), Some(again));
        assert!(read("worker-1", &line("already_fresh", true)).is_some());
        for other in [line("generation_moved_on", false), line("in_flight", true), "started".into()] {
            assert_eq!(read("worker-1", &other), None, "{other}");
        }
    }
}
