//! What a scan finds, claims and publishes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use chrono::TimeDelta;
use freshet_shared::adapters::embedded::queue::InProcessQueue;
use freshet_shared::domain::connection::{ConnectionId, Generation};
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::provider::catalogue::Providers;
use freshet_shared::ports::queue::{Outgoing, PublishError, Publisher};

use super::{Bench, noon};
use crate::scan::{Target, scan};

const EARLY: Target = Target::Lane(Lane::Early);
const URGENT: Target = Target::Lane(Lane::Urgent);

/// A broker that does not take every second message.
struct Grudging(PublishError);

#[async_trait]
impl Publisher for Grudging {
    async fn publish(&self, messages: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        let answer = |index: usize| if index.is_multiple_of(2) { Ok(()) } else { Err(self.0.clone()) };
        (0..messages.len()).map(answer).collect()
    }
}

#[tokio::test]
async fn the_windows_begin_and_end_where_the_contract_says() {
    let bench = Bench::new(1_000).await;
    let seconds = [-1, 0, 1, 599, 600, 601, 1_799, 1_800, 1_801];
    for (id, seconds) in (1..).zip(seconds) {
        bench.add(id, Some(noon() + TimeDelta::seconds(seconds))).await;
    }
    // Not expired, and at most 30 minutes left.
    scan(&bench.scanner, EARLY).await.unwrap();
    assert_eq!(bench.ids().await, [3, 4, 5, 6, 7, 8]);
    bench.execute("UPDATE token_refresh SET queued_until = NULL").await;
    // Expired, or at most 10 minutes left.
    scan(&bench.scanner, URGENT).await.unwrap();
    assert_eq!(bench.ids().await, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn pages_cover_everything_once_also_where_expiries_are_alike() {
    let bench = Bench::new(3).await;
    for id in 1..=20 {
        bench.add(id, Some(noon() + TimeDelta::seconds(60 + id / 7))).await;
    }
    for id in 21..=30 {
        bench.add(id, None).await;
    }
    let report = scan(&bench.scanner, URGENT).await.unwrap();
    assert_eq!((report.found, report.claimed, report.published), (30, 30, 30));
    assert_eq!(bench.ids().await, (1..=30).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_claim_holds_until_it_runs_out_and_the_message_names_the_generation() {
    let bench = Bench::new(10).await;
    bench.add(1, Some(noon() + TimeDelta::minutes(20))).await;
    assert_eq!(scan(&bench.scanner, EARLY).await.unwrap().published, 1);
    let message = bench.messages().await.remove(0);
    assert_eq!((message.generation, message.lane), (Generation::FIRST, Lane::Early));
    assert_eq!(message.due_at, noon() - TimeDelta::minutes(10));
    bench.clock.advance(TimeDelta::seconds(299));
    assert_eq!(scan(&bench.scanner, EARLY).await.unwrap().found, 0);
    bench.clock.advance(TimeDelta::seconds(1));
    bench.execute("UPDATE token_refresh SET generation = 4").await;
    assert_eq!(scan(&bench.scanner, EARLY).await.unwrap().published, 1);
    assert_eq!(bench.messages().await[0].generation, Generation(4));
}

#[tokio::test]
async fn a_connection_that_waits_is_left_to_the_retry_scan_and_one_without_a_next_attempt_to_a_person() {
    let bench = Bench::new(10).await;
    for id in 1..=6 {
        bench.add(id, Some(noon() + TimeDelta::minutes(5 * id))).await;
    }
    scan(&bench.scanner, EARLY).await.unwrap();
    bench.messages().await;
    bench.execute("UPDATE token_refresh SET queued_until = NULL").await;
    bench
        .execute(
            "UPDATE token_refresh SET next_attempt_at = '2026-11-21 12:00:10' WHERE connection_id IN (1, 4)",
        )
        .await;
    bench.execute("UPDATE token_refresh SET state = 'needs_reauth' WHERE connection_id = 2").await;
    bench.execute("UPDATE token_refresh SET state = 'quarantined', next_attempt_at = '2026-11-21 12:00:10' WHERE connection_id = 3").await;
    bench.execute("UPDATE token_refresh SET state = 'misconfigured' WHERE connection_id = 5").await;
    scan(&bench.scanner, EARLY).await.unwrap();
    assert_eq!(bench.ids().await, [5, 6]);
    assert_eq!(scan(&bench.scanner, Target::NextAttempts).await.unwrap().found, 0);
    bench.clock.advance(TimeDelta::seconds(10));
    scan(&bench.scanner, Target::NextAttempts).await.unwrap();
    let lanes: Vec<_> =
        bench.messages().await.iter().map(|message| (message.connection_id.0, message.lane)).collect();
    let expected = [(1, Lane::Urgent), (3, Lane::Early), (4, Lane::Early)];
    assert_eq!(lanes, expected, "each goes into the lane that would find it");
}

#[tokio::test]
async fn a_token_that_lives_long_is_due_by_its_plan_and_an_old_plan_says_nothing() {
    let bench = Bench::new(10).await;
    for id in 1..=4 {
        bench.add(id, Some(noon() + TimeDelta::minutes(5))).await;
    }
    scan(&bench.scanner, URGENT).await.unwrap();
    bench.messages().await;
    bench.execute("UPDATE ie_appinstall_connection SET accessTokenExpiryAt = '2026-11-27 12:00:00'").await;
    let sixty_days = "UPDATE token_refresh SET queued_until = NULL, lifetime_s = 5184000, refresh_at =";
    bench.execute(&format!("{sixty_days} '2026-11-21 12:00:00' WHERE connection_id = 1")).await;
    bench.execute(&format!("{sixty_days} '2026-11-21 12:00:01' WHERE connection_id = 2")).await;
    // Of a token before this one: it would have been planned for longer before its death than it lives.
    bench.execute(&format!("{sixty_days} '2026-09-01 12:00:00' WHERE connection_id = 3")).await;
    bench.execute(&format!("{sixty_days} NULL WHERE connection_id = 4")).await;
    assert_eq!(scan(&bench.scanner, URGENT).await.unwrap().found, 0);
    scan(&bench.scanner, EARLY).await.unwrap();
    assert_eq!(bench.ids().await, [1]);
}

#[tokio::test]
async fn a_plan_holds_no_token_back_that_somebody_else_stored() {
    let bench = Bench::new(10).await;
    for id in 1..=3 {
        bench.add(id, Some(noon() + TimeDelta::minutes(5))).await;
    }
    scan(&bench.scanner, URGENT).await.unwrap();
    bench.messages().await;
    // Planned for a token of 60 days, which died long after; the one that stands there dies seconds behind the plan.
    bench
        .execute(
            "UPDATE token_refresh SET queued_until = NULL, lifetime_s = 5184000, \
             refresh_at = '2026-11-21 12:04:57', noted_expiry = '2026-11-28 12:00:00'",
        )
        .await;
    // Another version wrote the second plan, and the third one is for the token that stands there.
    bench.execute("UPDATE token_refresh SET noted_expiry = NULL WHERE connection_id = 2").await;
    bench
        .execute("UPDATE token_refresh SET noted_expiry = '2026-11-21 12:05:00.6' WHERE connection_id = 3")
        .await;
    scan(&bench.scanner, URGENT).await.unwrap();
    assert_eq!(bench.ids().await, [1]);
    bench.clock.advance(TimeDelta::seconds(297));
    bench.execute("UPDATE token_refresh SET queued_until = NULL").await;
    scan(&bench.scanner, Target::NextAttempts).await.unwrap();
    assert_eq!(bench.ids().await, [2, 3], "the plan of the first says nothing");
}

#[tokio::test]
async fn an_unmonitored_connection_is_found_when_its_refresh_token_has_to_be_used_or_it_has_an_expiry() {
    let bench = Bench::new(10).await;
    for id in 1..=3 {
        bench.add(id, Some(noon() + TimeDelta::minutes(5))).await;
    }
    scan(&bench.scanner, URGENT).await.unwrap();
    bench.messages().await;
    bench.execute("UPDATE token_refresh SET queued_until = NULL, state = 'unmonitored'").await;
    bench.execute("UPDATE ie_appinstall_connection SET accessTokenExpiryAt = NULL WHERE id < 3").await;
    bench
        .execute("UPDATE token_refresh SET refresh_at = '2026-11-21 11:00:00' WHERE connection_id = 1")
        .await;
    scan(&bench.scanner, EARLY).await.unwrap();
    assert_eq!(bench.ids().await, [3, 1], "the third has an expiry by now, the first a plan");
    assert_eq!(scan(&bench.scanner, URGENT).await.unwrap().found, 0, "nobody knows when the second dies");
}

#[tokio::test]
async fn a_short_token_is_due_by_its_own_plan_unless_somebody_else_stored_a_shorter_one() {
    let bench = Bench::new(10).await;
    bench.add(1, Some(noon() + TimeDelta::minutes(9))).await;
    scan(&bench.scanner, URGENT).await.unwrap();
    bench.messages().await;
    bench.execute("UPDATE token_refresh SET queued_until = NULL, refresh_at = '2026-11-21 12:05:00'").await;
    assert_eq!(scan(&bench.scanner, URGENT).await.unwrap().found, 0);
    bench.execute("UPDATE ie_appinstall_connection SET accessTokenExpiryAt = '2026-11-21 12:04:00'").await;
    assert_eq!(scan(&bench.scanner, URGENT).await.unwrap().found, 1);
}

#[tokio::test]
async fn a_broker_that_refuses_ends_the_scan_and_what_was_refused_is_found_again() {
    let mut bench = Bench::new(4).await;
    for id in 1..=8 {
        bench.add(id, Some(noon() + TimeDelta::minutes(20))).await;
    }
    bench.scanner.publisher = Arc::new(Grudging(PublishError::Refused));
    let report = scan(&bench.scanner, EARLY).await.unwrap();
    assert_eq!(
        (report.found, report.published, report.unpublished),
        (4, 2, 2),
        "the second page was not begun"
    );
    bench.scanner.publisher = bench.queue.clone();
    scan(&bench.scanner, EARLY).await.unwrap();
    assert_eq!(bench.ids().await, [2, 4, 5, 6, 7, 8], "the refused at once, and the rest");
    bench.clock.advance(TimeDelta::minutes(5));
    assert_eq!(scan(&bench.scanner, EARLY).await.unwrap().published, 8, "all claims have run out");
}

#[tokio::test]
async fn what_is_in_no_queue_is_found_again_at_once_and_of_what_nobody_knows_the_claim_holds() {
    let problem = || String::from("away");
    let cases = [
        (PublishError::Refused, vec![2, 4]),
        (PublishError::Unroutable { routing_key: "shared.early".into() }, vec![2, 4]),
        (PublishError::NotSent { problem: problem() }, vec![2, 4]),
        (PublishError::QueueSilent { problem: problem(), is_sent: true }, vec![]),
        (PublishError::QueueSilent { problem: problem(), is_sent: false }, vec![2, 4]),
        (PublishError::Unconfirmed { problem: problem() }, vec![]),
    ];
    for (error, found_again) in cases {
        let mut bench = Bench::new(10).await;
        for id in 1..=4 {
            bench.add(id, Some(noon() + TimeDelta::minutes(20))).await;
        }
        bench.scanner.publisher = Arc::new(Grudging(error.clone()));
        let report = scan(&bench.scanner, EARLY).await.unwrap();
        assert_eq!((report.published, report.unpublished), (2, 2), "{error}");
        bench.scanner.publisher = bench.queue.clone();
        scan(&bench.scanner, EARLY).await.unwrap();
        assert_eq!(bench.ids().await, found_again, "{error}");
        bench.clock.advance(TimeDelta::minutes(5));
        assert_eq!(scan(&bench.scanner, EARLY).await.unwrap().published, 4, "{error}");
    }
}

#[tokio::test]
async fn nobody_gives_back_the_claim_of_another() {
    let bench = Bench::new(10).await;
    bench.add(1, Some(noon() + TimeDelta::minutes(20))).await;
    scan(&bench.scanner, EARLY).await.unwrap();
    bench.messages().await;
    bench.execute("UPDATE token_refresh SET claim_id = 7").await;
    bench.scanner.store.give_back(&[ConnectionId(1)], 8).await.unwrap();
    assert_eq!(scan(&bench.scanner, EARLY).await.unwrap().found, 0);
    bench.scanner.store.give_back(&[ConnectionId(1)], 7).await.unwrap();
    assert_eq!(scan(&bench.scanner, EARLY).await.unwrap().found, 1);
}

#[tokio::test]
async fn a_paused_provider_is_passed_over() {
    let bench = Bench::new(10).await;
    bench.add(1, Some(noon())).await;
    bench.execute("INSERT INTO provider_control (provider, paused) VALUES ('fynd', 1)").await;
    let report = scan(&bench.scanner, URGENT).await.unwrap();
    assert_eq!((report.found, report.paused_providers), (0, 1));
    bench.execute("UPDATE provider_control SET paused = 0").await;
    assert_eq!(scan(&bench.scanner, URGENT).await.unwrap().published, 1);
}

#[tokio::test]
async fn rows_that_cannot_be_read_are_counted_and_nothing_behind_them_is_passed_over() {
    let bench = Bench::new(2).await;
    for id in 1..=5 {
        bench.add(id, Some(noon() + TimeDelta::minutes(id))).await;
    }
    scan(&bench.scanner, URGENT).await.unwrap();
    bench.messages().await;
    bench.execute("UPDATE token_refresh SET queued_until = NULL").await;
    // A whole page of them comes first.
    bench.execute("UPDATE token_refresh SET generation = 'many' WHERE connection_id <= 2").await;
    let report = scan(&bench.scanner, URGENT).await.unwrap();
    assert_eq!((report.published, report.unreadable), (3, 2));
    assert_eq!(bench.ids().await, [3, 4, 5]);
}

#[tokio::test]
async fn an_expiry_means_the_same_however_it_is_spelt() {
    let bench = Bench::new(3).await;
    // All are 12:05, five minutes from now; in a zone of its own, too.
    let spellings = [
        "2026-11-21 12:05:00",
        "2026-11-21 12:05:00.000",
        "2026-11-21 12:05:00+00:00",
        "2026-11-21 12:05:00.000 +00:00",
        "2026-11-21T12:05:00Z",
        "2026-11-21T14:05:00+02:00",
    ];
    for (id, spelling) in (1..).zip(spellings) {
        bench.add(id, None).await;
        let update =
            format!("UPDATE ie_appinstall_connection SET accessTokenExpiryAt = '{spelling}' WHERE id = {id}");
        bench.execute(&update).await;
    }
    bench.add(7, Some(noon() + TimeDelta::minutes(11))).await;
    assert_eq!(scan(&bench.scanner, URGENT).await.unwrap().found, 6);
    let messages = bench.messages().await;
    assert_eq!(
        messages.iter().map(|message| message.connection_id.0).collect::<Vec<_>>(),
        [1, 2, 3, 4, 5, 6]
    );
    assert!(messages.iter().all(|message| message.due_at == noon() - TimeDelta::minutes(5)));
}

#[tokio::test]
async fn a_queue_that_refuses_does_not_keep_the_next_provider_from_its_scan() {
    let mut bench = Bench::new(10).await;
    let very = "[very]\nintegration_type = \"21\"";
    let settings = toml::from_str(very).unwrap();
    bench.scanner.providers = Providers::new(&[], &settings).unwrap();
    for id in 1..=4 {
        bench.add(id, Some(noon())).await;
    }
    bench.execute("UPDATE channels SET integrationType = '21' WHERE connectionId > 2").await;
    bench.scanner.publisher = Arc::new(Grudging(PublishError::Refused));
    let report = scan(&bench.scanner, URGENT).await.unwrap();
    assert_eq!((report.found, report.published, report.unpublished), (4, 2, 2));
}

#[tokio::test]
async fn a_claim_on_a_token_that_lives_for_minutes_is_short_and_names_the_generation_that_stands() {
    let bench = Bench::new(10).await;
    bench.add(1, Some(noon() + TimeDelta::minutes(2))).await;
    scan(&bench.scanner, URGENT).await.unwrap();
    bench.messages().await;
    bench.execute("UPDATE token_refresh SET queued_until = NULL, lifetime_s = 299, generation = 7").await;
    scan(&bench.scanner, URGENT).await.unwrap();
    assert_eq!(bench.messages().await[0].generation, Generation(7));
    bench.clock.advance(TimeDelta::seconds(74));
    assert_eq!(scan(&bench.scanner, URGENT).await.unwrap().claimed, 0);
    bench.clock.advance(TimeDelta::seconds(1));
    assert_eq!(
        scan(&bench.scanner, URGENT).await.unwrap().claimed,
        1,
        "a lost message is made up for in time"
    );
}

#[tokio::test]
async fn the_scan_for_next_attempts_finds_plans_whose_time_has_come() {
    let bench = Bench::new(10).await;
    bench.add(1, Some(noon() + TimeDelta::minutes(2))).await;
    scan(&bench.scanner, URGENT).await.unwrap();
    bench.messages().await;
    bench
        .execute("UPDATE token_refresh SET queued_until = NULL, lifetime_s = 180, refresh_at = '2026-11-21 12:01:10'")
        .await;
    assert_eq!(scan(&bench.scanner, Target::NextAttempts).await.unwrap().found, 0);
    bench.clock.advance(TimeDelta::seconds(70));
    assert_eq!(scan(&bench.scanner, Target::NextAttempts).await.unwrap().found, 1);
}

#[tokio::test]
async fn refresh_tokens_that_die_soon_are_named_those_with_the_least_time_first() {
    let bench = Bench::new(10).await;
    for id in 1..=4 {
        bench.add(id, Some(noon() + TimeDelta::minutes(5))).await;
    }
    scan(&bench.scanner, URGENT).await.unwrap();
    let ends = async |id: i64, at: &str| {
        let set =
            format!("UPDATE token_refresh SET refresh_token_expires_at = '{at}' WHERE connection_id = {id}");
        bench.execute(&set).await;
    };
    ends(1, "2026-11-24 12:00:00").await;
    ends(2, "2026-11-23 12:00:00").await;
    ends(3, "2026-11-21 11:59:00").await;
    ends(4, "2026-11-28 12:00:01").await;
    let soon = noon() + TimeDelta::days(7);
    let ending = crate::grants::ending_grants(&bench.scanner, noon(), soon).await.unwrap();
    assert_eq!(ending.len(), 1);
    assert_eq!((ending[0].provider.as_str(), ending[0].connections.as_slice()), ("fynd", [2, 1].as_slice()));
    assert_eq!(ending[0].first_at, noon() + TimeDelta::days(2));
}

/// A broker on which the queues of a lane do not answer; each message for them is waited for.
struct SilentLane {
    lane: Lane,
    queue: Arc<InProcessQueue>,
    waits: AtomicU32,
}

#[async_trait]
impl Publisher for SilentLane {
    async fn publish(&self, messages: &[Outgoing]) -> Vec<Result<(), PublishError>> {
        let is_silent = |outgoing: &&Outgoing| outgoing.message.lane == self.lane;
        self.waits
            .fetch_add(u32::from(messages.iter().any(|outgoing| is_silent(&outgoing))), Ordering::SeqCst);
        let taken: Vec<Outgoing> = messages.iter().filter(|outgoing| !is_silent(outgoing)).cloned().collect();
        self.queue.publish(&taken).await;
        let silent = || PublishError::QueueSilent { problem: "nothing within 10s".into(), is_sent: true };
        messages.iter().map(|outgoing| if is_silent(&outgoing) { Err(silent()) } else { Ok(()) }).collect()
    }
}

#[tokio::test]
async fn a_silent_queue_is_waited_for_once_in_a_scan_and_holds_up_no_other_lane_or_pool() {
    let mut bench = Bench::new(2).await;
    let very = "[very]\nintegration_type = \"21\"";
    bench.scanner.providers = Providers::new(&[], &toml::from_str(very).unwrap()).unwrap();
    // Of both providers, all of whose next attempts are due, the odd ones are urgent.
    for id in 1..=8 {
        bench.add(id, Some(noon() + TimeDelta::minutes(if id % 2 == 1 { 5 } else { 20 }))).await;
    }
    bench.execute("UPDATE channels SET integrationType = '21' WHERE connectionId > 4").await;
    scan(&bench.scanner, EARLY).await.unwrap();
    assert_eq!(bench.ids().await.len(), 8);
    bench
        .execute("UPDATE token_refresh SET queued_until = NULL, next_attempt_at = '2026-11-21 11:59:00'")
        .await;
    let broker = SilentLane { lane: Lane::Early, queue: bench.queue.clone(), waits: AtomicU32::new(0) };
    let broker = Arc::new(broker);
    bench.scanner.publisher = broker.clone();
    let report = scan(&bench.scanner, Target::NextAttempts).await.unwrap();
    assert_eq!((report.found, report.published, report.unpublished), (8, 4, 1));
    assert_eq!(bench.ids().await, [1, 3, 5, 7]);
    assert_eq!(broker.waits.load(Ordering::SeqCst), 1);
    // All but the one of which nobody knows are found as soon as it answers.
    bench.scanner.publisher = bench.queue.clone();
    scan(&bench.scanner, Target::NextAttempts).await.unwrap();
    assert_eq!(bench.ids().await, [4, 6, 8]);
    bench.clock.advance(TimeDelta::minutes(5));
    scan(&bench.scanner, Target::NextAttempts).await.unwrap();
    assert!(bench.ids().await.contains(&2));
}

#[tokio::test]
async fn a_lane_whose_queue_is_silent_is_left_and_the_other_pools_are_scanned() {
    let mut bench = Bench::new(2).await;
    let settings = toml::from_str("[very]\nintegration_type = \"21\"").unwrap();
    bench.scanner.providers = Providers::new(&[], &settings).unwrap();
    for id in 1..=6 {
        bench.add(id, Some(noon() + TimeDelta::minutes(20))).await;
    }
    bench.execute("UPDATE channels SET integrationType = '21' WHERE connectionId > 4").await;
    let broker = SilentLane { lane: Lane::Early, queue: bench.queue.clone(), waits: AtomicU32::new(0) };
    let broker = Arc::new(broker);
    bench.scanner.publisher = broker.clone();
    let report = scan(&bench.scanner, EARLY).await.unwrap();
    assert_eq!((report.claimed, report.published, report.unpublished), (2, 0, 2));
    assert_eq!(broker.waits.load(Ordering::SeqCst), 1, "both providers are of one pool");
    bench.scanner.publisher = bench.queue.clone();
    scan(&bench.scanner, EARLY).await.unwrap();
    assert_eq!(bench.ids().await, [3, 4, 5, 6]);
}
