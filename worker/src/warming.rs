//! Filling a cache that lost everything, without a call to any provider.
//!
//! A key that nobody lets expire tells that the cache is filled. Whoever finds it missing takes a lease, so that one worker does
//! the work, and writes what MySQL holds, page by page. Generations keep it from overwriting what is newer.

use std::sync::Arc;
use std::time::Duration;

use freshet_shared::domain::channel::details;
use freshet_shared::domain::connection::ConnectionId;
use freshet_shared::domain::input_fields::InputFields;
use freshet_shared::domain::leadership::Lease;
use freshet_shared::domain::outcome::Cached;
use freshet_shared::domain::provider::Provider;
use freshet_shared::ports::store::{LeaseStore, StoreError};
use futures_util::future::join_all;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cache_entries::repair_cache;
use crate::refresh::{DATABASE_PATIENCE, Refresher, until_answered};

/// The row's name in `producer_lease`.
const LEASE: &str = "warm";
/// Longer than a page takes, and renewed before the next one when a part of it has passed. Whose page takes longer all the same
/// goes on beside whoever took over: both write what stands in MySQL, and one of them is counted.
const LEASE_LENGTH: Duration = Duration::from_secs(30);
const RENEW_AFTER: Duration = Duration::from_secs(5);
/// Connections whose entries are written at the same time.
const PAGE: u32 = 1_000;

const LOST_AGAIN: &str = "the cache lost everything once more, or another worker fills it";

/// Who fills the cache, and how often it is looked at.
pub struct Warming {
    /// Where the lease is.
    pub leases: Arc<dyn LeaseStore>,
    /// How often a worker looks whether the cache lost everything.
    pub check_every: Duration,
}

/// What filling the cache came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct WarmReport {
    /// Connections that were looked at.
    pub(crate) connections: u64,
    /// Those of which something could not be read or is of no use: they are left to their next refresh.
    pub(crate) passed_over: u64,
}

/// Looks after the cache until `shutdown`.
pub(crate) async fn keep_warm(refresher: &Refresher, warming: &Warming, shutdown: &CancellationToken) {
    while !shutdown.is_cancelled() {
        // A cache that is away has nothing to be filled, and others say so.
        if matches!(refresher.cache.is_warm().await, Ok(false)) {
            let begun = Instant::now();
            match shutdown.run_until_cancelled(fill_alone(refresher, warming)).await {
                Some(Ok(Some(report))) => tracing::info!(
                    connections = report.connections,
                    passed_over = report.passed_over,
                    took_ms = begun.elapsed().as_millis(),
                    "the cache had lost everything, and is filled again"
                ),
                // Somebody else is at it.
                Some(Ok(None)) => {}
                // Whoever comes next need not wait for the lease to run out.
                None => {
                    let release = warming.leases.release_lease(LEASE, &refresher.holder);
                    let _ = tokio::time::timeout(Duration::from_secs(1), release).await;
                }
                Some(Err(error)) => tracing::warn!(%error, "the cache is not filled yet, and filled anew"),
            }
        }
        tokio::select! {
            () = refresher.clock.sleep(warming.check_every) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// Fills the cache, unless somebody else holds the lease.
pub(crate) async fn fill_alone(
    refresher: &Refresher,
    warming: &Warming,
) -> anyhow::Result<Option<WarmReport>> {
    let asked_at = Instant::now();
    if !holds_lease(refresher, warming).await? {
        return Ok(None);
    }
    // Somebody else may have filled it since it was found empty.
    let is_filled = matches!(refresher.cache.is_warm().await, Ok(true));
    let filled = match is_filled {
        true => Ok(None),
        false => fill(refresher, warming, asked_at).await.map(Some),
    };
    warming.leases.release_lease(LEASE, &refresher.holder).await?;
    filled
}

/// Under a lease that was asked for at `renewed_at`.
async fn fill(
    refresher: &Refresher,
    warming: &Warming,
    mut renewed_at: Instant,
) -> anyhow::Result<WarmReport> {
    let run = format!("{:016x}", refresher.randomness.next());
    refresher.cache.begin_warming(&run).await?;
    let mut report = WarmReport::default();
    for provider in refresher.providers.iter() {
        let Some(integration_type) = &provider.integration_type else { continue };
        let mut after = None;
        loop {
            let now = refresher.clock.now();
            let page = until_answered(refresher, DATABASE_PATIENCE, || {
                refresher.store.good_page(integration_type, now, after, PAGE)
            })
            .await?;
            let filled = join_all(page.iter().map(|id| fill_one(refresher, provider, *id))).await;
            for is_filled in filled {
                report.connections += 1;
                report.passed_over += u64::from(!is_filled?);
            }
            // By time and not by page: of many providers each may have a page that is not full.
            if renewed_at.elapsed() >= RENEW_AFTER {
                renewed_at = Instant::now();
                anyhow::ensure!(holds_lease(refresher, warming).await?, LOST_AGAIN);
            }
            let is_full = page.len() == PAGE as usize;
            after = page.last().copied();
            if !is_full {
                break;
            }
        }
    }
    anyhow::ensure!(refresher.cache.end_warming(&run).await?, LOST_AGAIN);
    Ok(report)
}

/// Writes the entries of one connection: details where there are none, the token unless a newer one stands. `false` where
/// there is nothing to write or its row cannot be read.
async fn fill_one(
    refresher: &Refresher,
    provider: &Provider,
    connection_id: ConnectionId,
) -> anyhow::Result<bool> {
    let (loaded, channels) =
        tokio::join!(refresher.load(provider, connection_id), refresher.store.channels(connection_id));
    let (connection, channels) = match (loaded, channels) {
        (Ok(Some(connection)), Ok(channels)) if connection.is_active => (connection, channels),
        (Err(error @ StoreError::Unavailable { .. }), _)
        | (_, Err(error @ StoreError::Unavailable { .. })) => {
            return Err(error.into());
        }
        _ => return Ok(false),
    };
    let headers = InputFields::parse(connection.input_fields.as_ref())
        .map(|input| provider.static_headers(&input))
        .unwrap_or_default();
    let details = details(&channels);
    let (restored, cached) = tokio::join!(
        refresher.cache.restore_details(connection_id, &details, &headers),
        repair_cache(refresher, provider, &connection),
    );
    restored?;
    anyhow::ensure!(cached != Cached::Failed, "a token was not cached");
    Ok(true)
}

async fn holds_lease(refresher: &Refresher, warming: &Warming) -> Result<bool, StoreError> {
    let lease = warming.leases.take_lease(LEASE, &refresher.holder, LEASE_LENGTH).await?;
    Ok(matches!(lease, Lease::Ours { .. }))
}
