//! The parts of a fleet in one process, and how it is counted.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use freshet_producer::scan::Scanner;
use freshet_producer::schedule::Schedule;
use freshet_shared::domain::provider::catalogue::Providers;
use freshet_shared::domain::window::RefreshWindows;
use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::queue::Consumer;
use freshet_shared::ports::store::{Census, CensusStore, StoreError};
use freshet_worker::pool::PoolSettings;
use freshet_worker::refresh::Refresher;

/// Everything that runs.
pub struct Fleet {
    /// The producer's part.
    pub scanner: Scanner,
    /// When it scans.
    pub schedule: Schedule,
    /// The worker's part.
    pub refresher: Refresher,
    /// How many refreshes at once.
    pub pool: PoolSettings,
    /// Where the worker takes its messages from.
    pub consumer: Box<dyn Consumer>,
    /// Counts the connections.
    pub census: Arc<dyn CensusStore>,
    /// Time.
    pub clock: Arc<dyn Clock>,
}

/// Counts the whole fleet, over all providers that are scanned.
pub(super) struct Counter {
    census: Arc<dyn CensusStore>,
    providers: Providers,
    windows: RefreshWindows,
    clock: Arc<dyn Clock>,
}

impl Counter {
    pub(super) fn new(
        census: Arc<dyn CensusStore>,
        providers: Providers,
        windows: RefreshWindows,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { census, providers, windows, clock }
    }

    pub(super) fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    pub(super) async fn count(&self) -> Result<Census, StoreError> {
        let mut sum = Census::default();
        for integration_type in self.integration_types() {
            let one = self.census.census(integration_type, &self.windows, self.clock.now()).await?;
            sum.connections += one.connections;
            sum.valid += one.valid;
            sum.due += one.due;
            sum.next_expiry = [sum.next_expiry, one.next_expiry].into_iter().flatten().min();
        }
        Ok(sum)
    }

    /// Connections whose token expired after `since` and by `until`, and has not been renewed.
    pub(super) async fn expired_between(
        &self,
        since: DateTime<Utc>,
        until: DateTime<Utc>,
    ) -> Result<Vec<i64>, StoreError> {
        let mut expired = Vec::new();
        for integration_type in self.integration_types() {
            let ids = self.census.expired_between(integration_type, since, until).await?;
            expired.extend(ids.into_iter().map(|id| id.0));
        }
        Ok(expired)
    }

    fn integration_types(&self) -> impl Iterator<Item = &str> {
        self.providers.iter().filter_map(|provider| provider.integration_type.as_deref())
    }
}
