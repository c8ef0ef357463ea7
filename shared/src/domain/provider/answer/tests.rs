//! Answers as providers give them, and worse.

use std::time::Duration;

use super::refusal::retry_after;
use super::*;
use crate::domain::provider::catalogue::shipped;

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
        ("soon", None),
        ("-3", None),
    ];
    for (text, expected) in cases {
        assert_eq!(retry_after(text, now), expected.map(Duration::from_secs), "{text}");
    }
}
