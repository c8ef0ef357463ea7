//! What one message comes to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use chrono::TimeDelta;
use freshet_shared::adapters::database::{Database, RoundTrips};
use freshet_shared::adapters::embedded::queue::InProcessQueue;
use freshet_shared::domain::connection::{ConnectionId, ConnectionState, Generation};
use freshet_shared::domain::failure::FailureClass;
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::outcome::{Cached, Disposition, Outcome, Skip};
use freshet_shared::domain::provider::answer::ProviderAnswer;
use freshet_shared::domain::provider::catalogue::Providers;
use freshet_shared::domain::provider::request::ProviderRequest;
use freshet_shared::ports::cache::Cache;
use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::provider::{CallError, ProviderCaller};
use freshet_shared::ports::queue::{Consumer, Outgoing, Publisher};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sea_orm::ConnectionTrait;
use tokio_util::sync::CancellationToken;

use super::{Bench, message, noon};
use crate::job::handle;
use crate::refresh::refresh;

#[tokio::test]
async fn a_due_connection_gets_a_new_token_in_store_and_cache() {
    let bench = Bench::new().await;
    bench.add(1, 20).await;
    bench.grant("new");
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), false).await;
    let Outcome::Refreshed(refreshed) = &outcome else { panic!("{outcome:?}") };
    assert_eq!(refreshed.generation, Generation(1));
    assert_eq!(refreshed.expires_at, Some(noon() + TimeDelta::hours(1)));
    assert_eq!(refreshed.lead, Some(TimeDelta::minutes(20)));
    assert_eq!(refreshed.cached, Cached::Written);
    assert_eq!(bench.cached(1).as_deref(), Some("new"));
    assert_eq!(outcome.disposition(), Disposition::Acknowledge);
    assert!(bench.cache.get("connectionDetail_1").is_none(), "the early lane leaves the details alone");
}

#[tokio::test]
async fn a_duplicate_makes_no_second_call_and_repairs_a_lost_cache_entry() {
    let bench = Bench::new().await;
    bench.add(1, 20).await;
    bench.grant("new");
    refresh(&bench.refresher, &message(1, 0, Lane::Early), false).await;
    bench.cache.clear(ConnectionId(1), &[]).await.unwrap();
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), true).await;
    assert_eq!(outcome, Outcome::Skipped(Skip::GenerationMovedOn));
    assert_eq!(bench.provider.calls().len(), 1);
    assert_eq!(bench.cached(1).as_deref(), Some("new"));
}

#[tokio::test]
async fn a_message_for_a_token_that_somebody_renewed_is_skipped_and_its_claim_ends() {
    let bench = Bench::new().await;
    bench.add(1, 55).await;
    bench.execute("UPDATE token_refresh SET queued_until = '2026-11-21 12:05:00', next_attempt_at = '2026-11-21 11:00:00'").await;
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), false).await;
    assert_eq!(outcome, Outcome::Skipped(Skip::AlreadyFresh));
    assert_eq!(bench.cached(1).as_deref(), Some("old-1"));
    let loaded = bench.load(1).await;
    assert_eq!(loaded.next_attempt_at, None);
}

#[tokio::test]
async fn an_other_refresh_in_flight_is_not_doubled_unless_its_message_came_back() {
    let bench = Bench::new().await;
    for id in [1, 2] {
        bench.add(id, 20).await;
        let key = message(id, 0, Lane::Early).idempotency_key();
        assert!(bench.cache.begin(key, "somebody else", bench.refresher.in_flight).await.unwrap());
    }
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), false).await;
    assert_eq!(outcome, Outcome::Skipped(Skip::InFlight));
    assert!(bench.provider.calls().is_empty());
    bench.grant("new");
    let outcome = refresh(&bench.refresher, &message(2, 0, Lane::Early), true).await;
    assert_eq!(outcome.as_str(), "refreshed");
}

