//! A cache that lost everything, or did not take something.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use freshet_shared::adapters::database::{Database, RoundTrips};
use freshet_shared::domain::leadership::Lease;
use freshet_shared::ports::store::{LeaseStore, StoreError};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::Bench;
use crate::repairing::plan_cache_repair;
use crate::warming::{WarmReport, Warming, fill_alone};

#[tokio::test]
async fn a_connection_that_was_never_due_is_readable_again_too() {
    let bench = Bench::new().await;
    for id in 1..=2 {
        bench.add(id, 300).await;
    }
    bench.execute("DELETE FROM token_refresh WHERE connection_id = 2").await;
    let warming = Warming { leases: Arc::new(bench.database.clone()), check_every: Duration::from_secs(5) };
    // The first question makes the row of the lease.
    assert_eq!(fill_alone(&bench.refresher, &warming).await.unwrap(), None);
    let report = fill_alone(&bench.refresher, &warming).await.unwrap();
    assert_eq!(report, Some(WarmReport { connections: 2, passed_over: 0 }));
    for id in 1..=2 {
        assert_eq!(bench.cached(id), Some(format!("old-{id}")));
    }
    assert_eq!(bench.provider.calls().len(), 0);
    // Whoever found it empty too, and comes to the lease after us.
    assert_eq!(fill_alone(&bench.refresher, &warming).await.unwrap(), None);
}

/// The first round trip takes so long, whether it is made or fails.
struct SlowAtFirst {
    took: Duration,
    is_made: bool,
    is_over: AtomicBool,
}

impl SlowAtFirst {
    fn new(took: Duration, is_made: bool) -> Arc<Self> {
        Arc::new(Self { took, is_made, is_over: AtomicBool::new(false) })
    }
}

impl RoundTrips for SlowAtFirst {
    fn make<'t>(&'t self, trip: BoxFuture<'t, ()>) -> BoxFuture<'t, ()> {
        if self.is_over.swap(true, Ordering::SeqCst) {
            return trip;
        }
        async {
            if self.is_made {
                trip.await;
            }
            tokio::time::pause();
            tokio::time::advance(self.took).await;
            tokio::time::resume();
        }
        .boxed()
    }
}

/// Counts how often the lease was asked for.
struct Counting {
    database: Database,
    asked: AtomicU32,
}

#[async_trait]
impl LeaseStore for Counting {
    async fn take_lease(&self, name: &str, holder: &str, length: Duration) -> Result<Lease, StoreError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.database.take_lease(name, holder, length).await
    }

    async fn release_lease(&self, name: &str, holder: &str) -> Result<(), StoreError> {
        self.database.release_lease(name, holder).await
    }
}

/// Of many providers each may have a page that is not full.
#[tokio::test]
async fn the_lease_is_renewed_by_time_and_not_only_after_a_full_page() {
    for (took, asked) in [(Duration::ZERO, 1), (Duration::from_secs(6), 2)] {
        let mut bench = Bench::new().await;
        bench.add(1, 3_600).await;
        bench.execute("UPDATE ie_appinstall_connection SET accessToken = 'old'").await;
        let leases = Arc::new(Counting { database: bench.database.clone(), asked: AtomicU32::new(0) });
        let warming = Warming { leases: leases.clone(), check_every: Duration::from_secs(5) };
        // The first question makes the row of the lease.
        assert_eq!(fill_alone(&bench.refresher, &warming).await.unwrap(), None);
        leases.asked.store(0, Ordering::SeqCst);
        let slow = bench.database.clone().with_round_trips(SlowAtFirst::new(took, true));
        Arc::get_mut(&mut bench.refresher).unwrap().store = Arc::new(slow);
        let report = fill_alone(&bench.refresher, &warming).await.unwrap();
        assert_eq!(report, Some(WarmReport { connections: 1, passed_over: 0 }));
        assert_eq!(leases.asked.load(Ordering::SeqCst), asked, "after pages of {took:?}");
    }
}

#[tokio::test]
async fn a_repair_is_planned_however_long_the_database_does_not_answer() {
    for took in [0, 300].map(Duration::from_secs) {
        let mut bench = Bench::new().await;
        bench.add(1, 300).await;
        let database = bench.database.clone().with_round_trips(SlowAtFirst::new(took, false));
        let connection = bench.load(1).await;
        Arc::get_mut(&mut bench.refresher).unwrap().store = Arc::new(database);
        plan_cache_repair(&bench.refresher, &connection, connection.generation).await;
        assert!(bench.load(1).await.next_attempt_at.is_some(), "after {took:?}");
    }
}
