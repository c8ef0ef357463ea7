//! Answers as providers give them, and worse.

use std::collections::BTreeMap;
use std::time::Duration;

use super::refusal::retry_after;
use super::*;
use crate::domain::provider::catalogue::{Providers, shipped};

fn read(provider: &str, status: u16, body: &str) -> Result<Grant, Failure> {
    let provider = shipped(provider);
    let answer = ProviderAnswer { status, retry_after: None, body: Zeroizing::new(body.as_bytes().to_vec()) };
    provider.interpret(&answer, DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH, None)
}

#[test]
fn fynds_token_lives_an_hour_from_before_the_request() {
    let grant = read("fynd", 200, r#"{"status":"SUCCESS","accessToken":"NjA4MTAz"}"#).ok().unwrap();
    assert_eq!(grant.access_token.expose(), "NjA4MTAz");
    assert_eq!(grant.expires_at, Some(DateTime::UNIX_EPOCH + TimeDelta::hours(1)));
}

#[test]
fn kornitx_says_how_long_its_token_lives() {
    for expires_in in ["3600", "3600.9", "\"3600\""] {
        let body = format!(r#"{{"token_type":"Bearer","expires_in":{expires_in},"access_token":"a.b.c"}}"#);
        let grant = read("very", 200, &body).ok().unwrap();
        assert_eq!(grant.expires_at, Some(DateTime::UNIX_EPOCH + TimeDelta::hours(1)), "{expires_in}");
    }
}

#[test]
fn every_other_answer_is_classified_and_not_quoted() {
    let cases = [
        ("fynd", 200, "<html>s3cret</html>", FailureClass::MalformedAnswer, "not JSON"),
        ("fynd", 200, "", FailureClass::MalformedAnswer, "not JSON"),
        ("fynd", 200, r#"{"status":"s3cret","accessToken":"a"}"#, FailureClass::MalformedAnswer, "/status"),
        ("fynd", 200, r#"{"accessToken":"a"}"#, FailureClass::MalformedAnswer, "/status"),
        ("fynd", 200, r#"{"status":"SUCCESS","accessToken":""}"#, FailureClass::MalformedAnswer, "empty"),
        ("fynd", 200, r#"{"status":"SUCCESS","accessToken":7}"#, FailureClass::MalformedAnswer, "no text"),
        ("fynd", 200, r#"{"status":"SUCCESS"}"#, FailureClass::MalformedAnswer, "/accessToken"),
        ("fynd", 200, "[]", FailureClass::MalformedAnswer, "/status"),
        ("fynd", 401, "s3cret", FailureClass::InvalidCredentials, "401"),
        ("fynd", 404, "", FailureClass::Misconfigured, "404"),
        ("fynd", 302, "", FailureClass::EgressBlocked, "302"),
        ("fynd", 429, "", FailureClass::RateLimited, "429"),
        ("fynd", 503, "", FailureClass::ServerError, "503"),
        ("fynd", 199, "", FailureClass::MalformedAnswer, "199"),
        ("very", 401, r#"{"error":"invalid_client"}"#, FailureClass::InvalidClient, "401"),
        ("very", 400, r#"{"error":"invalid_grant"}"#, FailureClass::InvalidGrant, "400"),
        ("very", 400, r#"{"error":"s3cret"}"#, FailureClass::InvalidCredentials, "400"),
        ("very", 200, r#"{"access_token":"a"}"#, FailureClass::MalformedAnswer, "/expires_in"),
        ("very", 200, r#"{"access_token":"a","expires_in":0}"#, FailureClass::MalformedAnswer, "/expires_in"),
        (
            "very",
            200,
            r#"{"access_token":"a","expires_in":-5}"#,
            FailureClass::MalformedAnswer,
            "/expires_in",
        ),
        (
            "very",
            200,
            r#"{"access_token":"a","expires_in":1e300}"#,
            FailureClass::MalformedAnswer,
            "/expires_in",
        ),
        (
            "very",
            200,
            r#"{"access_token":"a","expires_in":"x"}"#,
            FailureClass::MalformedAnswer,
            "/expires_in",
        ),
    ];
    for (provider, status, body, class, part) in cases {
        let failure = read(provider, status, body).err().unwrap();
        assert_eq!(failure.class, class, "{provider} {status} {body}: {failure}");
        assert!(failure.detail.contains(part), "{provider} {status} {body}: {failure}");
        assert!(!failure.detail.contains("s3cret"), "{failure}");
    }
}

#[test]
fn retry_after_is_read_in_both_forms() {
    let now = DateTime::from_timestamp(784_111_767, 0).unwrap();
    let cases = [
        ("120", Some(120)),
        (" 5 ", Some(5)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(10)),
        ("Sun, 06 Nov 1994 08:49:00 GMT", None),
        ("99999999999999999999999", Some(u32::MAX.into())),
        ("soon", None),
        ("-3", None),
    ];
    for (text, expected) in cases {
        assert_eq!(retry_after(text, now), expected.map(Duration::from_secs), "{text}");
    }
}

/// A provider of its own for each way to say how long a token lives.
fn living(lifetime: &str) -> Provider {
    let text = format!(
        r#"
name = "living"
title = "Living"
[token.request]
method = "POST"
url = "https://example.test/token"
[token.response]
access_token = "/token"
lifetime = {lifetime}
"#
    );
    let providers = Providers::new(&[("living.toml".into(), text)], &BTreeMap::new()).unwrap();
    providers.get("living").unwrap().as_ref().clone()
}

fn seconds_of(lifetime: &str, body: &str, observed: Option<i64>) -> Option<Option<i64>> {
    let answer =
        ProviderAnswer { status: 200, retry_after: None, body: Zeroizing::new(body.as_bytes().to_vec()) };
    let sent_at = DateTime::from_timestamp(1_685_960_000, 0).unwrap();
    let observed = observed.map(TimeDelta::seconds);
    let grant = living(lifetime).interpret(&answer, sent_at, sent_at, observed).ok()?;
    Some(grant.expires_at.map(|at| (at - sent_at).num_seconds()))
}

/// A token with this `exp`; the signature is nobody's.
fn jwt(exp: &str) -> String {
    use base64::Engine;
    let encode = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
    let claims = format!(r#"{{"iat":1685960000.1,"exp":{exp}}}"#);
    format!("{}.{}.c2ln", encode(r#"{"alg":"RS256","typ":"JWT"}"#), encode(&claims))
}

#[test]
fn a_life_is_read_from_wherever_the_definition_says() {
    let cases = [
        (r#"{ fixed = "1h" }"#, r#"{"token":"t"}"#.to_owned(), None, Some(Some(3_600))),
        (r#"{ seconds = "/e" }"#, r#"{"token":"t","e":600}"#.into(), None, Some(Some(600))),
        (r#"{ seconds = "/e" }"#, r#"{"token":"t","e":"600.9"}"#.into(), None, Some(Some(600))),
        (r#"{ milliseconds = "/e" }"#, r#"{"token":"t","e":299999}"#.into(), None, Some(Some(299))),
        (r#"{ timestamp = "/e" }"#, r#"{"token":"t","e":1685960600}"#.into(), None, Some(Some(600))),
        (r#"{ timestamp = "/e" }"#, r#"{"token":"t","e":1685960600123}"#.into(), None, Some(Some(600))),
        (
            r#"{ timestamp = "/e" }"#,
            r#"{"token":"t","e":"2023-06-05T10:23:20Z"}"#.into(),
            None,
            Some(Some(600)),
        ),
        (
            r#"{ timestamp = "/e" }"#,
            r#"{"token":"t","e":"2023-06-05T12:23:20+02:00"}"#.into(),
            None,
            Some(Some(600)),
        ),
        (r#"{ timestamp = "/e" }"#, r#"{"token":"t","e":"tomorrow"}"#.into(), None, None),
        (r#"{ timestamp = "/e" }"#, r#"{"token":"t","e":1}"#.into(), None, None),
        (r#""jwt""#, format!(r#"{{"token":"{}"}}"#, jwt("1685964224.614491")), None, Some(Some(4_224))),
        (r#""jwt""#, format!(r#"{{"token":"{}"}}"#, jwt("\"soon\"")), None, None),
        (r#""jwt""#, r#"{"token":"no.jwt.here"}"#.into(), None, None),
        (r#""observed""#, r#"{"token":"t"}"#.into(), Some(900), Some(Some(900))),
        (r#""observed""#, r#"{"token":"t"}"#.into(), None, None),
        (r#""unknown""#, r#"{"token":"t"}"#.into(), None, Some(None)),
        (
            r#"[{ seconds = "/e" }, "observed", "unknown"]"#,
            r#"{"token":"t","e":60}"#.into(),
            Some(900),
            Some(Some(60)),
        ),
        (
            r#"[{ seconds = "/e" }, "observed", "unknown"]"#,
            r#"{"token":"t"}"#.into(),
            Some(900),
            Some(Some(900)),
        ),
        (
            r#"[{ seconds = "/e" }, "observed", "unknown"]"#,
            r#"{"token":"t","e":-1}"#.into(),
            None,
            Some(None),
        ),
    ];
    for (lifetime, body, observed, expected) in cases {
        assert_eq!(seconds_of(lifetime, &body, observed), expected, "{lifetime} {body}");
    }
}

#[test]
fn an_operator_may_say_how_long_a_token_lives_that_says_nothing() {
    let mut provider = living("\"unknown\"");
    provider.token_lifetime = Some(TimeDelta::minutes(20));
    let answer =
        ProviderAnswer { status: 200, retry_after: None, body: Zeroizing::new(br#"{"token":"t"}"#.to_vec()) };
    let grant = provider.interpret(&answer, DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH, None).ok().unwrap();
    assert_eq!(grant.lifetime, Some(TimeDelta::minutes(20)));
}