#[tokio::test]
async fn a_failure_is_written_down_waits_and_is_forgotten_after_a_success() {
    let bench = Bench::new().await;
    bench.add(1, 20).await;
    bench.provider.answer(503, "");
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), false).await;
    let Outcome::Failed(failed) = outcome else { panic!("{outcome:?}") };
    assert_eq!((failed.failure.class, failed.state), (FailureClass::ServerError, ConnectionState::Active));
    assert!(failed.next_attempt_at >= noon() + TimeDelta::seconds(2));

    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), false).await;
    assert_eq!(outcome, Outcome::Skipped(Skip::NotYet), "a duplicate does not shorten the wait");

    bench.clock.advance(TimeDelta::minutes(5));
    bench.grant("new");
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), false).await;
    assert_eq!(outcome.as_str(), "refreshed");
    let loaded = bench.load(1).await;
    assert_eq!((loaded.failures, loaded.next_attempt_at, loaded.generation), (0, None, Generation(1)));
}

#[tokio::test]
async fn failures_of_the_call_and_of_the_input_have_their_class() {
    let endpoint = || "template".to_owned();
    let bench = Bench::new().await;
    for (id, error, class) in [
        (1, CallError::NotConnected { endpoint: endpoint() }, FailureClass::Network),
        (2, CallError::AnswerLost { endpoint: endpoint(), problem: "reset" }, FailureClass::AnswerLost),
        (3, CallError::TooLarge { endpoint: endpoint(), limit: 1 }, FailureClass::MalformedAnswer),
    ] {
        bench.add(id, 20).await;
        bench.provider.fail(error);
        let outcome = refresh(&bench.refresher, &message(id, 0, Lane::Early), false).await;
        let Outcome::Failed(failed) = outcome else { panic!("{outcome:?}") };
        assert_eq!(failed.failure.class, class);
    }
    bench.add(4, 20).await;
    bench.execute("UPDATE ie_appinstall_connection SET inputFields = NULL WHERE id = 4").await;
    let outcome = refresh(&bench.refresher, &message(4, 0, Lane::Early), false).await;
    let Outcome::Failed(failed) = outcome else { panic!("{outcome:?}") };
    assert_eq!(
        (failed.failure.class, failed.state),
        (FailureClass::Misconfigured, ConnectionState::Misconfigured)
    );
    assert_eq!(bench.provider.calls().len(), 3, "nobody was called for it");
}

#[tokio::test]
async fn the_urgent_lane_writes_the_details_and_keeps_a_good_token_readable_when_it_fails() {
    let bench = Bench::new().await;
    bench.add(1, 5).await;
    bench.provider.answer(500, "");
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Urgent), false).await;
    assert_eq!(outcome.as_str(), "failed");
    assert_eq!(bench.cached(1).as_deref(), Some("old-1"));
    let details = bench.cache.get("connectionDetail_1").unwrap();
    assert_eq!(details, r#"[{"id":1,"account_id":null,"channel_id":null,"additionalDetails":null}]"#);
}

#[tokio::test]
async fn a_message_for_nobody_is_settled_and_one_for_an_unknown_provider_is_put_aside() {
    let bench = Bench::new().await;
    let outcome = refresh(&bench.refresher, &message(99, 0, Lane::Early), false).await;
    assert_eq!(outcome, Outcome::Skipped(Skip::Gone));
    let mut unknown = message(1, 0, Lane::Early);
    unknown.provider = "nobody".into();
    let outcome = refresh(&bench.refresher, &unknown, false).await;
    let Disposition::DeadLetter(error) = outcome.disposition() else { panic!("{outcome:?}") };
    assert_eq!(error.reason(), "unknown_provider");
}

#[tokio::test]
async fn a_token_is_stored_however_the_expiry_before_it_is_spelt() {
    let bench = Bench::new().await;
    let spellings = [
        "2026-11-21 12:20:00",
        "2026-11-21 12:20:00.000 +00:00",
        "2026-11-21T12:20:00Z",
        "2026-11-21T14:20:00+02:00",
    ];
    for (id, spelling) in (1..).zip(spellings) {
        bench.add(id, 0).await;
        let update =
            format!("UPDATE ie_appinstall_connection SET accessTokenExpiryAt = '{spelling}' WHERE id = {id}");
        bench.execute(&update).await;
        bench.grant("new");
        let outcome = refresh(&bench.refresher, &message(id, 0, Lane::Early), false).await;
        let Outcome::Refreshed(refreshed) = outcome else { panic!("{spelling}: {outcome:?}") };
        assert_eq!(refreshed.lead, Some(TimeDelta::minutes(20)), "{spelling}");
    }
}

