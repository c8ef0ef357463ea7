//! The end of the grace period with database and cache away: nobody is waited for any longer, and the message says what is left.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use freshet_shared::adapters::database::RoundTrips;
use freshet_shared::domain::connection::{ConnectionId, ConnectionState, Generation, IdempotencyKey};
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::outcome::{Cached, Disposition, Outcome, Skip};
use freshet_shared::domain::provider::request::ReadyHeader;
use freshet_shared::ports::cache::{Cache, CacheError, Put, TokenEntry};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::rotating::{self, DEFINITION, Meanwhile, STRICT, lost};
use super::{Bench, message};
use crate::refresh::{DATABASE_PATIENCE, Refresher, refresh};
use crate::repairing::plan_cache_repair;

/// A database that answers so many times; where it is asked in vain for the second time, the worker's last call comes.
struct AwayAfter {
    answers: u32,
    asked: AtomicU32,
    last_call: CancellationToken,
}

impl RoundTrips for AwayAfter {
    fn make<'t>(&'t self, trip: BoxFuture<'t, ()>) -> BoxFuture<'t, ()> {
        let asked = self.asked.fetch_add(1, Ordering::SeqCst);
        if asked < self.answers {
            return trip;
        }
        if asked > self.answers {
            self.last_call.cancel();
        }
        async {}.boxed()
    }
}

/// A cache that does nothing.
struct NoCache;

fn away<T>() -> Result<T, CacheError> {
    Err(CacheError { operation: "answer", problem: "it is away".into() })
}

#[async_trait]
impl Cache for NoCache {
    async fn clear(&self, _: ConnectionId, _: &[&str]) -> Result<(), CacheError> {
        away()
    }
    async fn replace_details(
        &self,
        _: ConnectionId,
        _: Generation,
        _: &[&str],
        _: &str,
        _: &[ReadyHeader],
    ) -> Result<(), CacheError> {
        away()
    }
    async fn put_details(&self, _: ConnectionId, _: &str, _: &[ReadyHeader]) -> Result<(), CacheError> {
        away()
    }
    async fn restore_details(&self, _: ConnectionId, _: &str, _: &[ReadyHeader]) -> Result<(), CacheError> {
        away()
    }
    async fn is_warm(&self) -> Result<bool, CacheError> {
        away()
    }
    async fn begin_warming(&self, _: &str) -> Result<(), CacheError> {
        away()
    }
    async fn end_warming(&self, _: &str) -> Result<bool, CacheError> {
        away()
    }
    async fn put_token(&self, _: &TokenEntry) -> Result<Put, CacheError> {
        away()
    }
    async fn begin(&self, _: IdempotencyKey, _: &str, _: Duration) -> Result<bool, CacheError> {
        away()
    }
    async fn finish(&self, _: IdempotencyKey, _: &str) -> Result<(), CacheError> {
        away()
    }
}

fn refresher(bench: &mut Bench) -> &mut Refresher {
    Arc::get_mut(&mut bench.refresher).unwrap()
}

/// From here on the bench's database answers so many times.
fn take_the_database_away(bench: &mut Bench, answers: u32) {
    let last_call = bench.refresher.last_call.clone();
    let trips = AwayAfter { answers, asked: AtomicU32::new(0), last_call };
    refresher(bench).store = Arc::new(bench.database.clone().with_round_trips(Arc::new(trips)));
}

/// The next worker, for which all is there.
fn next_worker(bench: &mut Bench) {
    let (store, cache) = (Arc::new(bench.database.clone()), bench.cache.clone());
    let refresher = refresher(bench);
    (refresher.store, refresher.cache, refresher.last_call) = (store, cache, CancellationToken::new());
}

/// The refresh of connection 1 leaves its message to another worker.
async fn goes_back(bench: &Bench, redelivered: bool) {
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), redelivered).await;
    assert_eq!((outcome.as_str(), outcome.disposition()), ("unavailable", Disposition::Requeue));
}

#[tokio::test]
async fn a_repair_waits_for_the_database_to_the_last_call_and_no_longer() {
    let mut bench = Bench::new().await;
    bench.add(1, 300).await;
    let connection = bench.load(1).await;
    let never = AwayAfter { answers: 0, asked: AtomicU32::new(0), last_call: CancellationToken::new() };
    refresher(&mut bench).store = Arc::new(bench.database.clone().with_round_trips(Arc::new(never)));
    tokio::time::pause();
    let (begun, hour) = (Instant::now(), Duration::from_secs(3_600));
    let ending = async {
        sleep(hour).await;
        bench.refresher.last_call.cancel();
    };
    let planning = plan_cache_repair(&bench.refresher, &connection, connection.generation);
    let (planned, ()) = tokio::join!(planning, ending);
    assert_eq!((planned, begun.elapsed().as_secs()), (Cached::Unplanned, hour.as_secs()));
}

