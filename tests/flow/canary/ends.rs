//! The ends that refreshes come to.

use freshet_cli::simulator::{Matcher, Reply, ScriptedAnswer, StatusCode};
use freshet_shared::domain::failure::FailureClass;
use freshet_tests::fleet::{FYND, TestFleet, VERY};
use serde_json::{Value, json};

use super::{MARK, fynd, secret, very};

/// Connections of the model, and of a provider at an address that is nobody's to call.
pub(super) const MODEL: &str = "31";
const GUARDED: &str = "32";

/// A connection, and what its refresh comes to.
pub(super) struct End {
    pub(super) id: i64,
    pub(super) integration_type: &'static str,
    pub(super) input: Value,
    /// `None` is a success.
    pub(super) class: Option<FailureClass>,
    pub(super) at_rest: AtRest,
}

/// How a row's secrets stand in MySQL.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AtRest {
    Plain,
    /// Under a key that the worker has.
    Sealed,
    /// As the ciphertext of another row.
    OutOfAnotherRow,
}

/// One connection each, every class among them.
pub(super) fn ends() -> Vec<End> {
    use FailureClass::*;
    let plain = |id, integration_type, input, class| End {
        id,
        integration_type,
        input,
        class,
        at_rest: AtRest::Plain,
    };
    // Its secret is the operator's.
    let client = || json!({"client_id": format!("{MARK}-client")});
    let sandbox = json!({
        "useSandbox": true, "companyRefId": secret(14, "company"), "apiKey": format!("{MARK}-key-14"),
        "clientId": secret(14, "client"), "clientSecret": secret(14, "secret")
    });
    // As if it were sealed with a key that is gone.
    let of_a_lost_key = json!({"client_id": format!("freshet:1:gone:{MARK}")});
    let mut ends = vec![
        plain(1, FYND, fynd(1), None),
        plain(2, VERY, very(2), None),
        plain(3, MODEL, client(), None),
        plain(4, FYND, fynd(4), Some(InvalidCredentials)),
        plain(5, FYND, fynd(5), Some(RateLimited)),
        plain(6, FYND, fynd(6), Some(ServerError)),
        plain(7, FYND, fynd(7), Some(MalformedAnswer)),
        plain(8, FYND, Value::String(secret(8, "no object")), Some(Misconfigured)),
        plain(9, FYND, fynd(9), Some(UnstorableToken)),
        plain(10, FYND, fynd(10), Some(EgressBlocked)),
        plain(11, MODEL, client(), Some(InvalidGrant)),
        plain(12, VERY, very(12), Some(InvalidClient)),
        plain(13, MODEL, client(), Some(AnswerLost)),
        plain(14, VERY, sandbox, Some(Network)),
        plain(15, MODEL, of_a_lost_key, Some(UnreadableSecret)),
        plain(16, GUARDED, json!({"key": secret(16, "key")}), Some(EgressBlocked)),
    ];
    let sealed = |end: End| End { at_rest: AtRest::Sealed, ..end };
    ends.extend([
        sealed(plain(17, FYND, fynd(17), None)),
        sealed(plain(18, VERY, very(18), None)),
        sealed(plain(19, MODEL, client(), None)),
        sealed(plain(20, FYND, fynd(20), Some(ServerError))),
        End { at_rest: AtRest::OutOfAnotherRow, ..plain(21, FYND, fynd(21), Some(UnreadableSecret)) },
    ]);
    ends
}

/// A provider whose name leads to where no provider is.
pub(super) const GUARDED_DEFINITION: &str = r#"
name = "guarded"
title = "Guarded"
integration_type = "32"
[[inputs]]
key = "key"
[token.request]
method = "GET"
url = "https://169.254.169.254/latest/{input.key}"
query = [["key", "{input.key}"]]
[token.response]
access_token = "/token"
lifetime = { fixed = "1h" }
"#;

/// Answers that repeat what they were asked with, as some do.
pub(super) fn script(fleet: &TestFleet) {
    let echo = |id: i64| format!("<p>{} and {} are wrong</p>", secret(id, "user"), secret(id, "password"));
    let account = |id: i64| Matcher::any().account(secret(id, "user"));
    let granted = json!({"status": "SUCCESS", "accessToken": MARK.repeat(300)}).to_string();
    let answers = [
        (4, Reply::html(StatusCode::UNAUTHORIZED, echo(4))),
        (5, Reply::html(StatusCode::TOO_MANY_REQUESTS, echo(5))),
        (6, Reply::html(StatusCode::BAD_GATEWAY, echo(6))),
        (7, Reply::html(StatusCode::OK, echo(7))),
        (9, Reply::json(StatusCode::OK, granted)),
        (10, Reply::html(StatusCode::FOUND, echo(10))),
        (20, Reply::html(StatusCode::INTERNAL_SERVER_ERROR, echo(20))),
    ];
    for (id, reply) in answers {
        fleet.marketplaces.script(account(id), [ScriptedAnswer::from(reply)]);
    }
    let refusal = json!({"error": "invalid_client", "error_description": secret(12, "secret")}).to_string();
    let client = Matcher::any().account(secret(12, "client"));
    fleet.marketplaces.script(client, [Reply::json(StatusCode::UNAUTHORIZED, refusal).into()]);
}