#[tokio::test]
async fn a_message_that_comes_too_early_or_twice_does_not_keep_its_claim() {
    let bench = Bench::new().await;
    bench.add(1, 20).await;
    bench.add(2, 20).await;
    bench.execute("UPDATE token_refresh SET queued_until = '2026-11-21 12:05:00'").await;
    bench
        .execute("UPDATE token_refresh SET next_attempt_at = '2026-11-21 12:00:01' WHERE connection_id = 1")
        .await;
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), false).await;
    assert_eq!(outcome, Outcome::Skipped(Skip::NotYet));
    let key = message(2, 0, Lane::Early).idempotency_key();
    bench.cache.begin(key, "somebody else", bench.refresher.in_flight).await.unwrap();
    let outcome = refresh(&bench.refresher, &message(2, 0, Lane::Early), false).await;
    assert_eq!(outcome, Outcome::Skipped(Skip::InFlight));
    let open = "SELECT COUNT(*) FROM token_refresh WHERE queued_until IS NULL AND next_attempt_at > '2026-11-21 12:00:00'";
    assert_eq!(bench.number(open).await, 2, "the retry scan finds both");
}

/// Whoever cleared the cache before a call may have died before its token was readable again.
#[tokio::test]
async fn who_comes_too_early_or_twice_makes_a_token_readable_that_is_still_good() {
    let bench = Bench::new().await;
    for (id, minutes) in [(1, 8), (2, 8), (3, -1)] {
        bench.add(id, minutes).await;
    }
    bench
        .execute(
            "UPDATE token_refresh SET next_attempt_at = '2026-11-21 12:00:01' WHERE connection_id IN (1, 3)",
        )
        .await;
    let key = message(2, 0, Lane::Urgent).idempotency_key();
    bench.cache.begin(key, "who died", bench.refresher.in_flight).await.unwrap();
    for (id, skip, cached) in
        [(1, Skip::NotYet, Some("old-1")), (2, Skip::InFlight, Some("old-2")), (3, Skip::NotYet, None)]
    {
        let outcome = refresh(&bench.refresher, &message(id, 0, Lane::Urgent), false).await;
        assert_eq!(outcome, Outcome::Skipped(skip), "{id}");
        assert_eq!(bench.cached(id).as_deref(), cached, "{id}");
    }
}

/// The round trip that reads what the cache has to hold does not reach the database at first.
struct LostOnce(AtomicU32);

impl RoundTrips for LostOnce {
    fn make<'t>(&'t self, trip: BoxFuture<'t, ()>) -> BoxFuture<'t, ()> {
        match self.0.fetch_add(1, Ordering::SeqCst) {
            3 => async {}.boxed(),
            _ => trip,
        }
    }
}

#[tokio::test]
async fn a_token_that_is_still_good_is_readable_after_a_failure_though_the_database_was_asked_in_vain() {
    let mut bench = Bench::new().await;
    bench.add(1, 8).await;
    let trips = Arc::new(LostOnce(AtomicU32::new(0)));
    let database = bench.database.clone().with_round_trips(trips.clone());
    Arc::get_mut(&mut bench.refresher).unwrap().store = Arc::new(database);
    bench.provider.answer(503, "");
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Urgent), false).await;
    assert_eq!(outcome.as_str(), "failed");
    assert_eq!(
        trips.0.load(Ordering::SeqCst),
        5,
        "load, channels, failure, and what the cache has to hold twice"
    );
    assert_eq!(bench.cached(1).as_deref(), Some("old-1"));
}

/// Lets somebody else write this after a message's connection was loaded, and before its claim is ended.
struct BeforeTheRelease {
    database: Database,
    write: &'static str,
    trips: AtomicU32,
}

impl RoundTrips for BeforeTheRelease {
    fn make<'t>(&'t self, trip: BoxFuture<'t, ()>) -> BoxFuture<'t, ()> {
        async {
            if self.trips.fetch_add(1, Ordering::SeqCst) == 1 {
                self.database.connection().execute_unprepared(self.write).await.unwrap();
            }
            trip.await;
        }
        .boxed()
    }
}

