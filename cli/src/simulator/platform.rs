//! The platform's internal refresh-connection endpoint: a connection's channel row in, the same row out, refreshed.

use axum::http::{Method, StatusCode, header};
use serde_json::{Map, Value};

use super::reply::{Answer, Reply};

pub(super) const ACCOUNT: &str = "connectionId";

const DETAILS: &str = "additionalDetails";
/// The member that marks details as having been here.
const MARK: &str = "refreshed";
/// What a request must carry besides the details, which may be null.
const REQUIRED: [&str; 4] = [ACCOUNT, "id", "account_id", "channel_id"];

/// Answers with the row, its details marked with the number of this refresh. `next` gives the number.
pub(super) fn answer(method: &Method, row: Option<Map<String, Value>>, next: impl FnOnce() -> u64) -> Answer {
    if method != Method::POST {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "method not allowed").with(header::ALLOW, "POST");
    }
    let Some(mut row) = row else {
        return refused(StatusCode::BAD_REQUEST, "the body is not a JSON object");
    };
    if let Some(missing) = REQUIRED.into_iter().find(|name| !row.contains_key(*name)) {
        return refused(StatusCode::BAD_REQUEST, &format!("{missing} is missing"));
    }
    let details = row.entry(DETAILS).or_insert(Value::Null);
    if details.is_null() {
        *details = Value::Object(Map::new());
    }
    let Value::Object(details) = details else {
        return refused(StatusCode::BAD_REQUEST, "additionalDetails is not a JSON object");
    };
    details.insert(MARK.to_owned(), Value::from(next()));
    Answer::plain(Reply::json(StatusCode::OK, Value::Object(row).to_string()))
}

fn refused(status: StatusCode, error: &str) -> Answer {
    Answer::plain(Reply::json(status, format!(r#"{{"error":"{error}"}}"#)))
}
