//! Messages: anybody who may publish can put anything into the queue.

use anyhow::{Result, ensure};
use freshet_shared::domain::message::RefreshMessage;

use crate::campaign::{CANARY, Reading, Target, ensure_discreet};

pub(crate) const TARGET: Target = Target {
    name: "messages",
    dictionary: &[
        CANARY,
        "\"c4n4ry-s3cret\"",
        "{\"c4n4ry-s3cret\":1}",
        "\"v\":1,",
        "\"connection_id\":",
        "\"generation\":",
        "\"provider\":\"fynd\"",
        "\"lane\":\"urgent\"",
        "\"lane\":",
        "early",
        "\"due_at\":",
        "\"1970-01-01T00:00:00Z\"",
        "\"+262143-01-01T00:00:00+23:59\"",
        "null",
        "true",
        "[",
        "{\"a\":",
        "\\ud800",
        "\\u0000",
        "\u{feff}",
    ],
    seeds: Vec::new,
    read,
};

fn read(input: &[u8]) -> Result<Reading> {
    match RefreshMessage::decode(input) {
        Ok(message) => {
            let again = RefreshMessage::decode(&message.encode());
            ensure!(again.as_ref() == Ok(&message), "{message:?} comes back as {again:?}");
            let is_known = message.provider == "fynd" || message.provider == "very";
            Ok(Reading::Accepted(format!("{} {is_known} {}", message.lane, message.connection_id.0.signum())))
        }
        Err(error) => {
            ensure_discreet(&error.to_string())?;
            ensure_discreet(&format!("{error:?}"))?;
            Ok(Reading::Refused(format!("{}: {error}", error.reason())))
        }
    }
}
