//! Every secret of a fleet bears a mark; everything that there is to do is done, refreshes come to every end that there
//! is; and the mark is seen nowhere.

mod commands;
mod ends;
mod panics;
mod planted;
mod refreshes;
mod scene;
mod searched;
mod seen;
mod tap;

use serde_json::{Value, json};

/// Stands in every secret. Letters and digits: percent-encoding and JSON leave them as they are, unless they need not.
const MARK: &str = "c4n4ry5ecret";

/// Needs encoding wherever it stands, and differently in each place.
fn secret(id: i64, what: &str) -> String {
    format!("{MARK} {what}/{id}+&%=~\"'é end")
}

fn fynd(id: i64) -> Value {
    json!({"x-integration-id": secret(id, "user"), "x-integration-token": secret(id, "password")})
}

fn very(id: i64) -> Value {
    json!({
        "useSandbox": false, "companyRefId": secret(id, "company"), "apiKey": format!("{MARK}-key-{id}"),
        "clientId": secret(id, "client"), "clientSecret": secret(id, "secret")
    })
}

/// What every process logs, sends and shows: all that there is.
fn everything_told(collector: &str) -> [(String, String); 4] {
    [
        ("FRESHET_MONITORING__LISTEN", "127.0.0.1:0"),
        ("FRESHET_TELEMETRY__OTLP_ENDPOINT", collector),
        ("FRESHET_TELEMETRY__FILTER", "trace"),
        ("FRESHET_TELEMETRY__FORMAT", "json"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
}
