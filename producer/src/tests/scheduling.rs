//! When scans run.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::adapters::embedded::clock::ManualClock;
use freshet_shared::configuration::Configuration;
use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::queue::Consumer;
use tokio_util::sync::CancellationToken;

use super::{Bench, noon};
use crate::app::schedule;
use crate::schedule::run;

/// A clock whose sleepers move it: time passes exactly as far as somebody waits for it.
struct Leaping(Arc<ManualClock>);

#[async_trait::async_trait]
impl Clock for Leaping {
    fn now(&self) -> DateTime<Utc> {
        self.0.now()
    }

    async fn sleep(&self, duration: Duration) {
        self.0.advance(TimeDelta::from_std(duration).unwrap());
        // Others get their turn, as they would while time passes.
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn lanes_are_scanned_at_start_and_then_by_their_cron_expressions() {
    let mut bench = Bench::new(10).await;
    // Due early from 12:03 on, urgent from 12:23 on; nobody refreshes it.
    bench.add(1, Some(noon() + TimeDelta::minutes(33))).await;
    let configuration = Configuration::load(None, &std::collections::HashMap::new()).ok().unwrap();
    let schedule = schedule(&configuration.scan).unwrap();
    bench.scanner.clock = Arc::new(Leaping(bench.clock.clone()));
    let shutdown = CancellationToken::new();
    let mut consumer = bench.queue.consumer();
    let watching = async {
        let mut seen = Vec::new();
        while seen.len() < 8 {
            let delivery = consumer.next().await.unwrap();
            seen.push(((bench.clock.now() - noon()).num_minutes(), delivery.lane.as_str()));
            delivery.settle.acknowledge().await.unwrap();
        }
        shutdown.cancel();
        seen
    };
    let (seen, ()) = tokio::join!(watching, run(&bench.scanner, &schedule, &shutdown));
    // Early every five minutes once the claim of five minutes has run out; urgent every minute, likewise.
    assert_eq!(
        seen,
        [
            (5, "early"),
            (10, "early"),
            (15, "early"),
            (20, "early"),
            (25, "urgent"),
            (30, "urgent"),
            (35, "urgent"),
            (40, "urgent")
        ]
    );
}
