//! Answers that cannot be stored, or cannot be read: none of them is lost.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use freshet_shared::adapters::database::{Database, Sealing};
use freshet_shared::adapters::embedded::clock::SeededRandomness;
use freshet_shared::domain::connection::{ConnectionId, ConnectionState, Generation};
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::message::{MessageError, ParkedMessage};
use freshet_shared::domain::outcome::{Disposition, Outcome, Skip};
use freshet_shared::domain::provider::ProviderSettings;
use freshet_shared::domain::provider::answer::ProviderAnswer;
use freshet_shared::domain::provider::catalogue::Providers;
use freshet_shared::domain::provider::request::ProviderRequest;
use freshet_shared::domain::sealing::KeyRing;
use freshet_shared::domain::secret::Secret;
use freshet_shared::ports::provider::{CallError, ProviderCaller};
use freshet_shared::ports::queue::{ConsumeError, Consumer, Delivery, Settle, SettleError};
use sea_orm::{DatabaseTransaction, TransactionTrait};
use tokio_util::sync::CancellationToken;

use super::rotating::{self, DEFINITION, GRANT, LEEWAY, STRICT, failed, lost, refresh_token, refreshed};
use super::{ACQUIRE_TIMEOUT, Bench, message};
use crate::parked::{run_parked, store_parked};
use crate::refresh::refresh;

/// A bench with a key.
async fn bench(definition: &str, rotation: &str, secrets: &[&str]) -> Bench {
    let mut bench = rotating::bench(definition, rotation, secrets).await;
    let keys = "primary = \"k1\"\n[keys]\nk1 = \"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"";
    let keys = KeyRing::parse("keys.toml", &Secret::new(keys)).ok().unwrap();
    let sealing = Sealing::new(keys, Arc::new(SeededRandomness::new(1)));
    let sealed = bench.database.clone().with_sealing(Some(Arc::new(sealing)));
    Arc::get_mut(&mut bench.refresher).unwrap().store = Arc::new(sealed);
    bench
}

#[tokio::test]
async fn without_a_key_no_answer_stands_in_our_tables() {
    let wrong = DEFINITION.replace("\"/access_token\"", "\"/acces_token\"");
    let bench = rotating::bench(&wrong, STRICT, &["s"]).await;
    bench.provider.answer(200, GRANT);
    let failure = failed(&bench).await;
    assert_eq!(failure.state, ConnectionState::Quarantined);
    assert!(!failure.failure.detail.contains("kept"), "{}", failure.failure.detail);
    assert_eq!(bench.number("SELECT COUNT(*) FROM token_refresh WHERE kept_answer IS NULL").await, 1);
}

/// Answers, and takes the database away meanwhile: its only connection is held.
struct TakesTheDatabase {
    /// What the first call meets, before the one that is answered.
    first: Mutex<Option<CallError>>,
    status: u16,
    database: Database,
    held: Mutex<Option<DatabaseTransaction>>,
    last_call: CancellationToken,
    body: &'static str,
}

#[async_trait]
impl ProviderCaller for TakesTheDatabase {
    async fn call(&self, _request: &ProviderRequest) -> Result<ProviderAnswer, CallError> {
        if let Some(error) = self.first.lock().unwrap().take() {
            return Err(error);
        }
        let transaction = self.database.connection().begin().await.unwrap();
        *self.held.lock().unwrap() = Some(transaction);
        self.last_call.cancel();
        Ok(ProviderAnswer {
            status: self.status,
            retry_after: None,
            body: self.body.as_bytes().to_vec().into(),
        })
    }
}

/// A bench whose provider answers with `body` in the last moment before the end, with the database away.
fn away_at_the_end(bench: Bench, body: &'static str) -> (Bench, Arc<TakesTheDatabase>) {
    away_after(bench, None, 200, body)
}

fn away_after(
    mut bench: Bench,
    first: Option<CallError>,
    status: u16,
    body: &'static str,
) -> (Bench, Arc<TakesTheDatabase>) {
    let caller = Arc::new(TakesTheDatabase {
        first: Mutex::new(first),
        status,
        database: bench.database.clone(),
        held: Mutex::new(None),
        last_call: bench.refresher.last_call.clone(),
        body,
    });
    Arc::get_mut(&mut bench.refresher).unwrap().caller = caller.clone();
    (bench, caller)
}

async fn parked(bench: &Bench, caller: &TakesTheDatabase) -> Vec<u8> {
    let outcome = refreshed(bench, 0).await;
    assert_eq!((&outcome, outcome.disposition()), (&Outcome::Parked, Disposition::Acknowledge));
    // The process is gone, and with it the commit that it had begun: what waits for the database gives up.
    let let_it_run = async || {
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
    };
    let_it_run().await;
    tokio::time::pause();
    tokio::time::advance(ACQUIRE_TIMEOUT + Duration::from_secs(1)).await;
    let_it_run().await;
    tokio::time::resume();
    let held = caller.held.lock().unwrap().take();
    held.unwrap().rollback().await.unwrap();
    let parked = bench.parking.parked();
    assert_eq!(parked.len(), 1);
    let (provider, answer) = &parked[0];
    ParkedMessage::new(answer.connection_id, answer.generation, provider.clone(), String::new()).encode()
}

