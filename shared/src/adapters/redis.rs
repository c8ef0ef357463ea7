//! The cache in Redis (or Valkey, KeyDB, …), through fred.
//!
//! Standalone, replicated and Sentinel servers are served. Redis Cluster is not: the keys of one connection have
//! names that other systems read, so they cannot be given a common hash tag, fall into different slots, and no
//! script may touch them together.
//!
//! Scripts make each write atomic: a token stands with the headers made of it or not at all, and only if nothing
//! newer stands.

mod batch;
pub(in crate::adapters) mod keys;
mod link;
mod local_share;
mod outage;
mod problem;
pub mod rate_limiter;
mod script;
mod silence;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use fred::types::Value;
use tracing::{Instrument, debug_span, field};

use crate::domain::connection::{ConnectionId, Generation, IdempotencyKey};
use crate::domain::provider::request::ReadyHeader;
use crate::domain::secret::Secret;
use crate::ports::cache::{Cache, CacheError, Put, TokenEntry};
use crate::ports::clock::Clock;

use batch::{Batches, Command};
use keys::Keys;
use link::Links;
use rate_limiter::RedisRateLimiter;

/// How long a generation outlives its token: a writer may be this late and still be kept out.
pub(in crate::adapters) const GENERATION_OUTLIVES_TOKEN: TimeDelta = TimeDelta::hours(24);

/// What the script takes for a life without end.
const NO_END: i64 = 0;

/// How Redis is reached. Holds a password perhaps, so it has no `Debug`.
pub struct RedisSettings {
    /// `redis://`, `rediss://` (TLS), `redis-sentinel://` or `rediss-sentinel://`.
    pub url: Secret,
    /// Stands before every key; empty where other systems are to read them.
    pub key_prefix: String,
    /// How long a command may wait for its answer, and before that for a connection.
    pub command_timeout: Duration,
    /// How many connections are held. One carries many commands at once; a few use more than one core.
    pub connections: usize,
}

/// The cache in Redis.
pub struct RedisCache {
    links: Arc<Links>,
    keys: Keys,
    clock: Arc<dyn Clock>,
    batches: Batches,
}

impl RedisCache {
    /// Starts to connect in the background and goes on trying for ever; returns without waiting for it. Until there
    /// is a connection, and whenever there is none, commands fail within the time-out. Call it within Tokio's runtime.
    ///
    /// # Errors
    /// When the settings cannot work, whatever Redis does.
    pub fn connect(settings: RedisSettings, clock: Arc<dyn Clock>) -> Result<Self, CacheError> {
        let links = Links::open(&settings).map_err(|problem| problem.during("connect"))?;
        let links = Arc::new(links);
        let batches = Batches::new(links.clone());
        Ok(Self { links, keys: Keys::new(settings.key_prefix), clock, batches })
    }

    /// The request rates, kept on the same server over the same connections; `workers` share them while it is away.
    pub fn rate_limiter(&self, workers: NonZeroU32) -> RedisRateLimiter {
        RedisRateLimiter::new(self.links.clone(), self.keys.clone(), workers)
    }

    /// Says goodbye to the server, for the rate limiter too. Commands fail afterwards.
    pub async fn close(&self) {
        self.links.close().await;
    }

    /// A command that writes a connection's details and the headers that need no token.
    fn details(
        &self,
        name: &'static str,
        connection_id: ConnectionId,
        details: &str,
        static_headers: &[ReadyHeader],
    ) -> Command {
        let mut keys = vec![self.keys.details(connection_id)];
        let mut values: Vec<Value> = vec![details.into()];
        for header in static_headers {
            keys.push(self.keys.authorization(connection_id, &header.operation));
            values.push(header.value.expose().into());
        }
        Command::new(name, keys, values)
    }

    /// A command about the cache as a whole; always over the same connection.
    async fn of_all(
        &self,
        name: &'static str,
        arguments: Vec<Value>,
        operation: &'static str,
    ) -> Result<i64, CacheError> {
        let command = Command::new(name, vec![self.keys.warm()], arguments);
        self.run(ConnectionId(0), command, operation).await
    }

    async fn run(
        &self,
        connection_id: ConnectionId,
        command: Command,
        operation: &'static str,
    ) -> Result<i64, CacheError> {
        let span = debug_span!(
            "cache",
            otel.name = format!("EVALSHA {}", command.name()),
            otel.kind = "client",
            otel.status_code = field::Empty,
            db.system.name = "redis",
            db.operation.name = "EVALSHA",
            db.query.summary = format!("EVALSHA {}", command.name()),
            freshet.step = "cache",
            error.type = field::Empty,
        );
        let result = self.batches.run(connection_id, command).instrument(span.clone()).await;
        if result.is_err() {
            span.record("error.type", "unavailable");
            span.record("otel.status_code", "error");
        }
        result.map_err(|problem| problem.during(operation))
    }
}

