//! KornitX's token endpoint: OAuth 2.0 client credentials, errors as in RFC 6749, 5.2.

use std::time::Duration;

use axum::http::{HeaderMap, Method, StatusCode, header};
use chrono::{DateTime, Utc};

use super::{
    credentials::Credentials,
    form::{Parameters, Repeated},
    mint::Mint,
    provider::Provider,
    reply::{Answer, Reply},
};

pub(super) const ACCOUNT: &str = "client_id";

/// The one scope that KornitX's token endpoint takes, in this order and spelling.
pub const SCOPE: &str =
    "api-sl-2-3.order-shipment.create api-sl-2-3.order-cancellation.create api-sl-2-3.order-return.create";

const FORM: &str = "application/x-www-form-urlencoded";

pub(super) fn answer(
    method: &Method,
    headers: &HeaderMap,
    parameters: &Parameters<'_>,
    credentials: &Credentials,
    mint: &Mint,
    (now, lifetime): (DateTime<Utc>, Duration),
) -> Answer {
    if method != Method::POST {
        return refused(StatusCode::METHOD_NOT_ALLOWED, "invalid_request").with(header::ALLOW, "POST");
    }
    if !is_form(headers) {
        return refused(StatusCode::BAD_REQUEST, "invalid_request");
    }
    match check(parameters, credentials) {
        Err(Refusal { status, error }) => refused(status, error),
        Ok(()) => {
            let token = mint.jwt(now, lifetime);
            let seconds = lifetime.as_secs();
            let body =
                format!(r#"{{"token_type":"Bearer","expires_in":{seconds},"access_token":"{token}"}}"#);
            Answer::issued(Reply::json(StatusCode::OK, body), token).with(header::CACHE_CONTROL, "no-store")
        }
    }
}

struct Refusal {
    status: StatusCode,
    error: &'static str,
}

impl From<Repeated> for Refusal {
    fn from(Repeated: Repeated) -> Self {
        bad_request("invalid_request")
    }
}

fn bad_request(error: &'static str) -> Refusal {
    Refusal { status: StatusCode::BAD_REQUEST, error }
}

fn check(parameters: &Parameters<'_>, credentials: &Credentials) -> Result<(), Refusal> {
    let grant_type = parameters.one("grant_type")?.ok_or_else(|| bad_request("invalid_request"))?;
    let client = parameters.one(ACCOUNT)?.zip(parameters.one("client_secret")?);
    let scope = parameters.one("scope")?;
    // A request without client authentication is `invalid_client` as well.
    if !client.is_some_and(|(id, secret)| credentials.accept(Provider::KornitX, id, secret)) {
        return Err(Refusal { status: StatusCode::UNAUTHORIZED, error: "invalid_client" });
    }
    if grant_type != "client_credentials" {
        return Err(bad_request("unsupported_grant_type"));
    }
    if scope != Some(SCOPE) {
        return Err(bad_request("invalid_scope"));
    }
    Ok(())
}

fn is_form(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.split(';').next())
        .is_some_and(|essence| essence.trim().eq_ignore_ascii_case(FORM))
}

fn refused(status: StatusCode, error: &'static str) -> Answer {
    Answer::plain(Reply::json(status, format!(r#"{{"error":"{error}"}}"#)))
        .with(header::CACHE_CONTROL, "no-store")
}
