//! The cache in this process's memory, which behaves as the one in Redis does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use zeroize::Zeroizing;

use crate::adapters::redis::GENERATION_OUTLIVES_TOKEN;
use crate::adapters::redis::keys::Keys;
use crate::domain::connection::{ConnectionId, Generation, IdempotencyKey};
use crate::domain::provider::request::ReadyHeader;
use crate::ports::cache::{Cache, CacheError, Put, TokenEntry};
use crate::ports::clock::Clock;

/// Expired entries are swept out when there are this many, or twice as many as the last sweep left.
const SWEEP_AT_LEAST: usize = 1_024;

/// The cache of a process that has no Redis.
pub struct InProcessCache {
    clock: Arc<dyn Clock>,
    keys: Keys,
    entries: Mutex<Entries>,
}

struct Entries {
    by_key: HashMap<String, Entry>,
    sweep_at: usize,
}

struct Entry {
    value: Zeroizing<String>,
    expires_at: Option<DateTime<Utc>>,
}

impl InProcessCache {
    /// An empty cache.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        let entries = Entries { by_key: HashMap::new(), sweep_at: SWEEP_AT_LEAST };
        Self { clock, keys: Keys::new(String::new()), entries: Mutex::new(entries) }
    }

    /// What a reader of Redis would find under `key`.
    pub fn get(&self, key: &str) -> Option<String> {
        self.entries().get(key, self.clock.now()).map(|entry| entry.value.as_str().to_owned())
    }

    /// When the entry under `key` goes; `None` if it stays, or is not there.
    pub fn expires_at(&self, key: &str) -> Option<DateTime<Utc>> {
        self.entries().get(key, self.clock.now())?.expires_at
    }

    /// How many entries stand.
    pub fn len(&self) -> usize {
        let now = self.clock.now();
        self.entries().by_key.values().filter(|entry| entry.stands(now)).count()
    }

    /// Whether none stands.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// No panic can come between two changes that belong together, so what a poisoned lock guards is whole.
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn stands(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

impl Entries {
    fn get(&self, key: &str, now: DateTime<Utc>) -> Option<&Entry> {
        self.by_key.get(key).filter(|entry| entry.stands(now))
    }

    /// Whether the generation that stands there is newer than this.
    fn has_newer(&self, key: &str, generation: Generation, now: DateTime<Utc>) -> bool {
        let standing: Option<i64> = self.get(key, now).and_then(|entry| entry.value.parse().ok());
        standing.is_some_and(|standing| standing > generation.0)
    }

    fn set(&mut self, key: String, value: &str, expires_at: Option<DateTime<Utc>>, now: DateTime<Utc>) {
        if self.by_key.len() >= self.sweep_at {
            self.by_key.retain(|_, entry| entry.stands(now));
            self.sweep_at = SWEEP_AT_LEAST.max(2 * self.by_key.len());
        }
        self.by_key.insert(key, Entry { value: Zeroizing::new(value.to_owned()), expires_at });
    }
}

#[async_trait]
impl Cache for InProcessCache {
    async fn clear(&self, connection_id: ConnectionId, operations: &[&str]) -> Result<(), CacheError> {
        let mut entries = self.entries();
        entries.by_key.remove(&self.keys.token(connection_id));
        entries.by_key.remove(&self.keys.details(connection_id));
        for operation in operations {
            entries.by_key.remove(&self.keys.authorization(connection_id, operation));
        }
        Ok(())
    }

    async fn replace_details(
        &self,
        connection_id: ConnectionId,
        generation: Generation,
        operations: &[&str],
        details: &str,
        static_headers: &[ReadyHeader],
    ) -> Result<(), CacheError> {
        let is_newer = {
            let (now, key) = (self.clock.now(), self.keys.generation(connection_id));
            self.entries().has_newer(&key, generation, now)
        };
        if !is_newer {
            self.clear(connection_id, operations).await?;
        }
        self.put_details(connection_id, details, static_headers).await
    }

    async fn put_details(
        &self,
        connection_id: ConnectionId,
        details: &str,
        static_headers: &[ReadyHeader],
    ) -> Result<(), CacheError> {
        let now = self.clock.now();
        let mut entries = self.entries();
        entries.set(self.keys.details(connection_id), details, None, now);
        for header in static_headers {
            let key = self.keys.authorization(connection_id, &header.operation);
            entries.set(key, header.value.expose(), None, now);
        }
        Ok(())
    }

    async fn restore_details(
        &self,
        connection_id: ConnectionId,
        details: &str,
        static_headers: &[ReadyHeader],
    ) -> Result<(), CacheError> {
        let now = self.clock.now();
        let mut entries = self.entries();
        let headers = static_headers
            .iter()
            .map(|header| (self.keys.authorization(connection_id, &header.operation), header.value.expose()));
        for (key, value) in [(self.keys.details(connection_id), details)].into_iter().chain(headers) {
            if entries.get(&key, now).is_none() {
                entries.set(key, value, None, now);
            }
        }
        Ok(())
    }

    async fn is_warm(&self) -> Result<bool, CacheError> {
        let now = self.clock.now();
        Ok(self.entries().get(&self.keys.warm(), now).is_some_and(|entry| entry.value.as_str() == "warm"))
    }

    async fn begin_warming(&self, run: &str) -> Result<(), CacheError> {
        self.entries().set(self.keys.warm(), run, None, self.clock.now());
        Ok(())
    }

    async fn end_warming(&self, run: &str) -> Result<bool, CacheError> {
        let now = self.clock.now();
        let mut entries = self.entries();
        let is_this = entries.get(&self.keys.warm(), now).is_some_and(|entry| entry.value.as_str() == run);
        if is_this {
            entries.set(self.keys.warm(), "warm", None, now);
        }
        Ok(is_this)
    }

    async fn put_token(&self, entry: &TokenEntry) -> Result<Put, CacheError> {
        let (now, id) = (self.clock.now(), entry.connection_id);
        // Redis counts in milliseconds.
        if entry.expires_at.is_some_and(|expires_at| expires_at - now < TimeDelta::milliseconds(1)) {
            return Ok(Put::Refused);
        }
        let mut entries = self.entries();
        let generation = self.keys.generation(id);
        if entries.has_newer(&generation, entry.generation, now) {
            return Ok(Put::Refused);
        }
        entries.set(self.keys.token(id), entry.token.expose(), entry.expires_at, now);
        for header in &entry.headers {
            let key = self.keys.authorization(id, &header.operation);
            let dies_at = entry.expires_at.filter(|_| header.uses_token);
            entries.set(key, header.value.expose(), dies_at, now);
        }
        let forgotten_at = entry.expires_at.map(|expires_at| expires_at + GENERATION_OUTLIVES_TOKEN);
        entries.set(generation, &entry.generation.to_string(), forgotten_at, now);
        Ok(Put::Written)
    }

    async fn begin(&self, key: IdempotencyKey, holder: &str, hold: Duration) -> Result<bool, CacheError> {
        let (now, key) = (self.clock.now(), self.keys.attempt(key));
        let mut entries = self.entries();
        if entries.get(&key, now).is_some_and(|mark| mark.value.as_str() != holder) {
            return Ok(false);
        }
        let until = TimeDelta::from_std(hold).ok().and_then(|hold| now.checked_add_signed(hold));
        entries.set(key, holder, Some(until.unwrap_or(DateTime::<Utc>::MAX_UTC)), now);
        Ok(true)
    }

    async fn finish(&self, key: IdempotencyKey, holder: &str) -> Result<(), CacheError> {
        let key = self.keys.attempt(key);
        let mut entries = self.entries();
        if entries.by_key.get(&key).is_some_and(|mark| mark.value.as_str() == holder) {
            entries.by_key.remove(&key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::embedded::clock::ManualClock;
    use crate::domain::connection::Generation;
    use crate::domain::secret::Secret;

    fn entry(id: i64, generation: i64, expires_at: DateTime<Utc>) -> TokenEntry {
        let expires_at = Some(expires_at);
        TokenEntry {
            connection_id: ConnectionId(id),
            generation: Generation(generation),
            token: Secret::new(format!("token {generation}")),
            expires_at,
            headers: Vec::new(),
        }
    }

    // How it behaves beside Redis is in `tests/flow/cache.rs`; here is what only a clock moved by hand can show.

    #[tokio::test]
    async fn entries_go_when_their_time_has_come() {
        let clock = Arc::new(ManualClock::new(DateTime::UNIX_EPOCH));
        let cache = InProcessCache::new(clock.clone());
        let hour = TimeDelta::hours(1);
        let put = cache.put_token(&entry(1, 2, clock.now() + hour)).await;
        assert_eq!(put, Ok(Put::Written));
        clock.advance(hour - TimeDelta::milliseconds(1));
        assert_eq!(cache.get("connectionAccessToken_1").as_deref(), Some("token 2"));
        clock.advance(TimeDelta::milliseconds(1));
        assert_eq!(cache.get("connectionAccessToken_1"), None);

        // The fence stands for a day more.
        let late = |clock: &ManualClock| entry(1, 1, clock.now() + hour);
        clock.advance(TimeDelta::hours(24) - TimeDelta::milliseconds(1));
        assert_eq!(cache.put_token(&late(&clock)).await, Ok(Put::Refused));
        clock.advance(TimeDelta::milliseconds(1));
        assert!(cache.is_empty());
        assert_eq!(cache.put_token(&late(&clock)).await, Ok(Put::Written));
    }

    #[tokio::test]
    async fn a_mark_runs_out() {
        let clock = Arc::new(ManualClock::new(DateTime::UNIX_EPOCH));
        let cache = InProcessCache::new(clock.clone());
        let key = IdempotencyKey { connection_id: ConnectionId(1), generation: Generation(1) };
        let hold = Duration::from_secs(30);
        assert_eq!(cache.begin(key, "a", hold).await, Ok(true));
        clock.advance(TimeDelta::seconds(29));
        assert_eq!(cache.begin(key, "b", hold).await, Ok(false));
        clock.advance(TimeDelta::seconds(1));
        assert_eq!(cache.begin(key, "b", hold).await, Ok(true));
    }

    #[tokio::test]
    async fn expired_entries_do_not_pile_up() {
        let clock = Arc::new(ManualClock::new(DateTime::UNIX_EPOCH));
        let cache = InProcessCache::new(clock.clone());
        for id in 0..10_000 {
            let key = IdempotencyKey { connection_id: ConnectionId(id), generation: Generation(1) };
            cache.begin(key, "a", Duration::from_secs(30)).await.unwrap();
            clock.advance(TimeDelta::seconds(1));
        }
        assert_eq!(cache.len(), 30 - 1);
        assert!(cache.entries().by_key.len() <= SWEEP_AT_LEAST);
    }
}
