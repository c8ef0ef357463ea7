//! Grants with refresh tokens: nothing that was spent is lost or spent twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use chrono::TimeDelta;
use freshet_shared::adapters::database::{Database, RoundTrips};
use freshet_shared::adapters::embedded::clock::ManualClock;
use freshet_shared::domain::connection::{
    ConnectionId, ConnectionState, Generation, LoadedConnection, RowStanding,
};
use freshet_shared::domain::failure::FailureClass;
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::outcome::{Failed, Outcome, Skip};
use freshet_shared::domain::provider::ProviderSettings;
use freshet_shared::domain::provider::answer::ProviderAnswer;
use freshet_shared::domain::provider::catalogue::{CatalogueError, Providers};
use freshet_shared::domain::provider::request::ProviderRequest;
use freshet_shared::domain::secret::Secret;
use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::provider::{CallError, ProviderCaller};
use freshet_shared::ports::store::{Attempt, Recovered, Release};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sea_orm::ConnectionTrait;
use tokio::sync::Notify;

use super::{Bench, message, noon};
use crate::refresh::{Refresher, refresh};

/// Takes the place of Fynd, so that the bench's rows are its connections.
pub(super) const DEFINITION: &str = r#"
name = "fynd"
title = "A provider whose refresh tokens are replaced"
integration_type = "15"
[[secrets]]
key = "client_secret"
[token.request]
method = "POST"
url = "https://rotating.test/token"
form = [
    ["grant_type", "refresh_token"],
    ["refresh_token", "{refresh_token}"],
    ["client_secret", "{secret.client_secret}"],
]
[token.response]
access_token = "/access_token"
lifetime = { seconds = "/expires_in" }
error = "/error"
[refresh_token]
rotation = ROTATION
answer = "/refresh_token"
lifetime = { seconds = "/refresh_token_expires_in" }
"#;

pub(super) const STRICT: &str = "\"strict\"";
pub(super) const LEEWAY: &str = "{ leeway = \"60s\" }";
pub(super) const GRANT: &str =
    r#"{"access_token":"new","expires_in":3600,"refresh_token":"second","refresh_token_expires_in":86400}"#;

/// A bench whose connection 1 expires in 20 minutes and has the refresh token `first`.
pub(super) async fn bench(definition: &str, rotation: &str, secrets: &[&str]) -> Bench {
    let definition = definition.replace("ROTATION", rotation);
    let settings: BTreeMap<String, ProviderSettings> = BTreeMap::new();
    let providers = Providers::new(&[("rotating.toml".into(), definition)], &settings).unwrap();
    let secrets = |_: &str, _: &str| {
        Ok::<_, CatalogueError>(Some(secrets.iter().map(|secret| Secret::new(*secret)).collect()))
    };
    let bench = Bench::with(providers.with_secrets(secrets).unwrap()).await;
    bench.add(1, 20).await;
    bench.execute("UPDATE ie_appinstall_connection SET refreshToken = 'first'").await;
    bench
}

pub(super) async fn refreshed(bench: &Bench, generation: i64) -> Outcome {
    refresh(&bench.refresher, &message(1, generation, Lane::Early), false).await
}

pub(super) async fn failed(bench: &Bench) -> Failed {
    match refreshed(bench, 0).await {
        Outcome::Failed(failed) => failed,
        other => panic!("{other:?}"),
    }
}

pub(super) async fn refresh_token(bench: &Bench) -> String {
    bench.load(1).await.refresh_token.unwrap().expose().to_owned()
}

pub(super) fn lost() -> CallError {
    CallError::AnswerLost { endpoint: "template".into(), problem: "reset" }
}

#[tokio::test]
async fn both_tokens_are_stored_in_one_commit_and_the_journal_is_closed() {
    let bench = bench(DEFINITION, STRICT, &["s"]).await;
    bench.provider.answer(200, GRANT);
    assert_eq!(refreshed(&bench, 0).await.as_str(), "refreshed");
    let sent = bench.provider.requests();
    assert_eq!(
        sent[0].body.as_ref().unwrap().expose(),
        "grant_type=refresh_token&refresh_token=first&client_secret=s"
    );
    let loaded = bench.load(1).await;
    assert_eq!(loaded.access_token.unwrap().expose(), "new");
    assert_eq!(loaded.refresh_token.unwrap().expose(), "second");
    assert_eq!((loaded.attempt_sent_at, loaded.leased_until), (None, None));
    let ends = "SELECT COUNT(*) FROM token_refresh WHERE strftime('%s', refresh_token_expires_at) = strftime('%s', '2026-11-22 12:00:00')";
    assert_eq!(bench.number(ends).await, 1);
}