#[tokio::test]
async fn a_second_message_ends_its_own_claim_and_puts_off_nothing_that_was_planned_meanwhile() {
    let in_flight = TimeDelta::seconds(75);
    for (write, next, claims) in [
        ("UPDATE token_refresh SET failures = 0", in_flight, 0),
        // The refresh that is in flight failed.
        (
            "UPDATE token_refresh SET queued_until = NULL, failures = 1, next_attempt_at = '2026-11-21 12:00:04'",
            TimeDelta::seconds(4),
            0,
        ),
        // Somebody planned to look again later than we do.
        ("UPDATE token_refresh SET next_attempt_at = '2026-11-21 12:30:00'", in_flight, 0),
        // The claim ran out, and there is a third message, which looks by itself.
        (
            "UPDATE token_refresh SET claim_id = 8, queued_until = '2026-11-21 12:10:00'",
            -TimeDelta::minutes(1),
            1,
        ),
    ] {
        let mut bench = Bench::new().await;
        bench.add(1, 20).await;
        bench
            .execute("UPDATE token_refresh SET claim_id = 7, queued_until = '2026-11-21 12:05:00', next_attempt_at = '2026-11-21 11:59:00'")
            .await;
        let trips = BeforeTheRelease { database: bench.database.clone(), write, trips: AtomicU32::new(0) };
        let database = bench.database.clone().with_round_trips(Arc::new(trips));
        Arc::get_mut(&mut bench.refresher).unwrap().store = Arc::new(database);
        let message = message(1, 0, Lane::Early);
        bench
            .cache
            .begin(message.idempotency_key(), "somebody else", bench.refresher.in_flight)
            .await
            .unwrap();
        let outcome = refresh(&bench.refresher, &message, false).await;
        assert_eq!(outcome, Outcome::Skipped(Skip::InFlight), "{write}");
        let open = bench.number("SELECT COUNT(*) FROM token_refresh WHERE queued_until IS NOT NULL").await;
        assert_eq!(open, claims, "{write}");
        assert_eq!(bench.load(1).await.next_attempt_at, Some(noon() + next), "{write}");
    }
}

#[tokio::test]
async fn a_header_that_needs_no_token_stays_readable_while_no_token_is_to_be_had() {
    let bench = Bench::new().await;
    bench.add(1, -60).await;
    let fields = r#"{"companyRefId":"850135","apiKey":"key","clientId":"a","clientSecret":"b"}"#;
    bench.execute(&format!("UPDATE ie_appinstall_connection SET inputFields = '{fields}'")).await;
    let mut urgent = message(1, 0, Lane::Urgent);
    urgent.provider = "very".into();
    bench.provider.answer(503, "");
    let outcome = refresh(&bench.refresher, &urgent, false).await;
    assert_eq!(outcome.as_str(), "failed");
    for operation in ["order_push", "stock_update"] {
        let header = bench.cache.get(&format!("connectionAuthorization_1:{operation}"));
        assert_eq!(header.as_deref(), Some("Basic 850135:key"));
    }
    assert_eq!(bench.cache.get("connectionAuthorization_1:order_ship"), None);
}

