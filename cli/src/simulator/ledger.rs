//! The requests as they came in, kept only where recording is on.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use axum::{
    body::Bytes,
    http::{HeaderMap, Method},
};

use super::{provider::Provider, reply::Answer};

/// One request and what became of it. Its `Debug` leaves out the query, headers, body and token, which are secret.
#[derive(Clone)]
pub struct LedgerEntry {
    /// The method.
    pub method: Method,
    /// The request target as on the wire: path and raw query, nothing decoded.
    pub target: String,
    /// The headers, values byte for byte; the server has lower-cased the names and put equal ones together.
    pub headers: HeaderMap,
    /// The body, byte for byte (without a transfer coding).
    pub body: Bytes,
    /// Whose endpoint it was; none for an unknown path.
    pub provider: Option<Provider>,
    /// The account, decoded: `username`, `client_id` or `connectionId`.
    pub account: Option<String>,
    /// What it was answered with.
    pub answer: LedgerAnswer,
}

/// What a request was answered with.
#[derive(Clone, PartialEq, Eq)]
pub enum LedgerAnswer {
    /// Nothing yet, or the client left before the answer.
    Pending,
    /// An answer was given.
    Replied {
        /// The status code.
        status: u16,
        /// The access token in it, if one was issued.
        issued: Option<String>,
    },
    /// The connection was reset instead.
    Reset,
}

impl LedgerEntry {
    /// The status code of the answer, if one was given.
    pub fn status(&self) -> Option<u16> {
        match self.answer {
            LedgerAnswer::Replied { status, .. } => Some(status),
            LedgerAnswer::Pending | LedgerAnswer::Reset => None,
        }
    }

    /// The access token that was issued, if any.
    pub fn issued(&self) -> Option<&str> {
        match &self.answer {
            LedgerAnswer::Replied { issued, .. } => issued.as_deref(),
            LedgerAnswer::Pending | LedgerAnswer::Reset => None,
        }
    }

    fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }
}

impl fmt::Debug for LedgerEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LedgerEntry")
            .field("method", &self.method)
            .field("path", &self.path())
            .field("provider", &self.provider)
            .field("account", &self.account)
            .field("answer", &self.answer)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for LedgerAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pending => f.write_str("Pending"),
            Self::Replied { status, issued: Some(_) } => write!(f, "{status} with a token"),
            Self::Replied { status, issued: None } => write!(f, "{status}"),
            Self::Reset => f.write_str("Reset"),
        }
    }
}

/// An entry's place in the ledger.
#[derive(Clone, Copy)]
pub(super) struct Place(usize);

#[derive(Default)]
pub(super) struct Ledger(Mutex<Vec<LedgerEntry>>);

impl Ledger {
    /// Enters a request on arrival, so that a test can see one that is still waiting for its answer.
    pub(super) fn enter(&self, entry: LedgerEntry) -> Place {
        let mut entries = self.lock();
        entries.push(entry);
        Place(entries.len() - 1)
    }

    /// Notes the answer; none means that the connection was reset.
    pub(super) fn close(&self, Place(place): Place, answer: Option<&Answer>) {
        if let Some(entry) = self.lock().get_mut(place) {
            entry.answer = match answer {
                Some(Answer { reply, issued }) => {
                    LedgerAnswer::Replied { status: reply.status.as_u16(), issued: issued.clone() }
                }
                None => LedgerAnswer::Reset,
            };
        }
    }

    pub(super) fn entries(&self) -> Vec<LedgerEntry> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<LedgerEntry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