#[tokio::test]
async fn an_answer_without_a_refresh_token_keeps_the_old_one() {
    let bench = bench(DEFINITION, "\"none\"", &["s"]).await;
    bench.provider.answer(200, r#"{"access_token":"new","expires_in":3600}"#);
    assert_eq!(refreshed(&bench, 0).await.as_str(), "refreshed");
    assert_eq!(refresh_token(&bench).await, "first");
}

#[tokio::test]
async fn a_lost_answer_of_a_strict_provider_quarantines_and_nothing_is_sent_again_until_the_merchant_helps() {
    let bench = bench(DEFINITION, STRICT, &["s"]).await;
    bench.provider.fail(lost());
    let failure = failed(&bench).await;
    assert_eq!(
        (failure.failure.class, failure.state),
        (FailureClass::AnswerLost, ConnectionState::Quarantined)
    );
    bench.clock.advance(TimeDelta::minutes(16));
    let waiting = Outcome::Skipped(Skip::Waiting(ConnectionState::Quarantined));
    assert_eq!(refreshed(&bench, 0).await, waiting);
    assert_eq!(bench.provider.calls().len(), 1);
    assert!(
        bench.load(1).await.next_attempt_at.is_some_and(|at| at > noon() + TimeDelta::minutes(16)),
        "looked at again"
    );

    bench.execute("UPDATE ie_appinstall_connection SET refreshToken = 'reconnected'").await;
    bench.clock.advance(TimeDelta::minutes(16));
    bench.provider.answer(200, GRANT);
    assert_eq!(refreshed(&bench, 0).await.as_str(), "refreshed");
    assert_eq!(bench.load(1).await.state, ConnectionState::Active);
}

#[tokio::test]
async fn a_merchant_who_brings_a_fresh_token_ends_the_quarantine_without_a_call() {
    let bench = bench(DEFINITION, STRICT, &["s"]).await;
    bench.provider.fail(lost());
    failed(&bench).await;
    bench.execute("UPDATE ie_appinstall_connection SET refreshToken = 'reconnected', accessTokenExpiryAt = '2026-11-21 14:00:00'").await;
    bench.clock.advance(TimeDelta::minutes(16));
    assert_eq!(refreshed(&bench, 0).await, Outcome::Skipped(Skip::AlreadyFresh));
    let loaded = bench.load(1).await;
    assert_eq!((loaded.state, loaded.failures, loaded.attempt_sent_at), (ConnectionState::Active, 0, None));
    assert_eq!(bench.provider.calls().len(), 1);
}

#[tokio::test]
async fn a_lost_answer_inside_the_leeway_is_asked_for_again_at_once() {
    let bench = bench(DEFINITION, LEEWAY, &["s"]).await;
    bench.provider.fail(lost());
    bench.provider.answer(200, GRANT);
    assert_eq!(refreshed(&bench, 0).await.as_str(), "refreshed");
    assert_eq!((bench.provider.calls().len(), refresh_token(&bench).await.as_str()), (2, "second"));
}

#[tokio::test]
async fn inside_the_leeway_the_next_job_goes_on_and_after_it_the_connection_is_quarantined() {
    let bench = bench(DEFINITION, LEEWAY, &["s"]).await;
    bench.provider.fail(lost());
    bench.provider.fail(lost());
    let failure = failed(&bench).await;
    assert_eq!((failure.state, failure.next_attempt_at), (ConnectionState::Active, noon()));
    assert_eq!(bench.load(1).await.attempt_sent_at, Some(noon()));
    bench.clock.advance(TimeDelta::seconds(50));
    bench.provider.fail(lost());
    bench.provider.fail(lost());
    assert_eq!(failed(&bench).await.state, ConnectionState::Active);
    assert_eq!(bench.load(1).await.attempt_sent_at, Some(noon()), "counted from the first call");
    bench.clock.advance(TimeDelta::seconds(5));
    assert_eq!(failed(&bench).await.state, ConnectionState::Quarantined);
    assert_eq!(bench.provider.calls().len(), 4, "nothing was sent after the leeway");
}

#[tokio::test]
async fn what_a_dead_worker_sent_is_not_sent_again_and_its_lease_is_waited_for() {
    for (rotation, seconds, expected) in
        [(STRICT, 1, "failed"), (LEEWAY, 53, "refreshed"), (LEEWAY, 55, "failed")]
    {
        let bench = bench(DEFINITION, rotation, &["s"]).await;
        bench.execute("UPDATE token_refresh SET lease_owner = 'dead', lease_until = '2026-11-21 12:00:01', attempt_id = 'a', attempt_sent_at = '2026-11-21 12:00:00'").await;
        assert_eq!(refreshed(&bench, 0).await, Outcome::Skipped(Skip::InFlight));
        assert!(bench.provider.calls().is_empty());
        bench.execute("UPDATE token_refresh SET next_attempt_at = NULL").await;
        bench.clock.advance(TimeDelta::seconds(seconds));
        bench.provider.answer(200, GRANT);
        assert_eq!(refreshed(&bench, 0).await.as_str(), expected, "{rotation} after {seconds} s");
        assert_eq!(bench.provider.calls().len(), usize::from(expected == "refreshed"));
    }
}

/// The lease of a call that was sent at noon outlives the leeway.
const DEAD: &str = "UPDATE token_refresh SET lease_owner = 'dead', lease_until = '2026-11-21 12:01:30', attempt_id = 'a', \
     attempt_sent_at = '2026-11-21 12:00:00'";

#[tokio::test]
async fn a_lease_that_outlives_its_leeway_is_passed_in_time_to_call_again() {
    for (rotation, is_redelivered, seconds, expected) in [
        (LEEWAY, true, 1, "refreshed"),
        (LEEWAY, false, 1, "skipped"),
        (LEEWAY, false, 28, "refreshed"),
        (LEEWAY, true, 55, "skipped"),
        (STRICT, true, 1, "skipped"),
        (STRICT, false, 28, "skipped"),
    ] {
        let bench = bench(DEFINITION, rotation, &["s"]).await;
        bench.execute(DEAD).await;
        bench.clock.advance(TimeDelta::seconds(seconds));
        bench.provider.answer(200, GRANT);
        let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), is_redelivered).await;
        assert_eq!(outcome.as_str(), expected, "{rotation}, {is_redelivered}, after {seconds} s");
        assert_eq!(bench.provider.calls().len(), usize::from(expected == "refreshed"));
    }
}

#[tokio::test]
async fn the_access_token_of_a_call_that_is_lost_is_readable_as_long_as_it_is_good() {
    let bench = bench(DEFINITION, STRICT, &["s"]).await;
    bench.execute(DEAD).await;
    bench.clock.advance(TimeDelta::minutes(2));
    assert_eq!(failed(&bench).await.state, ConnectionState::Quarantined);
    assert_eq!(bench.cached(1).as_deref(), Some("old-1"));
}

