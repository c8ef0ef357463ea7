//! Fynd's token endpoint: the credentials travel in the query, the answer carries no expiry.

use axum::http::{Method, StatusCode, header};

use super::{
    credentials::Credentials,
    form::{Parameters, Repeated},
    mint::Mint,
    provider::Provider,
    reply::{Answer, Reply},
};

pub(super) const ACCOUNT: &str = "username";
const SECRET: &str = "password";

pub(super) fn answer(
    method: &Method,
    parameters: &Parameters<'_>,
    credentials: &Credentials,
    mint: &Mint,
) -> Answer {
    if method != Method::GET {
        return failed(StatusCode::METHOD_NOT_ALLOWED, "Method not allowed").with(header::ALLOW, "GET");
    }
    let (account, secret) = match (parameters.one(ACCOUNT), parameters.one(SECRET)) {
        (Ok(Some(account)), Ok(Some(secret))) => (account, secret),
        (Ok(None), _) => return failed(StatusCode::BAD_REQUEST, "username is required"),
        (_, Ok(None)) => return failed(StatusCode::BAD_REQUEST, "password is required"),
        (Err(Repeated), _) | (_, Err(Repeated)) => {
            return failed(StatusCode::BAD_REQUEST, "a parameter is repeated");
        }
    };
    if !credentials.accept(Provider::Fynd, account, secret) {
        return failed(StatusCode::UNAUTHORIZED, "Invalid credentials");
    }
    let token = mint.opaque();
    let reply = Reply::json(StatusCode::OK, format!(r#"{{"status":"SUCCESS","accessToken":"{token}"}}"#));
    Answer::issued(reply, token)
}

fn failed(status: StatusCode, message: &'static str) -> Answer {
    Answer::plain(Reply::json(status, format!(r#"{{"status":"FAILED","message":"{message}"}}"#)))
}
