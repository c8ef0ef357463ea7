//! A cache that lost everything, or did not take something.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use freshet_shared::adapters::database::RoundTrips;
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
}

/// Does not make the first round trip, which takes so long to fail.
struct NotAtFirst {
    took: Duration,
    is_over: AtomicBool,
}

impl RoundTrips for NotAtFirst {
    fn make<'t>(&'t self, trip: BoxFuture<'t, ()>) -> BoxFuture<'t, ()> {
        if self.is_over.swap(true, Ordering::SeqCst) {
            return trip;
        }
        async {
            tokio::time::pause();
            tokio::time::advance(self.took).await;
            tokio::time::resume();
        }
        .boxed()
    }
}

#[tokio::test]
async fn a_repair_is_planned_however_long_the_database_does_not_answer() {
    for took in [0, 300].map(Duration::from_secs) {
        let mut bench = Bench::new().await;
        bench.add(1, 300).await;
        let trips = NotAtFirst { took, is_over: AtomicBool::new(false) };
        let database = bench.database.clone().with_round_trips(Arc::new(trips));
        let connection = bench.load(1).await;
        Arc::get_mut(&mut bench.refresher).unwrap().store = Arc::new(database);
        plan_cache_repair(&bench.refresher, &connection, connection.generation).await;
        assert!(bench.load(1).await.next_attempt_at.is_some(), "after {took:?}");
    }
}