#[tokio::test]
async fn a_provider_that_fails_for_all_is_left_alone_and_its_failures_count_against_no_connection() {
    let bench = Bench::new().await;
    // The breaker opens at half of ten.
    for id in 1..=12 {
        bench.add(id, 20).await;
        bench.provider.answer(503, "");
    }
    let mut outcomes = Vec::new();
    for id in 1..=12 {
        outcomes.push(refresh(&bench.refresher, &message(id, 0, Lane::Early), false).await.as_str());
    }
    assert_eq!(outcomes[..10], ["failed"; 10]);
    assert_eq!(outcomes[10..], ["deferred"; 2]);
    assert_eq!(bench.provider.calls().len(), 10);
    let failures = "SELECT COALESCE(SUM(failures), 0) FROM token_refresh";
    assert_eq!(bench.number(failures).await, 9, "the one that opened it says nothing about its connection");
    let deferred = bench.load(11).await;
    assert!(deferred.next_attempt_at.is_some_and(|at| at >= noon() + TimeDelta::seconds(30)));
    assert_eq!((deferred.failures, deferred.failure_class), (0, None));

    // Whoever died with a message may have cleared the cache before.
    for (id, is_redelivered, cached) in [(13, false, None), (14, true, Some("old-14"))] {
        bench.add(id, 8).await;
        let outcome = refresh(&bench.refresher, &message(id, 0, Lane::Urgent), is_redelivered).await;
        assert_eq!((outcome.as_str(), bench.cached(id).as_deref()), ("deferred", cached));
    }

    // One call finds out, whoever makes it: what was scripted for the last two is still in front.
    bench.clock.advance(TimeDelta::minutes(5));
    assert_eq!(refresh(&bench.refresher, &message(11, 0, Lane::Early), false).await.as_str(), "failed");
    assert_eq!(bench.number(failures).await, 9);
    bench.clock.advance(TimeDelta::minutes(5));
    bench.provider.answer(200, r#"{"status":"SUCCESS","accessToken":"new"}"#);
    bench.provider.answer(200, r#"{"status":"SUCCESS","accessToken":"new"}"#);
    assert_eq!(refresh(&bench.refresher, &message(12, 0, Lane::Early), false).await.as_str(), "failed");
    bench.clock.advance(TimeDelta::minutes(5));
    for id in [11, 12] {
        let outcome = refresh(&bench.refresher, &message(id, 0, Lane::Early), false).await;
        assert_eq!(outcome.as_str(), "refreshed", "{outcome:?}");
    }
}

#[tokio::test]
async fn a_deferred_job_leaves_the_cache_as_it_is_and_is_no_failure() {
    let settings = "[fynd.limits]\nrate = { requests = 1, per = \"1h\" }";
    let settings = toml::from_str(settings).unwrap();
    let bench = Bench::with(Providers::new(&[], &settings).unwrap()).await;
    for id in 1..=2 {
        bench.add(id, 5).await;
        bench.grant("new");
        bench
            .execute(&format!(
                "UPDATE token_refresh SET queued_until = '2026-11-21 12:05:00' WHERE connection_id = {id}"
            ))
            .await;
    }
    assert_eq!(refresh(&bench.refresher, &message(1, 0, Lane::Urgent), false).await.as_str(), "refreshed");
    let outcome = refresh(&bench.refresher, &message(2, 0, Lane::Urgent), false).await;
    let Outcome::Deferred { until, reason } = &outcome else { panic!("{outcome:?}") };
    assert_eq!((*reason, outcome.disposition()), ("rate_limited", Disposition::Acknowledge));
    assert_eq!(*until, noon() + TimeDelta::seconds(150), "it comes back while its token is alive");
    let loaded = bench.load(2).await;
    assert_eq!((loaded.next_attempt_at, loaded.failures), (Some(*until), 0));
    assert!(bench.cache.get("connectionDetail_2").is_none());
    assert_eq!(bench.provider.calls().len(), 1);
    let queued = "SELECT COUNT(*) FROM token_refresh WHERE queued_until IS NOT NULL";
    assert_eq!(bench.number(queued).await, 0);

    // A refresh that failed had cleared the cache, which did not answer when the token was to be written again.
    bench.execute("UPDATE token_refresh SET failure_class = 'network' WHERE connection_id = 2").await;
    bench.cache.clear(ConnectionId(2), &[]).await.unwrap();
    bench.clock.advance(TimeDelta::seconds(150));
    assert_eq!(refresh(&bench.refresher, &message(2, 0, Lane::Urgent), false).await.as_str(), "deferred");
    assert_eq!(bench.cached(2).as_deref(), Some("old-2"));
}

#[tokio::test]
async fn what_the_provider_knows_nothing_of_is_asked_for_again_only_when_something_is_another() {
    let bench = Bench::new().await;
    bench.add(1, 20).await;
    bench.provider.answer(404, "");
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), false).await;
    let Outcome::Failed(failed) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failed.state, ConnectionState::Misconfigured);
    for minutes in [16, 32] {
        bench.clock.advance(TimeDelta::minutes(16));
        let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), false).await;
        assert_eq!(
            outcome,
            Outcome::Skipped(Skip::Waiting(ConnectionState::Misconfigured)),
            "after {minutes}"
        );
    }
    assert_eq!(bench.provider.calls().len(), 1);
    bench
        .execute("UPDATE ie_appinstall_connection SET inputFields = '{\"x-integration-id\":\"c\",\"x-integration-token\":\"d\"}'")
        .await;
    bench.clock.advance(TimeDelta::minutes(16));
    bench.grant("new");
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), false).await;
    assert_eq!(outcome.as_str(), "refreshed");
    assert_eq!(bench.load(1).await.state, ConnectionState::Active);
}