/// The next process's: nothing about it is ending.
fn next_process(mut bench: Bench) -> Bench {
    Arc::get_mut(&mut bench.refresher).unwrap().last_call = CancellationToken::new();
    bench
}

#[tokio::test]
async fn an_answer_that_the_database_does_not_take_in_time_is_parked_and_stored_by_the_next_worker() {
    let (bench, caller) = away_at_the_end(bench(DEFINITION, STRICT, &["s"]).await, GRANT);
    let message = parked(&bench, &caller).await;
    assert_eq!(refresh_token(&bench).await, "first");
    let bench = next_process(bench);
    let outcome = store_parked(&bench.refresher, &message).await;
    assert_eq!(outcome.as_str(), "refreshed");
    let loaded = bench.load(1).await;
    assert_eq!((loaded.generation, loaded.attempt_sent_at), (Generation(1), None));
    assert_eq!(refresh_token(&bench).await, "second");
    assert_eq!(bench.cached(1).as_deref(), Some("new"));
    assert_eq!(bench.events.last().iter().map(|event| event.id()).collect::<Vec<_>>(), ["1:1:refreshed"]);
    // It comes again where its acknowledgement was lost.
    assert_eq!(store_parked(&bench.refresher, &message).await, Outcome::Stale);
    assert_eq!(bench.load(1).await.generation, Generation(1));
}

/// Hands out one message, and then none.
struct OneDelivery(Option<Delivery>, Said);

#[async_trait]
impl Consumer for OneDelivery {
    async fn next(&mut self) -> Result<Delivery, ConsumeError> {
        match self.0.take() {
            Some(delivery) => Ok(delivery),
            None => std::future::pending().await,
        }
    }

    async fn stop(&mut self) {
        let _ = self.1.say("nothing more");
    }
}

