//! What a provider means when it gives no token.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::domain::failure::{Failure, FailureClass};
use crate::domain::provider::Provider;

use super::{ProviderAnswer, malformed};

impl Provider {
    /// The failure that the definition's own rules see in an answer, whatever its status.
    pub(super) fn ruled_out(
        &self,
        answer: &ProviderAnswer,
        body: Option<&Value>,
        now: DateTime<Utc>,
    ) -> Option<Failure> {
        let mut rules = self.definition.token.response.failures.iter();
        let rule = rules.find(|rule| rule.fits(answer.status, body))?;
        Some(failure(rule.class, answer, now))
    }

    /// The failure of an answer whose status is no success.
    pub(super) fn refused(
        &self,
        answer: &ProviderAnswer,
        body: Option<&Value>,
        now: DateTime<Utc>,
    ) -> Failure {
        let class = match (answer.status, body.and_then(|body| self.code(body))) {
            (429, _) => FailureClass::RateLimited,
            (500..=599, _) => FailureClass::ServerError,
            (_, Some(class)) => class,
            (300..=399, _) => FailureClass::EgressBlocked,
            (404 | 405 | 410 | 415, _) => FailureClass::Misconfigured,
            (400..=499, _) => FailureClass::InvalidCredentials,
            _ => FailureClass::MalformedAnswer,
        };
        failure(class, answer, now)
    }

    /// The failure of an answer that says yes and holds no token.
    pub(super) fn without_token(&self, body: &Value) -> Failure {
        let pointer = &self.definition.token.response.access_token;
        if let Some(class) = self.code(body) {
            return Failure::new(
                class,
                format!("the answer holds an error in place of {pointer}: {}", advice(class)),
            );
        }
        malformed(match body.pointer(pointer).and_then(Value::as_str) {
            Some(_) => format!("the answer's {pointer} is empty"),
            None => format!("the answer has no text at {pointer}"),
        })
    }

    /// What the error code of RFC 6749, 5.2 says, where there is one that we know.
    fn code(&self, body: &Value) -> Option<FailureClass> {
        let pointer = self.definition.token.response.error.as_ref()?;
        match body.pointer(pointer)?.as_str()? {
            "invalid_grant" => Some(FailureClass::InvalidGrant),
            "invalid_client" | "unauthorized_client" => Some(FailureClass::InvalidClient),
            "invalid_request" | "unsupported_grant_type" | "invalid_scope" => {
                Some(FailureClass::Misconfigured)
            }
            "temporarily_unavailable" | "server_error" => Some(FailureClass::ServerError),
            "slow_down" => Some(FailureClass::RateLimited),
            _ => None,
        }
    }
}

fn failure(class: FailureClass, answer: &ProviderAnswer, now: DateTime<Utc>) -> Failure {
    let retry_after = answer.retry_after.as_deref().and_then(|text| retry_after(text, now));
    let detail = format!("the provider answered {}: {}", answer.status, advice(class));
    // A gateway speaks for a server whose answer it lost or did not wait for (RFC 9110, 15.6.3 and 15.6.5; Cloudflare has
    // 520 and 524 for the same).
    let may_have_spent = matches!(answer.status, 502 | 504 | 520 | 524);
    Failure { retry_after, may_have_spent, ..Failure::new(class, detail) }
}

fn advice(class: FailureClass) -> &'static str {
    match class {
        FailureClass::InvalidGrant => "the merchant has to authorise again",
        FailureClass::InvalidClient => "check the client's id and secret",
        FailureClass::InvalidCredentials => "check what the merchant entered in inputFields",
        FailureClass::RateLimited | FailureClass::ServerError => "we ask again later",
        FailureClass::EgressBlocked => "redirects are not followed: correct the URL",
        FailureClass::Misconfigured => {
            "check the provider's URL, its environment and the definition's request"
        }
        FailureClass::MalformedAnswer => {
            "the provider does not follow HTTP, or its definition calls the answer malformed"
        }
        FailureClass::Network
        | FailureClass::AnswerLost
        | FailureClass::UnreadableSecret
        | FailureClass::UnstorableToken
        | FailureClass::Panicked => "see its log",
    }
}

/// `Retry-After` in both forms of RFC 9110, 10.2.3.
pub(super) fn retry_after(text: &str, now: DateTime<Utc>) -> Option<Duration> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // What no number holds is very long.
        return Some(Duration::from_secs(text.parse().unwrap_or(u32::MAX.into())));
    }
    let until: DateTime<Utc> = httpdate::parse_http_date(text).ok()?.into();
    (until - now).to_std().ok()
}
