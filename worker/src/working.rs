//! All that a worker does at the same time, until it is told to stop.

use std::sync::Arc;

use freshet_shared::ports::queue::{ConsumeError, Consumer};
use tokio_util::sync::CancellationToken;

use crate::parked::run_parked;
use crate::pool::{Observer, PoolReport, PoolSettings, run};
use crate::refresh::Refresher;
use crate::warming::{Warming, keep_warm};

/// Where a worker's messages come from.
pub struct Sources {
    /// Connections to be refreshed.
    pub refreshes: Box<dyn Consumer>,
    /// Answers that a worker before us could not store.
    pub parked: Box<dyn Consumer>,
}

/// Refreshes, stores parked answers and looks after the cache until `shutdown`, and ends all three.
///
/// # Errors
/// If consuming cannot go on.
pub async fn work(
    refresher: &Arc<Refresher>,
    sources: Sources,
    warming: &Warming,
    settings: PoolSettings,
    observer: Observer,
    shutdown: &CancellationToken,
) -> Result<PoolReport, ConsumeError> {
    // Where one of them cannot go on, the others have to end, too.
    let stop = shutdown.child_token();
    let keeping_warm = keep_warm(refresher, warming, &stop);
    let storing_parked = async {
        let ended = run_parked(refresher, sources.parked, &stop).await;
        stop.cancel();
        ended
    };
    let refreshing = async {
        let ended = run(refresher.clone(), sources.refreshes, settings, observer, stop.clone()).await;
        stop.cancel();
        // A parked answer that the database does not take now is the next worker's.
        refresher.last_call.cancel();
        ended
    };
    let (report, parked, ()) = tokio::join!(refreshing, storing_parked, keeping_warm);
    parked?;
    report
}
