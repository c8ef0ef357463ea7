//! The cache as a process sees it: it may be away, and it may have been emptied.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use freshet_shared::adapters::embedded::cache::InProcessCache;
use freshet_shared::domain::connection::{ConnectionId, Generation, IdempotencyKey};
use freshet_shared::domain::provider::request::ReadyHeader;
use freshet_shared::ports::cache::{Cache, CacheError, Put, TokenEntry};
use freshet_shared::ports::clock::Clock;

use crate::deadlines::Wait;
use crate::host::Host;

/// The cache itself.
pub(crate) struct Shelf {
    clock: Arc<dyn Clock>,
    cache: Mutex<Arc<InProcessCache>>,
    emptied_at: Mutex<Option<DateTime<Utc>>>,
    cleared_at: Mutex<BTreeMap<ConnectionId, DateTime<Utc>>>,
    filled: AtomicU64,
    compared: AtomicU64,
}

impl Shelf {
    /// An empty one. Its clock is the server's.
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        let cache = Mutex::new(Arc::new(InProcessCache::new(clock.clone())));
        Self {
            clock,
            cache,
            emptied_at: Mutex::default(),
            cleared_at: Mutex::default(),
            filled: AtomicU64::new(0),
            compared: AtomicU64::new(0),
        }
    }

    /// As it is now.
    pub(crate) fn cache(&self) -> Arc<InProcessCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Loses all that is in it.
    pub(crate) fn lose(&self) {
        let empty = Arc::new(InProcessCache::new(self.clock.clone()));
        *self.cache.lock().unwrap_or_else(PoisonError::into_inner) = empty;
        *self.emptied() = Some(self.clock.now());
    }

    /// When it lost everything, until it is known to be filled again.
    pub(crate) fn emptied_at(&self) -> Option<DateTime<Utc>> {
        *self.emptied()
    }

    /// A refresh clears a connection's entries, before its call may come to nothing.
    fn clears(&self, id: ConnectionId) {
        self.cleared().insert(id, self.clock.now());
    }

    /// When a refresh last did.
    pub(crate) fn cleared_at(&self, id: i64) -> Option<DateTime<Utc>> {
        self.cleared().get(&ConnectionId(id)).copied()
    }

    /// It is known to be filled again: so many tokens had to be there. Where none had to, nothing was shown.
    pub(crate) fn is_filled(&self, compared: u64) {
        *self.emptied() = None;
        self.filled.fetch_add(u64::from(compared > 0), Ordering::Relaxed);
        self.compared.fetch_add(compared, Ordering::Relaxed);
    }

    /// How often it was, and how many tokens were looked for.
    pub(crate) fn filled(&self) -> (u64, u64) {
        (self.filled.load(Ordering::Relaxed), self.compared.load(Ordering::Relaxed))
    }

    fn cleared(&self) -> MutexGuard<'_, BTreeMap<ConnectionId, DateTime<Utc>>> {
        self.cleared_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn emptied(&self) -> MutexGuard<'_, Option<DateTime<Utc>>> {
        self.emptied_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a process reaches it.
pub(crate) struct Reach {
    pub(crate) host: Arc<Host>,
    pub(crate) shelf: Arc<Shelf>,
}

impl Reach {
    async fn ask<T>(
        &self,
        operation: &'static str,
        id: Option<ConnectionId>,
        ask: impl AsyncFnOnce(Arc<InProcessCache>) -> Result<T, CacheError>,
    ) -> Result<T, CacheError> {
        let away = || CacheError { operation, problem: "it does not answer".into() };
        let world = &self.host.world;
        let id = id.map(|id| id.0);
        let failed = || self.host.was_failed(id, Wait::CacheFailed);
        self.host.step("before a command of the cache", id).await;
        if world.state().is_cache_away || world.strikes(|faults| faults.cache_away) {
            failed();
            tokio::time::sleep(Duration::from_millis(500)).await;
            return Err(away());
        }
        let result = ask(self.shelf.cache()).await;
        self.host.step("after a command of the cache", id).await;
        if world.strikes(|faults| faults.cache_reply_lost) {
            failed();
            return Err(away());
        }
        result
    }
}

#[async_trait]
impl Cache for Reach {
    async fn clear(&self, connection_id: ConnectionId, operations: &[&str]) -> Result<(), CacheError> {
        self.ask("clear", Some(connection_id), async |cache| cache.clear(connection_id, operations).await)
            .await
    }

    async fn replace_details(
        &self,
        connection_id: ConnectionId,
        generation: Generation,
        operations: &[&str],
        details: &str,
        static_headers: &[ReadyHeader],
    ) -> Result<(), CacheError> {
        self.ask("replace_details", Some(connection_id), async |cache| {
            self.shelf.clears(connection_id);
            cache.replace_details(connection_id, generation, operations, details, static_headers).await
        })
        .await
    }

    async fn put_details(
        &self,
        connection_id: ConnectionId,
        details: &str,
        static_headers: &[ReadyHeader],
    ) -> Result<(), CacheError> {
        self.ask("take details", Some(connection_id), async |cache| {
            cache.put_details(connection_id, details, static_headers).await
        })
        .await
    }

    async fn restore_details(
        &self,
        connection_id: ConnectionId,
        details: &str,
        static_headers: &[ReadyHeader],
    ) -> Result<(), CacheError> {
        let restore = async |cache: Arc<InProcessCache>| {
            cache.restore_details(connection_id, details, static_headers).await
        };
        self.ask("restore details", Some(connection_id), restore).await
    }

    async fn is_warm(&self) -> Result<bool, CacheError> {
        self.ask("say whether it is warm", None, async |cache| cache.is_warm().await).await
    }

    async fn begin_warming(&self, run: &str) -> Result<(), CacheError> {
        self.ask("begin to be filled", None, async |cache| cache.begin_warming(run).await).await
    }

    async fn end_warming(&self, run: &str) -> Result<bool, CacheError> {
        self.ask("end to be filled", None, async |cache| cache.end_warming(run).await).await
    }

    async fn put_token(&self, entry: &TokenEntry) -> Result<Put, CacheError> {
        let put = self
            .ask("take a token", Some(entry.connection_id), async |cache| cache.put_token(entry).await)
            .await;
        let (id, generation) = (entry.connection_id, entry.generation);
        self.host.trace(format_args!("cached {id}:{generation}: {put:?}"));
        put
    }

    async fn begin(&self, key: IdempotencyKey, holder: &str, hold: Duration) -> Result<bool, CacheError> {
        self.ask("take a mark", Some(key.connection_id), async |cache| cache.begin(key, holder, hold).await)
            .await
    }

    async fn finish(&self, key: IdempotencyKey, holder: &str) -> Result<(), CacheError> {
        self.ask("remove a mark", Some(key.connection_id), async |cache| cache.finish(key, holder).await)
            .await
    }
}
