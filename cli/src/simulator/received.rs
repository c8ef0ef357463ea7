//! A request that was read: whose endpoint, which account, and its content in the form the endpoint wants.

use std::borrow::Cow;

use axum::http::request::Parts;
use serde_json::{Map, Value};

use super::{form::Parameters, fynd, kornitx, platform, provider::Provider};

/// What a request asks for.
pub(super) enum Received<'a> {
    Fynd(Parameters<'a>),
    KornitX(Parameters<'a>),
    /// The row, where the body was a JSON object.
    Platform(Option<Map<String, Value>>),
    Unknown,
}

impl<'a> Received<'a> {
    pub(super) fn read(head: &'a Parts, body: &'a [u8]) -> Self {
        match Provider::at(head.uri.path()) {
            Some(Provider::Fynd) => {
                Self::Fynd(Parameters::parse(head.uri.query().unwrap_or_default().as_bytes()))
            }
            Some(Provider::KornitX) => Self::KornitX(Parameters::parse(body)),
            Some(Provider::Platform) => Self::Platform(serde_json::from_slice(body).ok()),
            None => Self::Unknown,
        }
    }

    pub(super) fn provider(&self) -> Option<Provider> {
        match self {
            Self::Fynd(_) => Some(Provider::Fynd),
            Self::KornitX(_) => Some(Provider::KornitX),
            Self::Platform(_) => Some(Provider::Platform),
            Self::Unknown => None,
        }
    }

    pub(super) fn account(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::Fynd(parameters) => parameters.one(fynd::ACCOUNT).ok()?.map(Cow::Borrowed),
            Self::KornitX(parameters) => parameters.one(kornitx::ACCOUNT).ok()?.map(Cow::Borrowed),
            Self::Platform(row) => match row.as_ref()?.get(platform::ACCOUNT)? {
                Value::String(id) => Some(Cow::Borrowed(id)),
                id => Some(Cow::Owned(id.to_string())),
            },
            Self::Unknown => None,
        }
    }
}
