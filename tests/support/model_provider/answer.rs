//! What the model has to say, before a fault gets at it.

use chrono::TimeDelta;
use serde_json::{Map, Value, json};

use super::ledger::Refusal;
use super::model::Granted;
use super::settings::Settings;

/// An answer that can still be changed. No `Debug`: it may hold tokens.
#[derive(Clone)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Body,
}

#[derive(Clone)]
pub(super) enum Body {
    Json(Map<String, Value>),
    Bytes(Vec<u8>),
}

impl Answer {
    /// RFC 6749, 5.1.
    pub(super) fn granted(granted: &Granted, settings: &Settings) -> Self {
        let mut members = Map::new();
        members.insert("access_token".into(), json!(granted.access_token));
        members.insert("token_type".into(), json!("Bearer"));
        members.insert("expires_in".into(), json!(settings.access_token_lifetime.num_seconds()));
        if let Some((refresh_token, _)) = &granted.refresh_token {
            members.insert("refresh_token".into(), json!(refresh_token));
            let lifetime = settings.refresh_token_lifetime.as_ref().map(TimeDelta::num_seconds);
            members.extend(lifetime.map(|seconds| ("refresh_token_expires_in".to_owned(), json!(seconds))));
        }
        Self::json(200, members)
    }

    /// RFC 6749, 5.2.
    pub(super) fn refused(refusal: Refusal) -> Self {
        Self::error(refusal.status(), refusal.code())
    }

    /// An error's code in JSON, with whatever status.
    pub(super) fn error(status: u16, code: &str) -> Self {
        let mut answer = Self::json(status, Map::from_iter([("error".to_owned(), json!(code))]));
        if status == 401 {
            answer.headers.push(("www-authenticate", "Basic realm=\"model\"".into()));
        }
        answer
    }

    /// A page for people, as a proxy or a crashed server gives.
    pub(super) fn page(status: u16) -> Self {
        let body = format!("<html><body><h1>{status} {}</h1></body></html>", reason(status));
        let headers = vec![("content-type", "text/html; charset=utf-8".into())];
        Self { status, headers, body: Body::Bytes(body.into_bytes()) }
    }

    fn json(status: u16, members: Map<String, Value>) -> Self {
        let headers = vec![("content-type", "application/json".into()), ("cache-control", "no-store".into())];
        Self { status, headers, body: Body::Json(members) }
    }

    pub(super) fn set_header(&mut self, name: &'static str, value: String) {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value));
    }

    /// The status line and the headers, with one more that says where the body ends.
    pub(super) fn head(&self, framing: &str) -> Vec<u8> {
        let mut head = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str(&format!("{framing}\r\n\r\n"));
        head.into_bytes()
    }
}

impl Body {
    pub(super) fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Json(members) => Value::Object(members.clone()).to_string().into_bytes(),
            Self::Bytes(bytes) => bytes.clone(),
        }
    }
}

/// Clients do not look at it; people do.
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        302 => "Found",
        400 => "Bad Request",
        401 => "Unauthorized",
        404 => "Not Found",
        405 => "Method Not Allowed",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Model",
    }
}
