//! Definitions in words.

use freshet_shared::domain::provider::Provider;
use freshet_shared::domain::provider::definition::{FailureRule, Lifetimes, Rotation};
use humantime::format_duration;
use serde_json::Value;

/// Where a life is said.
pub(super) fn lifetimes(lifetimes: &Lifetimes) -> String {
    let sources: Vec<String> = lifetimes.0.iter().map(|lifetime| lifetime.describe()).collect();
    sources.join(", else ")
}

/// The same in a few words: the first place, and whether there are more.
pub(super) fn first_lifetime(lifetimes: &Lifetimes) -> String {
    let first = lifetimes.0.first().map(|lifetime| lifetime.describe()).unwrap_or_default();
    if lifetimes.0.len() > 1 { format!("{first} …") } else { first }
}

/// What becomes of a refresh token, in a word or two.
pub(super) fn rotation(provider: &Provider) -> String {
    match provider.rotation() {
        _ if provider.definition.refresh_token.is_none() => "no refresh token".into(),
        Rotation::None => "stays".into(),
        Rotation::Leeway(leeway) => format!("replaced, leeway {}", format_duration(leeway)),
        Rotation::Strict => "replaced".into(),
    }
}

/// The grant, as far as the request tells it.
pub(super) fn grant(provider: &Provider) -> &'static str {
    let request = &provider.definition.token.request;
    let mut texts: Vec<&str> =
        request.form.iter().chain(&request.query).map(|(_, value)| value.source()).collect();
    texts
        .extend(request.json.iter().flat_map(|json| json.templates()).map(|(_, template)| template.source()));
    if provider.definition.refresh_token.is_some() {
        "refresh token"
    } else if texts.contains(&"client_credentials") {
        "client credentials"
    } else {
        "its own"
    }
}

/// The limits, or that none are known.
pub(super) fn limits(provider: &Provider) -> String {
    let limits = provider.limits();
    let rate = limits.rate.map(|rate| rate.to_string());
    let concurrency =
        limits.concurrency.map(|concurrency| format!("{concurrency} calls under way at a time"));
    let parts: Vec<String> = rate.into_iter().chain(concurrency).collect();
    if parts.is_empty() { "none known".into() } else { parts.join("; ") }
}

/// What one kind of answer means.
pub(super) fn failure(rule: &FailureRule) -> String {
    let status = rule.status.map(|status| format!("status {status}"));
    let values: Vec<String> = rule.equals.iter().chain(&rule.one_of).map(Value::to_string).collect();
    let value = rule.pointer.as_ref().map(|pointer| format!("{pointer} is {}", values.join(" or ")));
    let parts: Vec<String> = status.into_iter().chain(value).collect();
    format!("{} → {}", parts.join(" and "), rule.class)
}