#[tokio::test]
async fn input_that_makes_no_request_is_looked_at_without_a_call_until_it_is_another() {
    let bench = Bench::new().await;
    bench.add(1, 20).await;
    bench.execute("UPDATE ie_appinstall_connection SET inputFields = '{\"x-integration-id\":\"c\"}'").await;
    let mut failures = 0;
    for _ in 0..3 {
        let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), false).await;
        let Outcome::Failed(failed) = outcome else { panic!("{outcome:?}") };
        failures += 1;
        assert_eq!(failed.state, ConnectionState::Misconfigured);
        assert!(failed.next_attempt_at > bench.clock.now() && bench.load(1).await.failures == failures);
        bench.clock.advance(TimeDelta::minutes(16));
    }
    assert!(bench.provider.calls().is_empty());
    bench
        .execute("UPDATE ie_appinstall_connection SET inputFields = '{\"x-integration-id\":\"c\",\"x-integration-token\":\"d\"}'")
        .await;
    bench.grant("new");
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), false).await;
    assert_eq!(outcome.as_str(), "refreshed");
    let loaded = bench.load(1).await;
    assert_eq!((loaded.state, loaded.failures, loaded.failure_class), (ConnectionState::Active, 0, None));
}

#[tokio::test]
async fn another_definition_is_a_reason_to_ask_again() {
    let settings =
        toml::from_str("[fynd.environments.production]\noms_host = \"https://elsewhere.test\"").unwrap();
    let bench = Bench::new().await;
    bench.add(1, 20).await;
    bench.provider.answer(404, "");
    refresh(&bench.refresher, &message(1, 0, Lane::Early), false).await;
    let other = Providers::new(&[], &settings).unwrap();
    let mut bench = bench;
    Arc::get_mut(&mut bench.refresher).unwrap().providers = other;
    bench.clock.advance(TimeDelta::minutes(16));
    bench.grant("new");
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), false).await;
    assert_eq!(outcome.as_str(), "refreshed");
}

/// Fails as no code of ours may.
struct Panicking(AtomicU32);

#[async_trait]
impl ProviderCaller for Panicking {
    async fn call(&self, _: &ProviderRequest) -> Result<ProviderAnswer, CallError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic!("on purpose")
    }
}

#[tokio::test]
async fn a_refresh_that_panics_is_put_off_and_its_provider_called_once_for_each_plan() {
    let mut bench = Bench::new().await;
    bench.add(1, 20).await;
    let caller = Arc::new(Panicking(AtomicU32::new(0)));
    Arc::get_mut(&mut bench.refresher).unwrap().caller = caller.clone();
    let queue = InProcessQueue::new();
    for plan in 1..=3 {
        let message = message(1, 0, Lane::Early);
        queue.publish(&[Outgoing { message, pool: "shared".into(), context: Default::default() }]).await;
        let delivery = queue.consumer().next().await.unwrap();
        let report = handle(&bench.refresher, delivery, &CancellationToken::new()).await;
        assert_eq!(report.outcome, Outcome::Panicked { is_put_off: true });
        let loaded = bench.load(1).await;
        assert_eq!((loaded.failures, loaded.state), (plan, ConnectionState::Active));
        let next = loaded.next_attempt_at.unwrap();
        assert!(next > bench.clock.now());
        assert_eq!(caller.0.load(Ordering::SeqCst), plan);
        // The mark of a call that nobody finished runs out, too.
        bench.clock.advance((next - bench.clock.now()).max(TimeDelta::seconds(75)));
    }
    let depth = queue.depth();
    assert_eq!((depth.ready, depth.unacknowledged), (0, 0), "nothing was given back");
}