#[async_trait]
impl Cache for RedisCache {
    async fn clear(&self, connection_id: ConnectionId, operations: &[&str]) -> Result<(), CacheError> {
        let mut keys = vec![self.keys.token(connection_id), self.keys.details(connection_id)];
        keys.extend(operations.iter().map(|operation| self.keys.authorization(connection_id, operation)));
        let command = Command::new("clear", keys, Vec::new());
        self.run(connection_id, command, "clear a connection's entries").await.map(drop)
    }

    async fn replace_details(
        &self,
        connection_id: ConnectionId,
        generation: Generation,
        operations: &[&str],
        details: &str,
        static_headers: &[ReadyHeader],
    ) -> Result<(), CacheError> {
        let mut command = self.details("replace", connection_id, details, static_headers);
        command.put_first(self.keys.generation(connection_id), generation.0.into());
        command.add_key(self.keys.token(connection_id));
        let is_written = |operation| static_headers.iter().any(|header| header.operation == operation);
        for operation in operations.iter().filter(|operation| !is_written(**operation)) {
            command.add_key(self.keys.authorization(connection_id, operation));
        }
        self.run(connection_id, command, "replace a connection's details").await.map(drop)
    }

    async fn put_details(
        &self,
        connection_id: ConnectionId,
        details: &str,
        static_headers: &[ReadyHeader],
    ) -> Result<(), CacheError> {
        let command = self.details("put", connection_id, details, static_headers);
        self.run(connection_id, command, "store a connection's details").await.map(drop)
    }

    async fn restore_details(
        &self,
        connection_id: ConnectionId,
        details: &str,
        static_headers: &[ReadyHeader],
    ) -> Result<(), CacheError> {
        let command = self.details("restore", connection_id, details, static_headers);
        self.run(connection_id, command, "restore a connection's details").await.map(drop)
    }

    async fn is_warm(&self) -> Result<bool, CacheError> {
        Ok(self.of_all("is_warm", Vec::new(), "say whether it is filled").await? == 1)
    }

    async fn begin_warming(&self, run: &str) -> Result<(), CacheError> {
        self.of_all("begin_warming", vec![run.into()], "note that it is being filled").await.map(drop)
    }

    async fn end_warming(&self, run: &str) -> Result<bool, CacheError> {
        Ok(self.of_all("end_warming", vec![run.into()], "note that it is filled").await? == 1)
    }

    async fn put_token(&self, entry: &TokenEntry) -> Result<Put, CacheError> {
        let left = entry.expires_at.map(|expires_at| expires_at - self.clock.now());
        if left.is_some_and(|left| left < TimeDelta::milliseconds(1)) {
            return Ok(Put::Refused);
        }
        let milliseconds = |life: Option<TimeDelta>| life.map_or(NO_END, |life| life.num_milliseconds());
        let id = entry.connection_id;
        let mut keys = vec![self.keys.generation(id), self.keys.token(id)];
        let mut arguments: Vec<Value> = vec![
            entry.generation.0.into(),
            milliseconds(left).into(),
            milliseconds(left.map(|left| left + GENERATION_OUTLIVES_TOKEN)).into(),
            entry.token.expose().into(),
        ];
        for header in &entry.headers {
            keys.push(self.keys.authorization(id, &header.operation));
            arguments.push(if header.uses_token { "dies with the token" } else { "stays" }.into());
            arguments.push(header.value.expose().into());
        }
        let written = self.run(id, Command::new("put_token", keys, arguments), "store a token").await?;
        Ok(if written == 1 { Put::Written } else { Put::Refused })
    }

    async fn begin(&self, key: IdempotencyKey, holder: &str, hold: Duration) -> Result<bool, CacheError> {
        let arguments = vec![holder.into(), whole_milliseconds(hold).into()];
        let command = Command::new("begin", vec![self.keys.attempt(key)], arguments);
        Ok(self.run(key.connection_id, command, "mark a refresh as in flight").await? == 1)
    }

    async fn finish(&self, key: IdempotencyKey, holder: &str) -> Result<(), CacheError> {
        let command = Command::new("finish", vec![self.keys.attempt(key)], vec![holder.into()]);
        self.run(key.connection_id, command, "remove the mark of a refresh in flight").await.map(drop)
    }
}

/// Redis takes no time to live of nothing.
fn whole_milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX / 2).max(1)
}
