//! Definition files as people write them.

use super::*;

const MINIMAL: &str = r#"
name = "example"
title = "Example"
[[inputs]]
key = "user"
[token.request]
method = "POST"
url = "https://example.test/{input.user}"
[token.response]
access_token = "/token"
lifetime = { fixed = "1h" }
"#;

const COMPLETE: &str = r#"
name = "complete"
title = "Complete"
documentation = ["https://example.test/docs"]
pool = "slow"
allowed_hosts = ["*.example.test"]
environment = { choose_by = "sandbox", choices = { "true" = "sandbox" }, default = "production" }
[environments.production]
domain = "example.test"
[environments.sandbox]
domain = "sandbox.example.test"
[[inputs]]
key = "shop"
longest = 64
[[inputs]]
key = "client_id"
secret = true
[[secrets]]
key = "client_secret"
[token.request]
method = "POST"
url = "https://{input.shop}.{environment.domain}/token"
query = [["shop", "{input.shop}"]]
headers = [["x-shop", "{input.shop}"]]
json = { grant_type = "refresh_token", nested = { list = ["{refresh_token}", 1, true] } }
basic = { username = "{input.client_id}", password = "{secret.client_secret}", encoding = "form" }
[token.response]
success = { pointer = "/code", equals = 0 }
access_token = "/data/token"
lifetime = [{ seconds = "/data/expires_in" }, { milliseconds = "/ms" }, { timestamp = "/at" }, "jwt", "observed", "unknown"]
error = "/error"
[[token.response.failures]]
status = 400
pointer = "/code"
one_of = [105, "x"]
class = "invalid_grant"
[refresh_token]
rotation = { leeway = "60s" }
answer = "/data/refresh_token"
lifetime = { timestamp = "/data/refresh_expires_at" }
inactivity = "30d"
[limits]
rate = { requests = 2, per = "1s", burst = 10 }
concurrency = 16
[[authorizations]]
operations = ["push"]
value = "Bearer {token}"
"#;

#[test]
fn a_minimal_definition_is_enough() {
    let definition = Definition::parse("example.toml", MINIMAL).unwrap();
    assert_eq!((definition.pool.as_str(), definition.rotation()), ("shared", Rotation::None));
    assert!(definition.integration_type.is_none() && definition.environments.contains_key("production"));
}

#[test]
fn everything_that_a_definition_can_say_is_read() {
    let definition = Definition::parse("complete.toml", COMPLETE).unwrap();
    assert_eq!(definition.rotation(), Rotation::Leeway(std::time::Duration::from_secs(60)));
    assert_eq!(definition.token.response.lifetime.0.len(), 6);
    assert_eq!(definition.faults(), []);
}

#[test]
fn a_fault_is_named_with_file_line_and_key() {
    let cases = [
        ("title", "titel", &["line 3", "titel"][..]),
        ("method = \"POST\"", "method = \"FETCH\"", &["line 7", "FETCH"]),
        ("{input.user}", "{input.name}", &["line 8", "token.request.url", "{input.name}", "[[inputs]]"]),
        ("{input.user}", "{token}", &["token.request.url", "{token}"]),
        ("{input.user}", "{secret.app}", &["token.request.url", "{secret.app}", "[[secrets]]"]),
        ("{input.user}", "{refresh_token}", &["token.request.url", "[refresh_token]"]),
        ("{input.user}", "{setting.host}", &["token.request.url", "{setting.host}"]),
        ("{input.user}", "{inputs.user}", &["line 8", "{inputs.user}"]),
        ("example.test/{input.user}", "{input.user}.test/", &["token.request.url", "allowed_hosts"]),
        ("name = \"example\"", "name = \"Example Shop\"", &["name", "Example Shop"]),
        ("fixed = \"1h\"", "fixed = \"soon\"", &["line 11"]),
        ("fixed = \"1h\"", "fixed = \"1ms\"", &["token.response.lifetime", "1 s"]),
        ("fixed = \"1h\"", "guessed = \"1h\"", &["line 11", "not a lifetime"]),
        ("{ fixed = \"1h\" }", "[]", &["token.response.lifetime", "unknown"]),
        ("{ fixed = \"1h\" }", "[\"unknown\", \"jwt\"]", &["token.response.lifetime", "never looked at"]),
        ("\"/token\"", "\"token\"", &["token.response.access_token", "/data/token"]),
    ];
    refused(MINIMAL, &cases);
}

#[test]
fn contradictions_are_named_by_the_key_that_shows_them() {
    let cases = [
        ("default = \"production\"", "default = \"live\"", &["environment.default", "live"][..]),
        ("{ \"true\" = \"sandbox\" }", "{ \"true\" = \"live\" }", &["environment.choices.true", "live"]),
        ("method = \"POST\"", "method = \"GET\"", &["token.request.method", "no body"]),
        ("json = {", "form = [[\"a\", \"b\"]]\njson = {", &["token.request.json", "one body"]),
        ("[[\"x-shop\", ", "[[\"Authorization\", ", &["token.request.basic"]),
        ("[[\"x-shop\", ", "[[\"Content-Type\", ", &["token.request.headers"]),
        ("{refresh_token}", "x", &["refresh_token", "not used"]),
        ("answer = \"/data/refresh_token\"", "", &["refresh_token.rotation", "refresh_token.answer"]),
        ("leeway = \"60s\"", "leeway = \"1ms\"", &["refresh_token.rotation", "strict"]),
        ("rotation = { leeway = \"60s\" }", "rotation = \"sometimes\"", &["line 38", "sometimes"]),
        ("class = \"invalid_grant\"", "class = \"answer_lost\"", &["token.response.failures[0].class"]),
        ("one_of = [105, \"x\"]", "", &["token.response.failures[0]", "go together"]),
        ("status = 400\npointer = \"/code\"\none_of = [105, \"x\"]", "", &["failures[0]", "every answer"]),
        ("key = \"client_id\"", "key = \"shop\"", &["inputs[1].key", "twice"]),
        (
            "operations = [\"push\"]",
            "operations = [\"push\", \"push\"]",
            &["authorizations[0].operations", "twice"],
        ),
        ("value = \"Bearer {token}\"", "value = \"{secret.client_secret}\"", &["authorizations[0].value"]),
        (
            "value = \"Bearer {token}\"",
            "value = \"{request.id}\"",
            &["authorizations[0].value", "{request.id}", "token.request only"],
        ),
    ];
    refused(COMPLETE, &cases);
}

fn refused(text: &str, cases: &[(&str, &str, &[&str])]) {
    for (from, to, parts) in cases {
        assert!(text.contains(from), "{from} is not in the text");
        let error = Definition::parse("example.toml", &text.replacen(from, to, 1)).unwrap_err().to_string();
        for part in parts.iter().chain(&["example.toml", "line "]) {
            assert!(error.contains(part), "{to}: `{part}` is not in: {error}");
        }
    }
}