/// What was said of a message, and to its queue.
#[derive(Clone, Default)]
struct Said(Arc<Mutex<Vec<&'static str>>>);

impl Said {
    fn say(&self, word: &'static str) -> Result<(), SettleError> {
        self.0.lock().unwrap().push(word);
        Ok(())
    }
}

#[async_trait]
impl Settle for Said {
    async fn acknowledge(self: Box<Self>) -> Result<(), SettleError> {
        self.say("acknowledged")
    }
    async fn requeue(self: Box<Self>) -> Result<(), SettleError> {
        self.say("given back")
    }
    async fn dead_letter(self: Box<Self>, _: Vec<u8>, _: MessageError) -> Result<(), SettleError> {
        self.say("dead letter")
    }
}

/// Dropped it would go back as one that failed, which the broker counts.
#[tokio::test]
async fn a_parked_answer_that_nobody_can_store_before_the_end_is_given_back_as_one_that_waits() {
    let (bench, caller) = away_at_the_end(bench(DEFINITION, STRICT, &["s"]).await, GRANT);
    let body = parked(&bench, &caller).await;
    let _held = bench.database.connection().begin().await.unwrap();
    let said = Said::default();
    let delivery = Delivery {
        body,
        lane: Lane::Urgent,
        destination: "".into(),
        redelivered: false,
        context: Default::default(),
        settle: Box::new(said.clone()),
    };
    let consumer = Box::new(OneDelivery(Some(delivery), said.clone()));
    assert!(bench.refresher.last_call.is_cancelled());
    run_parked(&bench.refresher, consumer, &CancellationToken::new()).await.unwrap();
    assert_eq!(*said.0.lock().unwrap(), ["nothing more", "given back"]);
}

#[tokio::test]
async fn a_parked_answer_ends_a_quarantine_and_gives_way_to_a_merchant_who_authorised_again() {
    for (sql, expected, token) in [
        ("UPDATE token_refresh SET state = 'quarantined', failures = 1", "refreshed", "second"),
        ("UPDATE ie_appinstall_connection SET refreshToken = 'reconnected'", "stale", "reconnected"),
        ("UPDATE token_refresh SET generation = 7", "stale", "first"),
    ] {
        let (bench, caller) = away_at_the_end(bench(DEFINITION, STRICT, &["s"]).await, GRANT);
        let message = parked(&bench, &caller).await;
        bench.execute(sql).await;
        let bench = next_process(bench);
        assert_eq!(store_parked(&bench.refresher, &message).await.as_str(), expected, "{sql}");
        assert_eq!(refresh_token(&bench).await, token, "{sql}");
        if expected == "refreshed" {
            assert_eq!(bench.load(1).await.state, ConnectionState::Active);
        }
    }
}

#[tokio::test]
async fn an_answer_that_nobody_can_read_is_parked_too_and_kept_on_the_row() {
    let (bench, caller) = away_at_the_end(bench(DEFINITION, STRICT, &["s"]).await, "<html>");
    let message = parked(&bench, &caller).await;
    let bench = next_process(bench);
    let outcome = store_parked(&bench.refresher, &message).await;
    let Outcome::Failed(failed) = &outcome else { panic!("{outcome:?}") };
    assert_eq!(failed.state, ConnectionState::Quarantined);
    let kept = bench.refresher.store.kept_answer(ConnectionId(1)).await.unwrap().unwrap();
    assert_eq!(kept.answer.body.as_slice(), b"<html>");
}

#[tokio::test]
async fn a_refusal_that_was_parked_does_not_close_the_call_before_it_whose_answer_was_lost() {
    let bench = bench(DEFINITION, LEEWAY, &["s"]).await;
    let (bench, caller) = away_after(bench, Some(lost()), 503, "");
    let message = parked(&bench, &caller).await;
    let bench = next_process(bench);
    let outcome = store_parked(&bench.refresher, &message).await;
    let Outcome::Failed(failed) = &outcome else { panic!("{outcome:?}") };
    assert_eq!(failed.state, ConnectionState::Active);
    assert!(bench.load(1).await.unknown_since().is_some(), "the first call may have spent the token");
    // After the leeway nobody presents it again.
    bench.clock.advance(TimeDelta::minutes(2));
    let outcome = refreshed(&bench, 0).await;
    let Outcome::Failed(failed) = &outcome else { panic!("{outcome:?}") };
    assert_eq!(failed.state, ConnectionState::Quarantined);
    assert!(caller.held.lock().unwrap().is_none(), "nobody was called");
}

#[tokio::test]
async fn what_is_no_parked_answer_goes_to_the_dead_letters() {
    let bench = bench(DEFINITION, STRICT, &["s"]).await;
    let unknown = ParkedMessage::new(ConnectionId(1), Generation(0), "fynd".into(), String::new()).encode();
    for (body, reason) in
        [(b"{".to_vec(), "not_json"), (b"{}".to_vec(), "invalid_field"), (unknown, "not_an_answer")]
    {
        let outcome = store_parked(&bench.refresher, &body).await;
        let Outcome::Undecodable(error) = &outcome else { panic!("{outcome:?}") };
        assert_eq!(error.reason(), reason);
    }
}

#[tokio::test]
async fn an_answer_that_a_wrong_definition_did_not_read_is_used_without_a_call_once_it_is_corrected() {
    let wrong = DEFINITION.replace("\"/access_token\"", "\"/acces_token\"");
    let bench = bench(&wrong, STRICT, &["s"]).await;
    bench.provider.answer(200, GRANT);
    let failure = failed(&bench).await;
    assert_eq!(failure.state, ConnectionState::Quarantined);
    assert!(failure.failure.detail.contains("the answer is kept"), "{}", failure.failure.detail);
    let sealed = "SELECT COUNT(*) FROM token_refresh WHERE kept_answer LIKE 'freshet:1:k1:%'";
    assert_eq!(bench.number(sealed).await, 1);
    let told = "SELECT COUNT(*) FROM refresh_attempt WHERE failure_detail LIKE '%the answer is kept%'";
    assert_eq!(bench.number(told).await, 1);
    bench.clock.advance(TimeDelta::minutes(16));
    let waiting = Outcome::Skipped(Skip::Waiting(ConnectionState::Quarantined));
    assert_eq!(refreshed(&bench, 0).await, waiting);

    let settings: BTreeMap<String, ProviderSettings> = BTreeMap::new();
    let right = DEFINITION.replace("ROTATION", STRICT);
    let providers = Providers::new(&[("rotating.toml".into(), right)], &settings).unwrap();
    let mut bench = bench;
    Arc::get_mut(&mut bench.refresher).unwrap().providers = providers;
    bench.clock.advance(TimeDelta::minutes(16));
    let outcome = refresh(&bench.refresher, &message(1, 0, Lane::Early), false).await;
    assert_eq!(outcome.as_str(), "refreshed");
    assert_eq!(bench.provider.calls().len(), 1);
    assert_eq!(refresh_token(&bench).await, "second");
    assert!(bench.refresher.store.kept_answer(ConnectionId(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn an_answer_is_not_used_for_another_refresh_token_than_the_one_that_was_spent() {
    let wrong = DEFINITION.replace("\"/access_token\"", "\"/acces_token\"");
    let bench = bench(&wrong, STRICT, &["s"]).await;
    bench.provider.answer(200, GRANT);
    failed(&bench).await;
    bench.execute("UPDATE ie_appinstall_connection SET refreshToken = 'reconnected'").await;
    bench.clock.advance(TimeDelta::minutes(16));
    bench.provider.answer(503, "");
    assert_eq!(refreshed(&bench, 0).await.as_str(), "failed");
    assert_eq!(bench.provider.calls().len(), 2);
}
