//! What can go wrong between the model and its caller.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::answer::{Answer, Body};
use super::delivery::Delivery;

/// What goes wrong with one request.
///
/// A fault of the answer's way (lost, reset, hanging, slow, cut, changed) strikes after the model has acted: a refresh
/// token is spent, whatever the caller sees. One that stands in front of the model (a status, a refusal, a redirect, a
/// page) strikes before, and nothing is spent. [`Fault::spending`] and [`Fault::unspent`] say otherwise.
#[derive(Clone)]
pub struct Fault {
    pub(super) name: &'static str,
    pub(super) asks_model: bool,
    pub(super) keeps_refresh_token: bool,
    pub(super) latency: Duration,
    pub(super) edits: Vec<Edit>,
    pub(super) delivery: Delivery,
}

/// The `Retry-After` of an answer (RFC 9110, 10.2.3).
#[derive(Debug, Clone, Copy)]
pub enum RetryAfter<'a> {
    /// There is none.
    Absent,
    /// A number of seconds.
    Seconds(u64),
    /// A date.
    Date(DateTime<Utc>),
    /// Whatever this is.
    Text(&'a str),
}

#[derive(Clone)]
pub(super) enum Edit {
    Replace(Answer),
    Header(&'static str, String),
    Set(&'static str, Value),
    Remove(&'static str),
    CutBody,
}

impl Fault {
    /// No fault at all: a place in a script at which all is well.
    pub fn none() -> Self {
        Self {
            name: "none",
            asks_model: true,
            keeps_refresh_token: false,
            latency: Duration::ZERO,
            edits: Vec::new(),
            delivery: Delivery::Whole,
        }
    }

    /// 429 (RFC 6585, 4).
    pub fn rate_limited(retry_after: RetryAfter<'_>) -> Self {
        Self::before_the_model("rate_limited", Answer::error(429, "too_many_requests"))
            .retry_after(retry_after)
    }

    /// A status with a page for people, 503 or 504 for example.
    pub fn status(status: u16) -> Self {
        Self::before_the_model("status", Answer::page(status))
    }

    /// A status and an `error` in JSON: 401 `invalid_client`, 400 `invalid_grant`, 200 with whatever code.
    pub fn error(status: u16, code: &str) -> Self {
        Self::before_the_model("error", Answer::error(status, code))
    }

    /// 302 to somewhere else.
    pub fn redirect(location: &str) -> Self {
        let mut answer = Answer::page(302);
        answer.set_header("location", location.to_owned());
        Self::before_the_model("redirect", answer)
    }

    /// 200 with exactly this body, which calls itself JSON.
    pub fn body(body: impl Into<Vec<u8>>) -> Self {
        let mut answer = Answer::page(200);
        answer.set_header("content-type", "application/json".into());
        answer.body = Body::Bytes(body.into());
        Self::before_the_model("body", answer)
    }

    /// The answer has this as its `expires_in`: nothing, a text, a number beyond all reason.
    pub fn expires_in(value: Value) -> Self {
        Self::edited("expires_in", Edit::Set("expires_in", value))
    }

    /// The answer lacks a member. What the model has spent stays spent.
    pub fn without(member: &'static str) -> Self {
        Self::edited("without a member", Edit::Remove(member))
    }

    /// The provider keeps the refresh token as it is and names none, as it may (RFC 6749, 6).
    pub fn keeping_refresh_token() -> Self {
        Self { name: "keeping the refresh token", keeps_refresh_token: true, ..Self::none() }
    }

    /// The right body by the wrong name.
    pub fn content_type(value: &str) -> Self {
        Self::edited("content type", Edit::Header("content-type", value.to_owned()))
    }

    /// A body that is complete as HTTP goes, and the first half of its JSON.
    pub fn cut_json() -> Self {
        Self::edited("cut JSON", Edit::CutBody)
    }

    /// Half of the body that was announced; then the connection is closed in good order.
    pub fn short_body() -> Self {
        Self::delivered("short body", Delivery::Short)
    }

    /// JSON with so many bytes of padding before the token, streamed, its length not announced.
    pub fn huge(padding: u64) -> Self {
        Self::delivered("huge", Delivery::Padded { padding, announced: false })
    }

    /// The same, its length announced.
    pub fn huge_announced(padding: u64) -> Self {
        Self::delivered("huge and announced", Delivery::Padded { padding, announced: true })
    }

    /// The connection is closed in good order without a byte.
    pub fn lost() -> Self {
        Self::delivered("lost", Delivery::Lost)
    }

    /// The connection is reset without a byte.
    pub fn reset() -> Self {
        Self::delivered("reset", Delivery::Reset)
    }

    /// The connection is reset after the headers and half of the body.
    pub fn reset_within_body() -> Self {
        Self::delivered("reset within the body", Delivery::ResetWithinBody)
    }

    /// Not a byte, until the caller leaves or the server is dropped.
    pub fn hang() -> Self {
        Self::delivered("hang", Delivery::Hang)
    }

    /// The headers and half of the body, then nothing more.
    pub fn hang_within_body() -> Self {
        Self::delivered("hang within the body", Delivery::HangWithinBody)
    }

    /// Byte by byte, with a pause after each.
    pub fn drip(pause: Duration) -> Self {
        Self::delivered("drip", Delivery::Drip(pause))
    }

    /// The same fault, later: the request waits for so long after the model has acted.
    #[must_use]
    pub fn after(self, latency: Duration) -> Self {
        Self { latency, ..self }
    }

    /// The same fault behind the model: whatever the caller sees, a refresh token is spent.
    #[must_use]
    pub fn spending(self) -> Self {
        Self { asks_model: true, ..self }
    }

    /// The same fault in front of the model, which learns nothing of the request. What was to be seen of its answer is
    /// then seen of a 503.
    #[must_use]
    pub fn unspent(self) -> Self {
        Self { asks_model: false, ..self }
    }

    /// The same fault with a `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, retry_after: RetryAfter<'_>) -> Self {
        let text = match retry_after {
            RetryAfter::Absent => return self,
            RetryAfter::Seconds(seconds) => seconds.to_string(),
            RetryAfter::Date(date) => date.format("%a, %d %b %Y %H:%M:%S GMT").to_string(),
            RetryAfter::Text(text) => text.to_owned(),
        };
        self.edits.push(Edit::Header("retry-after", text));
        self
    }

    fn before_the_model(name: &'static str, answer: Answer) -> Self {
        Self { name, asks_model: false, edits: vec![Edit::Replace(answer)], ..Self::none() }
    }

    fn edited(name: &'static str, edit: Edit) -> Self {
        Self { name, edits: vec![edit], ..Self::none() }
    }

    fn delivered(name: &'static str, delivery: Delivery) -> Self {
        Self { name, delivery, ..Self::none() }
    }
}

impl Edit {
    /// A member is changed only in an answer with a token: a refusal stays what it is.
    pub(super) fn apply(&self, answer: &mut Answer) {
        match self {
            Self::Replace(other) => *answer = other.clone(),
            Self::Header(name, value) => answer.set_header(name, value.clone()),
            Self::CutBody => {
                let mut bytes = answer.body.bytes();
                bytes.truncate(bytes.len() / 2);
                answer.body = Body::Bytes(bytes);
            }
            Self::Set(member, value) => {
                if let (200, Body::Json(members)) = (answer.status, &mut answer.body) {
                    members.insert((*member).to_owned(), value.clone());
                }
            }
            Self::Remove(member) => {
                if let Body::Json(members) = &mut answer.body {
                    members.remove(*member);
                }
            }
        }
    }
}
