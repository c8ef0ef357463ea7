//! What goes back to a client.

use axum::{
    body::{Body, Bytes},
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};

/// A complete answer. The server adds `date` and frames the body: a `content-length` or `transfer-encoding` given
/// here is dropped, since it could only repeat or contradict the body.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: StatusCode,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, sent byte for byte.
    pub body: Bytes,
}

impl Reply {
    /// An answer without headers.
    pub fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, headers: HeaderMap::new(), body: body.into() }
    }

    /// An answer of type `application/json`; the body is sent as given, valid or not.
    pub fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, body).with(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))
    }

    /// An answer of type `text/html`, as proxies and crashed servers give.
    pub fn html(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self::new(status, body)
            .with(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"))
    }

    /// The same answer with one header more, beside any of the same name.
    #[must_use]
    pub fn with(mut self, name: HeaderName, value: impl Into<HeaderValue>) -> Self {
        self.headers.append(name, value.into());
        self
    }

    pub(super) fn into_response(mut self) -> Response {
        self.headers.remove(header::CONTENT_LENGTH);
        self.headers.remove(header::TRANSFER_ENCODING);
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

/// A reply and the token in it, if it carries one.
pub(super) struct Answer {
    pub(super) reply: Reply,
    pub(super) issued: Option<String>,
}

impl Answer {
    pub(super) fn plain(reply: Reply) -> Self {
        Self { reply, issued: None }
    }

    pub(super) fn issued(reply: Reply, token: String) -> Self {
        Self { reply, issued: Some(token) }
    }

    pub(super) fn with(self, name: HeaderName, value: &'static str) -> Self {
        Self { reply: self.reply.with(name, HeaderValue::from_static(value)), ..self }
    }
}
