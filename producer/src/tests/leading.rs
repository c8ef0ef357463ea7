//! Only who leads scans.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use freshet_shared::configuration::Configuration;
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::leadership::{Lease, Standing};
use freshet_shared::ports::queue::Consumer;
use freshet_shared::ports::store::{LeaseStore, StoreError};
use tokio_util::sync::CancellationToken;

use super::{Bench, noon};
use crate::app::schedule;
use crate::leadership::{Campaign, Leadership, campaign};
use crate::scan::{ScanReport, Target, scan};
use crate::schedule::run;

fn leading(seconds: u64) -> Standing {
    Standing::Leading { term: 1, until: Duration::from_secs(seconds) }
}

#[tokio::test]
async fn a_scan_whose_term_is_over_claims_nothing() {
    let mut bench = Bench::new(10).await;
    bench.add(1, Some(noon() + TimeDelta::minutes(5))).await;
    bench.scanner.leadership = Leadership::to_be_won();
    let report = scan(&bench.scanner, Target::Lane(Lane::Urgent)).await.unwrap();
    assert_eq!(report, ScanReport { found: 1, ..ScanReport::default() });
    bench.scanner.leadership.enter(leading(600));
    assert_eq!(scan(&bench.scanner, Target::Lane(Lane::Urgent)).await.unwrap().published, 1);
}

#[tokio::test]
async fn a_process_that_is_about_to_end_claims_nothing_more_and_still_holds_its_lease() {
    let mut bench = Bench::new(1).await;
    bench.add(1, Some(noon() + TimeDelta::minutes(5))).await;
    bench.scanner.leadership = Leadership::to_be_won();
    bench.scanner.leadership.enter(leading(600));
    bench.scanner.leadership.stand_down();
    assert_eq!(scan(&bench.scanner, Target::Lane(Lane::Urgent)).await.unwrap().claimed, 0);
    assert!(!bench.scanner.leadership.leads());
    assert_eq!(bench.scanner.leadership.term(), Some(1));
}

#[tokio::test]
async fn a_follower_scans_as_soon_as_it_is_elected() {
    let mut bench = Bench::new(10).await;
    bench.add(1, Some(noon() + TimeDelta::minutes(5))).await;
    bench.scanner.leadership = Leadership::to_be_won();
    let configuration = Configuration::load(None, &std::collections::HashMap::new()).ok().unwrap();
    let schedule = schedule(&configuration.scan).unwrap();
    let shutdown = CancellationToken::new();
    let mut consumer = bench.queue.consumer();
    let watching = async {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert_eq!(bench.queue.depth().ready, 0, "it scanned and nobody elected it");
        bench.scanner.leadership.enter(leading(600));
        consumer.next().await.unwrap().settle.acknowledge().await.unwrap();
        shutdown.cancel();
    };
    tokio::join!(watching, run(&bench.scanner, &schedule, &shutdown));
}

/// Answers from a script, and nothing at its end.
struct Scripted(Mutex<VecDeque<Result<Lease, StoreError>>>);

#[async_trait]
impl LeaseStore for Scripted {
    async fn take_lease(&self, _name: &str, _holder: &str, _length: Duration) -> Result<Lease, StoreError> {
        let answer = self.0.lock().unwrap().pop_front();
        match answer {
            Some(answer) => answer,
            None => std::future::pending().await,
        }
    }

    async fn release_lease(&self, _name: &str, _holder: &str) -> Result<(), StoreError> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn any_doubt_ends_the_term_and_silence_does_so_by_itself() {
    let unavailable = StoreError::Unavailable { operation: "take the lease", problem: "gone".into() };
    let ours = |term| Ok(Lease::Ours { term });
    let others = Ok(Lease::Others { free_in: Duration::from_secs(60) });
    let script = [ours(1), Err(unavailable), ours(1), others, ours(3)];
    let length = Duration::from_secs(9);
    let store = Arc::new(Scripted(Mutex::new(script.into())));
    let seeking = Campaign { store, holder: "a".into(), length };
    let (leadership, shutdown) = (Leadership::to_be_won(), CancellationToken::new());
    let watching = async {
        let mut terms = Vec::new();
        // In the middle of each third of the lease.
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        for _ in 0..8 {
            terms.push(leadership.term());
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
        shutdown.cancel();
        terms
    };
    let (terms, ()) = tokio::join!(watching, campaign(&leadership, &seeking, &shutdown));
    // The last answer's lease began at 12 s and is trusted until 21 s, although nobody answers from then on.
    assert_eq!(terms, [Some(1), None, Some(1), None, Some(3), Some(3), Some(3), None]);
}
