//! The cache: what other systems read. MySQL is the truth; everything here can be written again from it.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use thiserror::Error;

use crate::domain::connection::{ConnectionId, Generation, IdempotencyKey};
use crate::domain::provider::request::ReadyHeader;
use crate::domain::secret::Secret;

/// The cache of tokens, ready headers and connection details.
#[async_trait]
pub trait Cache: Send + Sync {
    /// Removes the token, the details and the ready headers of `operations`. The generation is remembered, so that a
    /// late writer of an older token stays out.
    async fn clear(&self, connection_id: ConnectionId, operations: &[&str]) -> Result<(), CacheError>;

    /// Writes `connectionDetail_{connectionId}`, a JSON array, and the headers that need no token. What else
    /// [`Self::clear`] removes of `operations` is removed in the same step, unless it is of a newer generation than this: a
    /// network may deliver late what was given up long ago.
    async fn replace_details(
        &self,
        connection_id: ConnectionId,
        generation: Generation,
        operations: &[&str],
        details: &str,
        static_headers: &[ReadyHeader],
    ) -> Result<(), CacheError>;

    /// Writes `connectionDetail_{connectionId}`, a JSON array, and the headers that need no token.
    async fn put_details(
        &self,
        connection_id: ConnectionId,
        details: &str,
        static_headers: &[ReadyHeader],
    ) -> Result<(), CacheError>;

    /// Writes what [`Self::put_details`] does where nothing is there: whoever renews details knows better.
    async fn restore_details(
        &self,
        connection_id: ConnectionId,
        details: &str,
        static_headers: &[ReadyHeader],
    ) -> Result<(), CacheError>;

    /// Whether the cache was filled, and has not lost everything since.
    async fn is_warm(&self) -> Result<bool, CacheError>;

    /// Notes that `run` begins to fill the cache.
    async fn begin_warming(&self, run: &str) -> Result<(), CacheError>;

    /// Notes that `run` has filled the cache; `false` if everything was lost meanwhile, or another run has begun.
    async fn end_warming(&self, run: &str) -> Result<bool, CacheError>;

    /// Writes the token and the ready headers, all or none, unless a newer generation is there.
    async fn put_token(&self, entry: &TokenEntry) -> Result<Put, CacheError>;

    /// Marks that a refresh is in flight, until it is finished or `hold` has passed. `false` if somebody else's mark
    /// stands.
    async fn begin(
        &self,
        key: IdempotencyKey,
        holder: &str,
        hold: std::time::Duration,
    ) -> Result<bool, CacheError>;

    /// Removes the mark, if it is still `holder`'s.
    async fn finish(&self, key: IdempotencyKey, holder: &str) -> Result<(), CacheError>;
}

/// A token and the headers made of it.
pub struct TokenEntry {
    /// Whose.
    pub connection_id: ConnectionId,
    /// The generation of the token.
    pub generation: Generation,
    /// The bare token.
    pub token: Secret,
    /// When the token, and each header that holds it, has to be gone from the cache; `None`: nobody says, it stays.
    pub expires_at: Option<DateTime<Utc>>,
    /// The headers per operation.
    pub headers: Vec<ReadyHeader>,
}

/// What a write of a token came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// The entry stands.
    Written,
    /// A newer generation stands, or the token has expired already; nothing was written.
    Refused,
}

/// The cache did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the cache did not {operation}: {problem}")]
pub struct CacheError {
    /// What was asked, in words.
    pub operation: &'static str,
    /// What the client says, without keys' values.
    pub problem: String,
}