#[tokio::test]
async fn who_finds_a_lease_that_outlives_its_leeway_looks_again_in_time() {
    let bench = bench(DEFINITION, LEEWAY, &["s"]).await;
    bench.execute(DEAD).await;
    bench.clock.advance(TimeDelta::seconds(1));
    assert_eq!(refreshed(&bench, 0).await, Outcome::Skipped(Skip::InFlight));
    let again = bench.load(1).await.next_attempt_at.unwrap();
    bench.clock.advance(again - bench.clock.now());
    bench.provider.answer(200, GRANT);
    assert_eq!(refreshed(&bench, 0).await.as_str(), "refreshed", "at {again}");
}

/// Its second round trip, the one for the channels, takes 30 s.
struct Slow {
    clock: Arc<ManualClock>,
    trips: AtomicU32,
}

impl RoundTrips for Slow {
    fn make<'t>(&'t self, trip: BoxFuture<'t, ()>) -> BoxFuture<'t, ()> {
        if self.trips.fetch_add(1, Ordering::SeqCst) == 1 {
            self.clock.advance(TimeDelta::seconds(30));
        }
        trip
    }
}

#[tokio::test]
async fn a_leeway_that_ends_between_load_and_call_is_over() {
    for (seconds, expected) in [(20, "refreshed"), (30, "failed")] {
        let mut bench = bench(DEFINITION, LEEWAY, &["s"]).await;
        bench.execute(DEAD).await;
        bench.clock.advance(TimeDelta::seconds(seconds));
        bench.provider.answer(200, GRANT);
        let slow = Slow { clock: bench.clock.clone(), trips: AtomicU32::new(0) };
        let database = bench.database.clone().with_round_trips(Arc::new(slow));
        Arc::get_mut(&mut bench.refresher).unwrap().store = Arc::new(database);
        let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Urgent), true).await;
        assert_eq!(outcome.as_str(), expected, "after {seconds} s");
        assert_eq!(bench.provider.calls().len(), usize::from(expected == "refreshed"));
        let state = bench.load(1).await.state;
        assert_eq!(state == ConnectionState::Quarantined, expected == "failed");
    }
}

/// Its third round trip, the one that writes a second call down, takes 84 s, and the worker is gone when it is done.
struct LateThenGone {
    clock: Arc<ManualClock>,
    trips: AtomicU32,
    written: Notify,
}

impl RoundTrips for LateThenGone {
    fn make<'t>(&'t self, trip: BoxFuture<'t, ()>) -> BoxFuture<'t, ()> {
        if self.trips.fetch_add(1, Ordering::SeqCst) != 2 {
            return trip;
        }
        async {
            self.clock.advance(TimeDelta::seconds(84));
            trip.await;
            self.written.notify_one();
            std::future::pending().await
        }
        .boxed()
    }
}

#[tokio::test]
async fn a_second_call_that_is_written_down_late_has_no_more_than_the_leeway_of_the_first() {
    let mut bench = bench(DEFINITION, LEEWAY, &["s"]).await;
    let gone = Arc::new(LateThenGone {
        clock: bench.clock.clone(),
        trips: AtomicU32::new(0),
        written: Notify::new(),
    });
    let database = bench.database.clone().with_round_trips(gone.clone());
    Arc::get_mut(&mut bench.refresher).unwrap().store = Arc::new(database);
    bench.provider.fail(lost());
    tokio::select! {
        outcome = refreshed(&bench, 0) => panic!("{outcome:?}"),
        () = gone.written.notified() => {}
    }
    assert_eq!(bench.load(1).await.unknown_since(), Some(noon()), "the first call's time");
    bench.clock.advance(TimeDelta::seconds(76));
    assert_eq!(failed(&bench).await.state, ConnectionState::Quarantined);
    assert_eq!(bench.provider.calls().len(), 1);
}

/// Each round trip takes a minute.
struct Slowly {
    clock: Arc<ManualClock>,
}

impl RoundTrips for Slowly {
    fn make<'t>(&'t self, trip: BoxFuture<'t, ()>) -> BoxFuture<'t, ()> {
        self.clock.advance(TimeDelta::minutes(1));
        trip
    }
}

#[tokio::test]
async fn a_call_that_is_never_written_down_in_time_for_its_leeway_is_not_sent_and_does_not_stay_open() {
    let mut bench = bench(DEFINITION, LEEWAY, &["s"]).await;
    let database = bench.database.clone().with_round_trips(Arc::new(Slowly { clock: bench.clock.clone() }));
    Arc::get_mut(&mut bench.refresher).unwrap().store = Arc::new(database);
    let failed = failed(&bench).await;
    assert_eq!((failed.failure.class, failed.state), (FailureClass::Network, ConnectionState::Active));
    assert!(bench.provider.calls().is_empty());
    let loaded = bench.load(1).await;
    assert_eq!((loaded.attempt_id, loaded.leased_until, loaded.failures), (None, None, 0));
}

/// While its first call is under way, the message comes again and is served; then the first call is answered too.
#[derive(Default)]
struct Beside {
    refresher: OnceLock<Arc<Refresher>>,
    calls: AtomicU32,
}

#[async_trait]
impl ProviderCaller for Beside {
    async fn call(&self, _: &ProviderRequest) -> Result<ProviderAnswer, CallError> {
        let mut body = GRANT;
        if self.calls.fetch_add(1, Ordering::SeqCst) == 0 {
            let again = message(1, 0, Lane::Early);
            let outcome = refresh(self.refresher.get().unwrap(), &again, true).await;
            assert_eq!(outcome.as_str(), "refreshed");
            body = r#"{"access_token":"late","expires_in":3600,"refresh_token":"late too"}"#;
        }
        Ok(ProviderAnswer { status: 200, retry_after: None, body: body.as_bytes().to_vec().into() })
    }
}

