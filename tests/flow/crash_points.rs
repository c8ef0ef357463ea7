//! Processes that die between two steps that belong together, at each such place: what is left behind, and what the next
//! process makes of it. Judged by the model provider's ledger, the database and the cache.
//!
//! `TEST_CRASH_RUNS=100 tests/run --test flow crash_points` lets each place be hit a hundred times.

mod crash;

use anyhow::Result;
use freshet_shared::failpoints::Point;
use freshet_tests::model_provider::{Grant, Rotation, Successor};

use chrono::TimeDelta;
use crash::{Expected, Site};

/// Repeated inside it is every call of this test's dead, also on a slow machine.
const LENIENT: Rotation = Rotation::Leeway { window: TimeDelta::minutes(30), again: Successor::Same };

fn refreshed(calls: usize) -> Expected {
    Expected { calls, generation: 1, state: "active" }
}

/// The one window that cannot be closed: whoever has sent a strict token and died with the answer leaves nobody who could
/// know the next one.
fn quarantined(calls: usize) -> Expected {
    Expected { calls, generation: 0, state: "quarantined" }
}

#[tokio::test]
async fn a_producer_that_dies_delays_a_refresh_and_no_more() -> Result<()> {
    let mut site = Site::found(Grant::ClientCredentials).await?;
    for point in [Point::AfterSelect, Point::AfterClaim, Point::BeforeConfirm] {
        for _ in 0..crash::runs()? {
            site.producer_dies(point, refreshed(1)).await?;
        }
    }
    site.leave().await
}

#[tokio::test]
async fn a_call_that_spends_nothing_is_made_again() -> Result<()> {
    let mut site = Site::found(Grant::ClientCredentials).await?;
    for (point, calls) in [
        (Point::BeforeLease, 1),
        (Point::AfterLease, 1),
        (Point::DuringCall, 2),
        (Point::AfterAnswer, 2),
        (Point::AfterCommit, 1),
        (Point::AfterCache, 1),
    ] {
        for _ in 0..crash::runs()? {
            site.worker_dies(point, refreshed(calls)).await?;
        }
    }
    site.leave().await
}

#[tokio::test]
async fn a_token_that_may_be_spent_is_presented_again_inside_its_leeway() -> Result<()> {
    let mut site = Site::found(Grant::RefreshToken(LENIENT)).await?;
    for (point, calls) in [
        (Point::BeforeLease, 1),
        (Point::AfterLease, 1),
        (Point::DuringCall, 2),
        (Point::AfterAnswer, 2),
        (Point::AfterCommit, 1),
        (Point::AfterCache, 1),
    ] {
        for _ in 0..crash::runs()? {
            site.worker_dies(point, refreshed(calls)).await?;
        }
    }
    site.leave().await
}

#[tokio::test]
async fn a_strict_token_that_may_be_spent_is_never_presented_again() -> Result<()> {
    let mut site = Site::found(Grant::RefreshToken(Rotation::Strict)).await?;
    for (point, expected) in [
        (Point::BeforeLease, refreshed(1)),
        (Point::AfterLease, quarantined(0)),
        (Point::DuringCall, quarantined(1)),
        (Point::AfterAnswer, quarantined(1)),
        (Point::AfterCommit, refreshed(1)),
        (Point::AfterCache, refreshed(1)),
    ] {
        for _ in 0..crash::runs()? {
            site.worker_dies(point, expected).await?;
        }
    }
    site.leave().await
}
