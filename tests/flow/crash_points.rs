//! Processes that die between two steps that belong together, at each such place, and one that lives on when its time is
//! over: what is left behind, and what the next process makes of it. Judged by the model provider's ledger, the database
//! and the cache.
//!
//! `TEST_CRASH_RUNS=100 tests/run --test flow crash_points` lets each place be hit a hundred times, twenty side by side.

mod crash;

use anyhow::Result;
use chrono::TimeDelta;
use freshet_shared::failpoints::Point;
use freshet_tests::model_provider::{Grant, Rotation, Successor};

use crash::{Expected, Site, portions};

/// Shorter than the lease of the dead, and longer than twenty crashes take on a slow machine.
const LENIENT: Rotation = Rotation::Leeway { window: TimeDelta::seconds(LEEWAY_S), again: Successor::New };
const LEEWAY_S: i64 = 360;

fn refreshed(calls: usize) -> Expected {
    Expected { calls, generation: 1, state: "active" }
}

/// The one window that cannot be closed: whoever has sent a strict token and died with the answer leaves nobody who could
/// know the next one.
fn quarantined(calls: usize) -> Expected {
    Expected { calls, generation: 0, state: "quarantined" }
}

async fn workers_die(grant: Grant, places: [(Point, Expected); 7]) -> Result<()> {
    let mut site = Site::found(grant).await?;
    for (point, expected) in places {
        for count in portions()? {
            site.workers_die(point, count, expected).await?;
        }
    }
    site.leave().await
}

#[tokio::test]
async fn a_producer_that_dies_delays_a_refresh_and_no_more() -> Result<()> {
    let mut site = Site::found(Grant::ClientCredentials).await?;
    for point in [Point::AfterSelect, Point::AfterClaim, Point::BeforeConfirm] {
        for count in portions()? {
            site.producers_die(point, count, refreshed(1)).await?;
        }
    }
    site.leave().await
}

#[tokio::test]
async fn a_call_that_spends_nothing_is_made_again() -> Result<()> {
    let places = [
        (Point::BeforeLease, refreshed(1)),
        (Point::AfterLease, refreshed(1)),
        (Point::DuringCall, refreshed(2)),
        (Point::Zombie, refreshed(2)),
        (Point::AfterAnswer, refreshed(2)),
        (Point::AfterCommit, refreshed(1)),
        (Point::AfterCache, refreshed(1)),
    ];
    workers_die(Grant::ClientCredentials, places).await
}

#[tokio::test]
async fn a_token_that_may_be_spent_is_presented_again_inside_its_leeway() -> Result<()> {
    let places = [
        (Point::BeforeLease, refreshed(1)),
        (Point::AfterLease, refreshed(1)),
        (Point::DuringCall, refreshed(2)),
        (Point::Zombie, refreshed(2)),
        (Point::AfterAnswer, refreshed(2)),
        (Point::AfterCommit, refreshed(1)),
        (Point::AfterCache, refreshed(1)),
    ];
    workers_die(Grant::RefreshToken(LENIENT), places).await
}

#[tokio::test]
async fn a_strict_token_that_may_be_spent_is_never_presented_again() -> Result<()> {
    let places = [
        (Point::BeforeLease, refreshed(1)),
        (Point::AfterLease, quarantined(0)),
        (Point::DuringCall, quarantined(1)),
        (Point::Zombie, quarantined(1)),
        (Point::AfterAnswer, quarantined(1)),
        (Point::AfterCommit, refreshed(1)),
        (Point::AfterCache, refreshed(1)),
    ];
    workers_die(Grant::RefreshToken(Rotation::Strict), places).await
}

#[tokio::test]
async fn a_worker_that_comes_back_after_its_lease_changes_nothing_unless_it_alone_has_the_answer()
-> Result<()> {
    // Where somebody else was faster, what comes late is stale; where nobody could be, it is stored on the generation that
    // was spent. Whoever has not called yet does so only where nobody else can have called.
    let cases = [
        (Grant::ClientCredentials, Point::Zombie, refreshed(2), refreshed(2)),
        (Grant::RefreshToken(LENIENT), Point::Zombie, refreshed(2), refreshed(2)),
        (Grant::RefreshToken(LENIENT), Point::AfterLease, refreshed(1), refreshed(1)),
        (Grant::RefreshToken(Rotation::Strict), Point::Zombie, quarantined(1), refreshed(1)),
        (Grant::RefreshToken(Rotation::Strict), Point::AfterLease, quarantined(0), refreshed(1)),
    ];
    for (grant, point, meanwhile, expected) in cases {
        let mut site = Site::found(grant).await?;
        for count in portions()? {
            site.workers_are_late(point, count, meanwhile, expected).await?;
        }
        site.leave().await?;
    }
    Ok(())
}
