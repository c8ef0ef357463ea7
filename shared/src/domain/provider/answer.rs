//! From a provider's answer to a grant or a classified failure. Pure; nothing of the answer is ever quoted.

use std::time::Duration;

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::domain::channel::Channel;
use crate::domain::connection::Grant;
use crate::domain::failure::{Failure, FailureClass};
use crate::domain::secret::{Secret, SecretJson};

use super::Provider;
use super::definition::Lifetime;

/// A complete answer. The body holds secrets, so there is no `Debug`.
pub struct ProviderAnswer {
    /// The HTTP status.
    pub status: u16,
    /// The `Retry-After` header as received.
    pub retry_after: Option<String>,
    /// The body as received.
    pub body: Zeroizing<Vec<u8>>,
}

/// Longer lives are taken for a mistake of the provider's.
const LONGEST_LIFETIME: TimeDelta = TimeDelta::days(3_650);

impl Provider {
    /// Reads the answer to a request that was sent at `sent_at`.
    ///
    /// # Errors
    /// A failure by status, by the error code of RFC 6749, 5.2, or for an answer that is not what the definition says.
    pub fn interpret(
        &self,
        answer: &ProviderAnswer,
        sent_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Grant, Failure> {
        if !(200..300).contains(&answer.status) {
            return Err(self.refusal(answer, now));
        }
        let response = &self.definition.token.response;
        let body = SecretJson::parse(&answer.body).map_err(|error| {
            malformed(format!(
                "the answer ({} bytes) is not JSON (line {}, column {})",
                answer.body.len(),
                error.line(),
                error.column()
            ))
        })?;
        let body = body.expose();
        if let Some(success) = &response.success
            && body.pointer(&success.pointer) != Some(&success.equals)
        {
            return Err(malformed(format!("the answer's {} is not {}", success.pointer, success.equals)));
        }
        let access_token = match body.pointer(&response.access_token).and_then(Value::as_str) {
            Some(token) if !token.is_empty() => Secret::new(token),
            Some(_) => return Err(malformed(format!("the answer's {} is empty", response.access_token))),
            None => return Err(malformed(format!("the answer has no text at {}", response.access_token))),
        };
        let lifetime = self.lifetime(body)?;
        // Columns may hold whole seconds and would round up: a token must never seem to live longer than it does.
        let expires_at = (sent_at + lifetime).trunc_subsecs(0);
        Ok(Grant { access_token, expires_at, lifetime })
    }

    /// Reads the answer of the platform's refresh-connection endpoint for one channel.
    ///
    /// # Errors
    /// If it is not a success, not JSON, lacks a member, or is about another channel.
    pub fn interpret_refresh_connection(
        &self,
        answer: &ProviderAnswer,
        channel_id: i64,
    ) -> Result<Channel, Failure> {
        if !(200..300).contains(&answer.status) {
            return Err(Failure::new(
                FailureClass::ServerError,
                format!("the refresh-connection endpoint answered {}: see its log", answer.status),
            ));
        }
        let channel: Channel = serde_json::from_slice(&answer.body).map_err(|error| {
            malformed(format!(
                "the refresh-connection answer lacks a member or is not JSON (line {}, column {})",
                error.line(),
                error.column()
            ))
        })?;
        if channel.id != channel_id {
            return Err(malformed("the refresh-connection answer is about another channel".into()));
        }
        Ok(channel)
    }

    fn lifetime(&self, body: &Value) -> Result<TimeDelta, Failure> {
        let (lifetime, place) = match &self.definition.token.response.lifetime {
            Lifetime::Fixed(fixed) => (
                self.token_lifetime.or_else(|| TimeDelta::from_std(*fixed).ok()),
                "the fixed lifetime".to_owned(),
            ),
            Lifetime::Seconds(pointer) => {
                (body.pointer(pointer).and_then(seconds), format!("the answer's {pointer}"))
            }
        };
        lifetime
            .filter(|lifetime| *lifetime >= TimeDelta::seconds(1) && *lifetime <= LONGEST_LIFETIME)
            .ok_or_else(|| malformed(format!("{place} is not a number of seconds between 1 and 10 years")))
    }

    fn refusal(&self, answer: &ProviderAnswer, now: DateTime<Utc>) -> Failure {
        let status = answer.status;
        let code = self.definition.token.response.error.as_ref().and_then(|pointer| {
            let body = SecretJson::parse(&answer.body).ok()?;
            body.expose().pointer(pointer)?.as_str().map(str::to_owned)
        });
        let (class, advice) = match (status, code.as_deref()) {
            (_, Some("invalid_grant")) => (FailureClass::InvalidGrant, "the merchant has to authorise again"),
            (_, Some("invalid_client")) => (FailureClass::InvalidClient, "check the client's id and secret"),
            (429, _) => (FailureClass::RateLimited, "we ask again later"),
            (500..=599, _) => (FailureClass::ServerError, "we ask again later"),
            (300..=399, _) => (FailureClass::EgressBlocked, "redirects are not followed: correct the URL"),
            (404 | 405 | 410 | 415, _) => {
                (FailureClass::Misconfigured, "check the provider's URL and environment")
            }
            (400..=499, _) => {
                (FailureClass::InvalidCredentials, "check what the merchant entered in inputFields")
            }
            _ => (FailureClass::MalformedAnswer, "the provider does not follow HTTP"),
        };
        let retry_after = answer.retry_after.as_deref().and_then(|text| retry_after(text, now));
        Failure { class, detail: format!("the provider answered {status}: {advice}"), retry_after }
    }
}

fn malformed(detail: String) -> Failure {
    Failure::new(
        FailureClass::MalformedAnswer,
        format!("{detail}: compare the provider's documentation with its definition"),
    )
}

/// Seconds as a number or as a text that holds one; a fraction is dropped.
#[expect(
    clippy::cast_possible_truncation,
    reason = "a float beyond i64 saturates and is then refused as too long"
)]
fn seconds(value: &Value) -> Option<TimeDelta> {
    let number = match value {
        Value::Number(number) => number.as_i64().or_else(|| number.as_f64().map(|float| float as i64)),
        Value::String(text) => text.parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    number.and_then(TimeDelta::try_seconds)
}

/// `Retry-After` in both forms of RFC 9110, 10.2.3.
fn retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until: DateTime<Utc> = httpdate::parse_http_date(text).ok()?.into();
    (until - now).to_std().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::provider::catalogue::shipped;

    fn read(provider: &str, status: u16, body: &str) -> Result<Grant, Failure> {
        let provider = shipped(provider);
        let answer =
            ProviderAnswer { status, retry_after: None, body: Zeroizing::new(body.as_bytes().to_vec()) };
        provider.interpret(&answer, DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH)
    }

    #[test]
    fn fynds_token_lives_an_hour_from_before_the_request() {
        let grant = read("fynd", 200, r#"{"status":"SUCCESS","accessToken":"NjA4MTAz"}"#).ok().unwrap();
        assert_eq!(grant.access_token.expose(), "NjA4MTAz");
        assert_eq!(grant.expires_at, DateTime::UNIX_EPOCH + TimeDelta::hours(1));
    }

    #[test]
    fn kornitx_says_how_long_its_token_lives() {
        for expires_in in ["3600", "3600.9", "\"3600\""] {
            let body =
                format!(r#"{{"token_type":"Bearer","expires_in":{expires_in},"access_token":"a.b.c"}}"#);
            let grant = read("very", 200, &body).ok().unwrap();
            assert_eq!(grant.lifetime, TimeDelta::hours(1), "{expires_in}");
        }
    }

    #[test]
    fn every_other_answer_is_classified_and_not_quoted() {
        let cases = [
            ("fynd", 200, "<html>s3cret</html>", FailureClass::MalformedAnswer, "not JSON"),
            ("fynd", 200, "", FailureClass::MalformedAnswer, "not JSON"),
            (
                "fynd",
                200,
                r#"{"status":"s3cret","accessToken":"a"}"#,
                FailureClass::MalformedAnswer,
                "/status",
            ),
            ("fynd", 200, r#"{"accessToken":"a"}"#, FailureClass::MalformedAnswer, "/status"),
            ("fynd", 200, r#"{"status":"SUCCESS","accessToken":""}"#, FailureClass::MalformedAnswer, "empty"),
            (
                "fynd",
                200,
                r#"{"status":"SUCCESS","accessToken":7}"#,
                FailureClass::MalformedAnswer,
                "no text",
            ),
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
            (
                "very",
                200,
                r#"{"access_token":"a","expires_in":0}"#,
                FailureClass::MalformedAnswer,
                "/expires_in",
            ),
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
}
