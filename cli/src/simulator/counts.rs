//! The counters that always run.

use std::sync::atomic::{AtomicU64, Ordering};

use axum::http::StatusCode;

use super::reply::Answer;

/// How many requests came and what they were answered with. Scripted answers count by their status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Requests received, at any endpoint.
    pub requests: u64,
    /// Access tokens handed out.
    pub issued: u64,
    /// Answers with 429.
    pub rate_limited: u64,
    /// Answers with 500 to 599.
    pub server_errors: u64,
    /// Answers with any other status of 400 to 499: wrong credentials, bad requests, unknown paths.
    pub refused: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    requests: AtomicU64,
    issued: AtomicU64,
    rate_limited: AtomicU64,
    server_errors: AtomicU64,
    refused: AtomicU64,
}

impl Counters {
    pub(super) fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn answer(&self, answer: &Answer) {
        let status = answer.reply.status;
        let counter = if answer.issued.is_some() {
            &self.issued
        } else if status == StatusCode::TOO_MANY_REQUESTS {
            &self.rate_limited
        } else if status.is_server_error() {
            &self.server_errors
        } else if status.is_client_error() {
            &self.refused
        } else {
            return;
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counts {
            requests: read(&self.requests),
            issued: read(&self.issued),
            rate_limited: read(&self.rate_limited),
            server_errors: read(&self.server_errors),
            refused: read(&self.refused),
        }
    }
}