#[tokio::test]
async fn of_two_that_call_inside_a_leeway_one_is_stored_as_a_whole_and_the_other_is_stale() {
    let mut bench = bench(DEFINITION, LEEWAY, &["s"]).await;
    let beside = Arc::new(Beside::default());
    Arc::get_mut(&mut bench.refresher).unwrap().caller = beside.clone();
    assert!(beside.refresher.set(bench.refresher.clone()).is_ok());
    assert_eq!(refreshed(&bench, 0).await, Outcome::Stale);
    let loaded = bench.load(1).await;
    assert_eq!((loaded.generation, loaded.attempt_id), (Generation(1), None));
    assert_eq!(loaded.access_token.unwrap().expose(), "new");
    assert_eq!(loaded.refresh_token.unwrap().expose(), "second");
    assert_eq!(bench.cached(1).as_deref(), Some("new"));
    assert_eq!(beside.calls.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn an_answer_that_says_yes_and_cannot_be_read_may_have_spent_the_token() {
    let answers = [
        (200, "<html>", ConnectionState::Quarantined),
        (200, r#"{"access_token":""}"#, ConnectionState::Quarantined),
        (504, "", ConnectionState::Quarantined),
        (502, "", ConnectionState::Quarantined),
        (500, "", ConnectionState::Active),
        (503, "", ConnectionState::Active),
        (429, "", ConnectionState::Active),
        (200, r#"{"error":"invalid_grant"}"#, ConnectionState::Active),
    ];
    for (status, body, state) in answers {
        let bench = bench(DEFINITION, STRICT, &["s"]).await;
        bench.provider.answer(status, body);
        assert_eq!(failed(&bench).await.state, state, "{status} {body}");
        let open = bench.load(1).await;
        assert_eq!((open.attempt_sent_at, open.leased_until), (None, None), "{status} {body}");
    }
}

#[tokio::test]
async fn a_life_that_is_not_said_loses_no_grant() {
    let bench = bench(DEFINITION, STRICT, &["s"]).await;
    bench.provider.answer(200, r#"{"access_token":"new","expires_in":"soon","refresh_token":"second"}"#);
    let outcome = refreshed(&bench, 0).await;
    let Outcome::Refreshed(stored) = outcome else { panic!("{outcome:?}") };
    assert_eq!(stored.expires_at, Some(noon() + TimeDelta::minutes(10)));
    assert_eq!(refresh_token(&bench).await, "second");
}

#[tokio::test]
async fn five_refusals_in_a_row_ask_the_merchant_and_anything_else_begins_the_count_anew() {
    let bench = bench(DEFINITION, STRICT, &["s"]).await;
    let refusals =
        |count| (0..count).map(|_| (400, r#"{"error":"invalid_grant"}"#, FailureClass::InvalidGrant));
    let answers: Vec<_> =
        refusals(4).chain([(500, "", FailureClass::ServerError)]).chain(refusals(5)).collect();
    let last = answers.len() - 1;
    for (place, (status, body, class)) in answers.into_iter().enumerate() {
        bench.provider.answer(status, body);
        let failure = failed(&bench).await;
        assert_eq!(failure.failure.class, class);
        let expected = if place == last { ConnectionState::NeedsReauth } else { ConnectionState::Active };
        assert_eq!(failure.state, expected, "answer {place}");
        bench.execute("UPDATE token_refresh SET next_attempt_at = NULL").await;
    }
    let waiting = Outcome::Skipped(Skip::Waiting(ConnectionState::NeedsReauth));
    assert_eq!(refreshed(&bench, 0).await, waiting);
    assert_eq!(bench.provider.calls().len(), last + 1);
}

#[tokio::test]
async fn a_stored_token_clears_all_that_failures_left_and_begins_their_counts_anew() {
    let bench = bench(DEFINITION, LEEWAY, &["s"]).await;
    bench
        .execute(
            "UPDATE token_refresh SET state = 'misconfigured', failures = 7, grant_failures = 4, \
             failure_class = 'invalid_grant', failure_detail = 'refused', \
             next_attempt_at = '2026-11-21 11:59:00', queued_until = '2026-11-21 12:04:00', \
             lease_owner = 'dead', lease_until = '2026-11-21 11:59:30', attempt_id = 'a', \
             attempt_sent_at = '2026-11-21 11:59:50'",
        )
        .await;
    bench.provider.answer(200, GRANT);
    assert_eq!(refreshed(&bench, 0).await.as_str(), "refreshed");
    let cleared = "SELECT COUNT(*) FROM token_refresh WHERE state = 'active' AND failures = 0 AND grant_failures = 0 \
         AND failure_class IS NULL AND failure_detail IS NULL AND next_attempt_at IS NULL AND queued_until IS NULL \
         AND lease_owner IS NULL AND lease_until IS NULL AND attempt_id IS NULL AND attempt_sent_at IS NULL \
         AND attempt_grant IS NULL AND waiting_fingerprint IS NULL";
    assert_eq!(bench.number(cleared).await, 1);
    // Four refusals before it do not count: it takes five more.
    bench.clock.advance(TimeDelta::minutes(55));
    for _ in 0..4 {
        bench.provider.answer(400, r#"{"error":"invalid_grant"}"#);
        let outcome = refreshed(&bench, 1).await;
        let Outcome::Failed(failed) = outcome else { panic!("{outcome:?}") };
        assert_eq!(failed.state, ConnectionState::Active);
        bench.execute("UPDATE token_refresh SET next_attempt_at = NULL").await;
    }
}

/// Answers, while somebody else changes the row.
pub(super) struct Meanwhile(
    pub(super) Database,
    pub(super) &'static str,
    pub(super) u16,
    pub(super) &'static str,
);

#[async_trait]
impl ProviderCaller for Meanwhile {
    async fn call(&self, _: &ProviderRequest) -> Result<ProviderAnswer, CallError> {
        self.0.connection().execute_unprepared(self.1).await.unwrap();
        let body = self.3.as_bytes().to_vec();
        Ok(ProviderAnswer { status: self.2, retry_after: None, body: body.into() })
    }
}

#[tokio::test]
async fn a_grant_that_was_refused_because_somebody_has_a_newer_one_is_no_failure() {
    for statement in [
        "UPDATE token_refresh SET generation = 1",
        "UPDATE ie_appinstall_connection SET refreshToken = 'reconnected'",
    ] {
        let mut bench = bench(DEFINITION, STRICT, &["s"]).await;
        let meanwhile = Meanwhile(bench.database.clone(), statement, 400, r#"{"error":"invalid_grant"}"#);
        Arc::get_mut(&mut bench.refresher).unwrap().caller = Arc::new(meanwhile);
        assert_eq!(refreshed(&bench, 0).await, Outcome::Stale, "{statement}");
        assert_eq!(bench.load(1).await.failures, 0);
    }
}

#[tokio::test]
async fn the_secrets_of_the_app_are_tried_in_turn() {
    let bench = bench(DEFINITION, STRICT, &["new", "old"]).await;
    bench.provider.answer(401, r#"{"error":"invalid_client"}"#);
    bench.provider.answer(200, GRANT);
    assert_eq!(refreshed(&bench, 0).await.as_str(), "refreshed");
    let bodies: Vec<_> = bench
        .provider
        .requests()
        .iter()
        .map(|request| request.body.as_ref().unwrap().expose().to_owned())
        .collect();
    assert!(
        bodies[0].ends_with("client_secret=new") && bodies[1].ends_with("client_secret=old"),
        "{bodies:?}"
    );
    bench.execute("UPDATE token_refresh SET refresh_at = NULL").await;
    bench.execute("UPDATE ie_appinstall_connection SET accessTokenExpiryAt = '2026-11-21 12:05:00'").await;
    for _ in 0..2 {
        bench.provider.answer(401, r#"{"error":"invalid_client"}"#);
    }
    let outcome = refreshed(&bench, 1).await;
    let Outcome::Failed(failed) = outcome else { panic!("{outcome:?}") };
    assert_eq!(failed.failure.class, FailureClass::InvalidClient);
    assert_eq!(bench.provider.calls().len(), 4);
}

#[tokio::test]
async fn a_token_whose_life_nobody_knows_is_stored_and_visibly_unmonitored() {
    let definition = DEFINITION.replace(r#"{ seconds = "/expires_in" }"#, "\"unknown\"");
    let bench = bench(&definition, "\"none\"", &["s"]).await;
    bench.provider.answer(200, r#"{"access_token":"new"}"#);
    let outcome = refreshed(&bench, 0).await;
    let Outcome::Refreshed(stored) = outcome else { panic!("{outcome:?}") };
    assert_eq!((stored.expires_at, stored.generation), (None, Generation(1)));
    let loaded = bench.load(1).await;
    assert_eq!((loaded.state, loaded.expires_at), (ConnectionState::Unmonitored, None));
    assert_eq!(bench.cached(1).as_deref(), Some("new"));
    let waiting = Outcome::Skipped(Skip::Waiting(ConnectionState::Unmonitored));
    assert_eq!(refreshed(&bench, 1).await, waiting);
}

#[tokio::test]
async fn after_a_reconnect_during_a_call_the_merchants_token_is_refreshed_like_any_other() {
    let reconnect = "UPDATE ie_appinstall_connection SET accessToken = 'theirs', refreshToken = 'reconnected', \
         accessTokenExpiryAt = '2026-11-21 13:00:00'";
    for (status, body) in [(200, GRANT), (400, r#"{"error":"invalid_grant"}"#)] {
        let mut bench = bench(DEFINITION, STRICT, &["s"]).await;
        let meanwhile = Meanwhile(bench.database.clone(), reconnect, status, body);
        let scripted =
            std::mem::replace(&mut Arc::get_mut(&mut bench.refresher).unwrap().caller, Arc::new(meanwhile));
        assert_eq!(refreshed(&bench, 0).await, Outcome::Stale, "{status}");
        assert_eq!(refresh_token(&bench).await, "reconnected");
        Arc::get_mut(&mut bench.refresher).unwrap().caller = scripted;
        bench.clock.advance(TimeDelta::minutes(45));
        bench.provider.answer(200, GRANT);
        assert_eq!(refreshed(&bench, 0).await.as_str(), "refreshed", "{status}");
        assert_eq!(refresh_token(&bench).await, "second");
    }
}

#[tokio::test]
async fn a_reconnect_during_a_call_that_brings_a_refresh_token_alone_wins() {
    let reconnect = "UPDATE ie_appinstall_connection SET refreshToken = 'reconnected'";
    for rotation in [STRICT, LEEWAY] {
        let mut bench = bench(DEFINITION, rotation, &["s"]).await;
        let meanwhile = Meanwhile(bench.database.clone(), reconnect, 200, GRANT);
        let scripted =
            std::mem::replace(&mut Arc::get_mut(&mut bench.refresher).unwrap().caller, Arc::new(meanwhile));
        assert_eq!(refreshed(&bench, 0).await, Outcome::Stale, "{rotation}");
        assert_eq!(refresh_token(&bench).await, "reconnected", "{rotation}");
        Arc::get_mut(&mut bench.refresher).unwrap().caller = scripted;
        bench.clock.advance(TimeDelta::minutes(2));
        bench.provider.answer(200, GRANT);
        assert_eq!(refreshed(&bench, 0).await.as_str(), "refreshed", "{rotation}");
        assert_eq!(refresh_token(&bench).await, "second");
    }
}

#[tokio::test]
async fn an_access_token_that_somebody_wrote_beside_the_spent_refresh_token_gives_way() {
    for theirs in [
        "UPDATE ie_appinstall_connection SET accessToken = 'theirs', accessTokenExpiryAt = '2026-11-21 12:50:00'",
        "UPDATE ie_appinstall_connection SET accessToken = 'theirs'",
    ] {
        let mut bench = bench(DEFINITION, STRICT, &["s"]).await;
        let meanwhile = Meanwhile(bench.database.clone(), theirs, 200, GRANT);
        Arc::get_mut(&mut bench.refresher).unwrap().caller = Arc::new(meanwhile);
        assert_eq!(refreshed(&bench, 0).await.as_str(), "refreshed", "{theirs}");
        let loaded = bench.load(1).await;
        assert_eq!(loaded.access_token.unwrap().expose(), "new");
        assert_eq!(loaded.refresh_token.unwrap().expose(), "second", "else the connection would be lost");
    }
}

#[tokio::test]
async fn an_access_token_of_the_merchants_wins_where_the_refresh_token_is_not_spent() {
    let theirs = "UPDATE ie_appinstall_connection SET accessToken = 'OLD-1'";
    let mut bench = bench(DEFINITION, "\"none\"", &["s"]).await;
    let answer = r#"{"access_token":"new","expires_in":3600}"#;
    for (status, body) in [(200, answer), (400, r#"{"error":"invalid_grant"}"#)] {
        bench.execute("UPDATE ie_appinstall_connection SET accessToken = 'old-1'").await;
        let meanwhile = Meanwhile(bench.database.clone(), theirs, status, body);
        Arc::get_mut(&mut bench.refresher).unwrap().caller = Arc::new(meanwhile);
        assert_eq!(refreshed(&bench, 0).await, Outcome::Stale, "{status}: same expiry, same refresh token");
        let loaded = bench.load(1).await;
        assert_eq!((loaded.access_token.unwrap().expose(), loaded.generation.0), ("OLD-1", 0), "{status}");
        assert_eq!((bench.cached(1).as_deref(), loaded.failures), (Some("OLD-1"), 0), "{status}");
    }
}

#[tokio::test]
async fn a_token_that_was_not_there_is_no_other_one() {
    for (before, after, expected) in [
        ("NULL", "NULL", "refreshed"),
        ("NULL", "'theirs'", "stale"),
        ("''", "NULL", "stale"),
        ("'old'", "'old '", "stale"),
    ] {
        let mut bench = bench(DEFINITION, "\"none\"", &["s"]).await;
        bench.execute(&format!("UPDATE ie_appinstall_connection SET accessToken = {before}")).await;
        let statement = format!("UPDATE ie_appinstall_connection SET accessToken = {after}").leak();
        let answer = r#"{"access_token":"new","expires_in":3600}"#;
        let meanwhile = Meanwhile(bench.database.clone(), statement, 200, answer);
        Arc::get_mut(&mut bench.refresher).unwrap().caller = Arc::new(meanwhile);
        assert_eq!(refreshed(&bench, 0).await.as_str(), expected, "{before} to {after}");
    }
}

#[tokio::test]
async fn the_noted_end_of_a_refresh_token_is_not_applied_to_the_one_of_a_reconnect() {
    let noted = "SELECT COUNT(*) FROM token_refresh WHERE strftime('%s', refresh_token_expires_at) = strftime('%s', '2026-11-22 12:00:00')";
    let bench = bench(DEFINITION, "\"none\"", &["s"]).await;
    bench
        .provider
        .answer(200, r#"{"access_token":"new","expires_in":3600,"refresh_token_expires_in":86400}"#);
    assert_eq!(refreshed(&bench, 0).await.as_str(), "refreshed");
    assert_eq!(bench.number(noted).await, 1);
    let silent = r#"{"access_token":"next","expires_in":3600}"#;
    bench.clock.advance(TimeDelta::minutes(55));
    bench.provider.answer(200, silent);
    assert_eq!(refreshed(&bench, 1).await.as_str(), "refreshed");
    assert_eq!(bench.number(noted).await, 1, "an answer that does not say it leaves it as it is");

    bench.execute("UPDATE ie_appinstall_connection SET refreshToken = 'reconnected'").await;
    assert_eq!(bench.load(1).await.grant_ends_at(), None);
    bench.clock.advance(TimeDelta::minutes(55));
    bench.provider.answer(200, silent);
    assert_eq!(refreshed(&bench, 2).await.as_str(), "refreshed");
    let unknown = "SELECT COUNT(*) FROM token_refresh WHERE refresh_token_expires_at IS NULL";
    assert_eq!(bench.number(unknown).await, 1);
}

#[tokio::test]
async fn a_call_is_written_down_only_on_what_was_loaded_and_once() {
    let bench = bench(DEFINITION, STRICT, &["s"]).await;
    let grant = bench.load(1).await.stored_grant;
    let attempt = |id: &str, loaded: Option<&str>| Attempt {
        connection_id: ConnectionId(1),
        generation: Generation(0),
        loaded: RowStanding { state: ConnectionState::Active, waiting_fingerprint: None },
        loaded_grant: grant.clone(),
        loaded_attempt: loaded.map(str::to_owned),
        id: id.to_owned(),
        owner: format!("owner of {id}"),
        is_effect_unknown: false,
        grant: "grant".into(),
        lease: TimeDelta::minutes(2),
        passes: false,
    };
    let begin = async |minutes, attempt: Attempt| {
        bench.clock.advance(noon() + TimeDelta::minutes(minutes) - bench.clock.now());
        bench.refresher.store.begin_attempt(&attempt).await.unwrap()
    };
    assert!(begin(0, attempt("a", None)).await);
    assert!(begin(0, attempt("a", None)).await, "the database's reply was lost");
    assert!(!begin(1, attempt("b", Some("a"))).await, "the lease is held");
    assert!(!begin(5, attempt("b", None)).await, "somebody else sent a call since it was loaded");
    assert!(begin(5, attempt("b", Some("a"))).await);
    bench
        .execute("UPDATE token_refresh SET state = 'quarantined', attempt_id = NULL, lease_until = NULL")
        .await;
    assert!(!begin(9, attempt("c", None)).await, "somebody else found out more");
    bench.execute("UPDATE token_refresh SET state = 'active', generation = 1").await;
    assert!(!begin(9, attempt("c", None)).await);
}

/// The call of a worker that loaded the connection so, and is slower than others.
fn slower(loaded: &LoadedConnection) -> Attempt {
    Attempt {
        connection_id: loaded.id,
        generation: loaded.generation,
        loaded: loaded.standing(),
        loaded_grant: loaded.stored_grant.clone(),
        loaded_attempt: loaded.attempt_id.clone(),
        id: "slower".to_owned(),
        owner: "the slower one".to_owned(),
        is_effect_unknown: false,
        grant: loaded.grant_fingerprint(),
        lease: TimeDelta::minutes(2),
        passes: false,
    }
}

/// The one of them was lost, the merchant authorised again, and all else is as it was loaded.
#[tokio::test]
async fn a_refresh_token_that_was_replaced_since_it_was_loaded_is_not_presented() {
    let bench = bench(DEFINITION, STRICT, &["s"]).await;
    let loaded = bench.load(1).await;
    let attempt = slower(&loaded);
    for (token, is_let) in [("'reconnected'", false), ("NULL", false), ("'first'", true)] {
        bench.execute(&format!("UPDATE ie_appinstall_connection SET refreshToken = {token}")).await;
        let is_begun = bench.refresher.store.begin_attempt(&attempt).await.unwrap();
        assert_eq!((is_begun, bench.load(1).await.attempt_id.is_some()), (is_let, is_let), "{token}");
    }
}

/// A strict token is presented by one alone, who knows when it was not spent.
#[tokio::test]
async fn a_late_refusal_ends_the_quarantine_that_its_own_call_brought() {
    let mut bench = bench(DEFINITION, STRICT, &["s"]).await;
    let quarantined = format!(
        "UPDATE token_refresh SET state = 'quarantined', waiting_fingerprint = '{}', attempt_id = NULL, \
         attempt_sent_at = NULL, attempt_grant = NULL, lease_owner = NULL, lease_until = NULL",
        bench.load(1).await.grant_fingerprint()
    );
    let meanwhile = Meanwhile(bench.database.clone(), quarantined.leak(), 503, "");
    Arc::get_mut(&mut bench.refresher).unwrap().caller = Arc::new(meanwhile);
    assert_eq!(failed(&bench).await.state, ConnectionState::Active);
    assert_eq!(bench.load(1).await.state, ConnectionState::Active);
}

/// Two workers have a copy each of one message, for a connection that was quarantined and authorised again. The one's call is
/// lost as well, and what is left looks to the other as it did before: quarantined, and no call open.
#[tokio::test]
async fn who_loaded_a_quarantine_sends_nothing_after_the_call_that_brought_the_next_one() {
    let bench = bench(DEFINITION, STRICT, &["s"]).await;
    bench.provider.fail(lost());
    failed(&bench).await;
    bench.execute("UPDATE ie_appinstall_connection SET refreshToken = 'reconnected'").await;
    bench.clock.advance(TimeDelta::minutes(16));
    let loaded = bench.load(1).await;
    let slower = slower(&loaded);
    bench.provider.fail(lost());
    failed(&bench).await;
    assert_eq!(bench.provider.calls().len(), 2);
    let then = bench.load(1).await;
    assert_eq!((then.state, then.attempt_id), (loaded.state, loaded.attempt_id), "as it was loaded");
    assert!(!bench.refresher.store.begin_attempt(&slower).await.unwrap(), "the token may be spent");

    bench.execute("UPDATE ie_appinstall_connection SET refreshToken = 'reconnected again'").await;
    bench.clock.advance(TimeDelta::minutes(16));
    bench.provider.answer(200, GRANT);
    assert_eq!(refreshed(&bench, 0).await.as_str(), "refreshed", "whoever loads it now may");
}

#[tokio::test]
async fn a_failure_does_not_close_a_call_that_somebody_else_sent_meanwhile() {
    let theirs = "UPDATE token_refresh SET attempt_id = 'theirs', attempt_sent_at = '2026-11-21 12:00:00', lease_owner = 'they'";
    let mut bench = bench(DEFINITION, STRICT, &["s"]).await;
    let meanwhile = Meanwhile(bench.database.clone(), theirs, 503, "");
    Arc::get_mut(&mut bench.refresher).unwrap().caller = Arc::new(meanwhile);
    assert_eq!(refreshed(&bench, 0).await, Outcome::Stale);
    let kept = "SELECT COUNT(*) FROM token_refresh WHERE attempt_id = 'theirs' AND lease_owner = 'they' AND failures = 0";
    assert_eq!(bench.number(kept).await, 1);
    assert_eq!(bench.number("SELECT COUNT(*) FROM refresh_attempt").await, 0);
    // Nor does the end of a claim by who found a good token.
    let release = |loaded: Option<&str>| Release {
        connection_id: ConnectionId(1),
        generation: Generation(0),
        claim: None,
        loaded_next_attempt_at: None,
        next_attempt_at: None,
        recovered: Some(Recovered {
            loaded: RowStanding { state: ConnectionState::Active, waiting_fingerprint: None },
            loaded_attempt: loaded.map(str::to_owned),
        }),
        trace: Default::default(),
    };
    bench.refresher.store.release(&release(None)).await.unwrap();
    assert_eq!(bench.number(kept).await, 1);
    bench.refresher.store.release(&release(Some("theirs"))).await.unwrap();
    assert_eq!(bench.load(1).await.attempt_id, None);
}

/// The call of a worker that stood still comes to nothing after the connection was quarantined, authorised again and, by the next
/// call, quarantined anew: what was lost last is not known any better for that.
#[tokio::test]
async fn a_late_failure_or_recovery_does_not_end_the_quarantine_that_a_later_call_brought() {
    let anew = "UPDATE token_refresh SET state = 'quarantined', waiting_fingerprint = 'of a later grant', attempt_id = NULL, \
         attempt_sent_at = NULL, attempt_grant = NULL, lease_owner = NULL, lease_until = NULL";
    let mut bench = bench(DEFINITION, STRICT, &["s"]).await;
    let loaded = bench.load(1).await.standing();
    let meanwhile = Meanwhile(bench.database.clone(), anew, 503, "");
    Arc::get_mut(&mut bench.refresher).unwrap().caller = Arc::new(meanwhile);
    assert_eq!(refreshed(&bench, 0).await, Outcome::Stale);
    let kept = "SELECT COUNT(*) FROM token_refresh WHERE state = 'quarantined' \
         AND waiting_fingerprint = 'of a later grant' AND failures = 0";
    assert_eq!(bench.number(kept).await, 1);
    let recovery = |loaded: RowStanding| Release {
        recovered: Some(Recovered { loaded, loaded_attempt: None }),
        connection_id: ConnectionId(1),
        generation: Generation(0),
        claim: None,
        loaded_next_attempt_at: None,
        next_attempt_at: None,
        trace: Default::default(),
    };
    bench.refresher.store.release(&recovery(loaded)).await.unwrap();
    assert_eq!(bench.number(kept).await, 1);
    let loaded = bench.load(1).await.standing();
    bench.refresher.store.release(&recovery(loaded)).await.unwrap();
    assert_eq!(bench.load(1).await.state, ConnectionState::Active);
}

#[tokio::test]
async fn only_another_refresh_token_ends_a_quarantine() {
    let bench = bench(DEFINITION, STRICT, &["s"]).await;
    bench.provider.fail(lost());
    failed(&bench).await;
    bench.clock.advance(TimeDelta::minutes(16));
    bench.execute("UPDATE ie_appinstall_connection SET inputFields = '{}', accessTokenExpiryAt = '2026-11-21 12:21:00'").await;
    assert_eq!(refreshed(&bench, 0).await, Outcome::Skipped(Skip::Waiting(ConnectionState::Quarantined)));
    assert_eq!(bench.provider.calls().len(), 1);
}

#[tokio::test]
async fn what_cannot_be_read_says_nothing_of_an_open_call() {
    let bench = bench(DEFINITION, STRICT, &["s"]).await;
    bench
        .execute("UPDATE token_refresh SET attempt_id = 'open', attempt_sent_at = '2026-11-21 11:00:00', state = 'quarantined', grant_failures = 'many'")
        .await;
    let failure = failed(&bench).await;
    assert_eq!(failure.failure.class, FailureClass::Misconfigured);
    let kept = "SELECT COUNT(*) FROM token_refresh WHERE attempt_id = 'open' AND attempt_sent_at IS NOT NULL AND state = 'quarantined'";
    assert_eq!(bench.number(kept).await, 1);
}

#[tokio::test]
async fn an_unmonitored_connection_stays_so_when_a_refresh_fails_and_its_token_stays_readable() {
    let definition = DEFINITION
        .replace(r#"{ seconds = "/expires_in" }"#, "\"unknown\"")
        .replace("answer = \"/refresh_token\"", "answer = \"/refresh_token\"\ninactivity = \"30d\"");
    let bench = bench(&definition, "\"none\"", &["s"]).await;
    bench.provider.answer(200, r#"{"access_token":"new"}"#);
    assert_eq!(refreshed(&bench, 0).await.as_str(), "refreshed");
    let loaded = bench.load(1).await;
    assert_eq!(loaded.refresh_at, Some(noon() + TimeDelta::days(20)), "kept alive");
    bench.clock.advance(TimeDelta::days(20));
    bench.provider.answer(503, "");
    let outcome = refresh(&bench.refresher, &message(1, 1, Lane::Urgent), false).await;
    assert_eq!(outcome.as_str(), "failed");
    assert_eq!(bench.load(1).await.state, ConnectionState::Unmonitored);
    assert_eq!(bench.cached(1).as_deref(), Some("new"));
}

#[tokio::test]
async fn an_access_token_that_somebody_wrote_does_not_close_an_open_call() {
    let bench = bench(DEFINITION, STRICT, &["s"]).await;
    let fingerprint = bench.load(1).await.grant_fingerprint();
    bench
        .execute(&format!(
            "UPDATE token_refresh SET attempt_id = 'open', attempt_sent_at = '2026-11-21 11:00:00', attempt_grant = '{fingerprint}'"
        ))
        .await;
    bench.execute("UPDATE ie_appinstall_connection SET accessToken = 'theirs', accessTokenExpiryAt = '2026-11-21 14:00:00'").await;
    assert_eq!(refreshed(&bench, 0).await, Outcome::Skipped(Skip::AlreadyFresh));
    assert!(bench.load(1).await.unknown_since().is_some(), "the refresh token is as spent as before");
    bench.execute("UPDATE ie_appinstall_connection SET refreshToken = 'reconnected'").await;
    assert_eq!(refreshed(&bench, 0).await, Outcome::Skipped(Skip::AlreadyFresh));
    assert_eq!(bench.load(1).await.attempt_id, None);
}

#[tokio::test]
async fn a_secret_of_the_app_that_is_refused_counts_against_no_connection() {
    let bench = bench(DEFINITION, STRICT, &["new", "old"]).await;
    let again = async || {
        bench.execute("UPDATE token_refresh SET next_attempt_at = NULL").await;
        refreshed(&bench, 0).await
    };
    // The breaker of the bench opens at half of ten calls, and of a job's two the second one counts against the provider.
    for failures in [1, 2, 3, 4, 4] {
        for _ in 0..2 {
            bench.provider.answer(401, r#"{"error":"invalid_client"}"#);
        }
        assert!(matches!(again().await, Outcome::Failed(_)));
        assert_eq!(bench.load(1).await.failures, failures);
    }
    let outcome = again().await;
    assert!(matches!(outcome, Outcome::Deferred { .. }), "{outcome:?}");
    assert_eq!((bench.provider.calls().len(), bench.load(1).await.failures), (10, 4));
}
