//! The span around a call, after OpenTelemetry's conventions for HTTP clients, without the URL.

use reqwest::Url;
use tracing::{Span, debug_span, field};

use crate::domain::provider::answer::ProviderAnswer;
use crate::domain::provider::request::ProviderRequest;
use crate::ports::provider::CallError;

/// The span of one try. `before`: how many there were, and the last of them.
pub(super) fn of(request: &ProviderRequest, before: u32, last: Option<&Span>) -> Span {
    let method = request.method.as_str();
    let span = debug_span!(
        "provider call",
        otel.kind = "client",
        otel.name = format!("{method} {}", request.endpoint),
        otel.status_code = field::Empty,
        http.request.method = method,
        url.template = request.endpoint,
        server.address = field::Empty,
        server.port = field::Empty,
        http.request.resend_count = (before > 0).then_some(before),
        http.response.status_code = field::Empty,
        error.type = field::Empty,
    );
    if let Some(last) = last {
        span.follows_from(last);
    }
    span
}

/// Whom the current span's call is to: of the URL only host and port, which hold no secret.
pub(super) fn record_server(url: &Url) {
    let span = Span::current();
    span.record("server.address", url.host_str());
    span.record("server.port", url.port_or_known_default());
}

pub(super) fn record_outcome(span: &Span, outcome: &Result<ProviderAnswer, CallError>) {
    let error_type = match outcome {
        Ok(answer) => {
            span.record("http.response.status_code", answer.status);
            if answer.status < 400 {
                return;
            }
            answer.status.to_string()
        }
        Err(CallError::Unsendable { .. }) => "unsendable".into(),
        Err(CallError::Blocked { .. }) => "egress_blocked".into(),
        Err(CallError::NotConnected { .. }) => "not_connected".into(),
        Err(CallError::AnswerLost { .. }) => "answer_lost".into(),
        Err(CallError::TooLarge { .. }) => "answer_too_large".into(),
    };
    span.record("error.type", error_type);
    span.record("otel.status_code", "error");
}