#[tokio::test]
async fn a_refresh_whose_repair_is_not_planned_goes_back_and_the_next_worker_writes_the_cache() {
    let mut bench = Bench::new().await;
    bench.add(1, 20).await;
    bench.grant("new");
    // For its load and its commit.
    take_the_database_away(&mut bench, 2);
    refresher(&mut bench).cache = Arc::new(NoCache);
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), false).await;
    let Outcome::Refreshed(refreshed) = &outcome else { panic!("{outcome:?}") };
    assert_eq!((refreshed.generation, refreshed.cached), (Generation(1), Cached::Unplanned));
    assert_eq!(outcome.disposition(), Disposition::Requeue);
    next_worker(&mut bench);
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), true).await;
    assert_eq!(outcome, Outcome::Skipped(Skip::GenerationMovedOn));
    assert_eq!((bench.cached(1).as_deref(), bench.provider.calls().len()), (Some("new"), 1));
}

#[tokio::test]
async fn a_lost_answer_that_is_not_written_down_goes_back_and_stands_in_the_journal() {
    let mut bench = rotating::bench(DEFINITION, STRICT, &["s"]).await;
    bench.provider.fail(lost());
    // For its load and its journal; and once its lease is over, for the load of who finds that out.
    for answers in [2, 1] {
        take_the_database_away(&mut bench, answers);
        goes_back(&bench, answers == 1).await;
        next_worker(&mut bench);
        bench.clock.advance(bench.refresher.lease + TimeDelta::seconds(1));
    }
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), true).await;
    let Outcome::Failed(failed) = outcome else { panic!("{outcome:?}") };
    assert_eq!((failed.state, bench.provider.calls().len()), (ConnectionState::Quarantined, 1));
}

#[tokio::test]
async fn a_refusal_is_not_parked_in_place_of_the_answer_that_was_lost_after_it() {
    let mut bench = rotating::bench(DEFINITION, STRICT, &["new", "old"]).await;
    bench.provider.answer(401, r#"{"error":"invalid_client"}"#);
    bench.provider.fail(lost());
    // For its load and the journals of two calls.
    take_the_database_away(&mut bench, 3);
    goes_back(&bench, false).await;
    next_worker(&mut bench);
    bench.clock.advance(bench.refresher.lease + TimeDelta::seconds(1));
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), true).await;
    let Outcome::Failed(failed) = outcome else { panic!("{outcome:?}") };
    assert_eq!((failed.state, bench.provider.calls().len()), (ConnectionState::Quarantined, 2));
}

#[tokio::test]
async fn who_was_overtaken_and_cannot_look_by_whom_leaves_the_cache_to_who_takes_the_message_next() {
    let mut bench = Bench::new().await;
    bench.add(1, 20).await;
    let meanwhile = "UPDATE token_refresh SET generation = 1";
    let body = r#"{"access_token":"late","expires_in":3600}"#;
    refresher(&mut bench).caller = Arc::new(Meanwhile(bench.database.clone(), meanwhile, 200, body));
    // For all but its last look, at what stands there now.
    take_the_database_away(&mut bench, 2);
    goes_back(&bench, false).await;
    assert!(!bench.refresher.last_call.is_cancelled(), "it has not looked again and again");
    next_worker(&mut bench);
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), true).await;
    assert_eq!(outcome, Outcome::Skipped(Skip::GenerationMovedOn));
    assert!(bench.cached(1).is_some_and(|cached| cached != "late"), "{:?}", bench.cached(1));
}

#[tokio::test]
async fn a_token_that_can_be_had_again_is_not_waited_for_beyond_the_last_call() {
    let mut bench = Bench::new().await;
    bench.add(1, 20).await;
    bench.grant("new");
    let begun = Instant::now();
    take_the_database_away(&mut bench, 1);
    goes_back(&bench, false).await;
    assert!(begun.elapsed() < DATABASE_PATIENCE.total.unwrap() / 2, "{:?}", begun.elapsed());
    next_worker(&mut bench);
    bench.grant("newer");
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), true).await;
    assert_eq!((outcome.as_str(), bench.cached(1).as_deref()), ("refreshed", Some("newer")));
}

#[tokio::test]
async fn what_is_wrong_with_a_row_is_not_written_down_beyond_the_last_call() {
    let mut bench = rotating::bench(DEFINITION, STRICT, &["s"]).await;
    bench.execute("UPDATE ie_appinstall_connection SET inputFields = '{'").await;
    take_the_database_away(&mut bench, 1);
    goes_back(&bench, false).await;
    assert_eq!(bench.provider.calls().len(), 0);
}
