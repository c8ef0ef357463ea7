//! A worker that is asked to end in the middle of its work.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use freshet_cli::simulator::{LedgerAnswer, Matcher, ScriptedAnswer};
use freshet_shared::domain::lane::Lane;
use freshet_tests::binaries::{Binary, Process};
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};
use freshet_tests::waiting::eventually;
use nix::sys::signal::Signal;
use sea_orm::{ConnectionTrait, TransactionTrait};

/// The marketplace takes this long: longer than a signal needs to arrive on a busy machine.
const SLOW: Duration = Duration::from_secs(4);

/// A worker with one slot that waits for the first of three answers.
async fn in_the_middle(fleet: &mut TestFleet, answer_after: Duration) -> Result<Process> {
    fleet.environment.insert("FRESHET_WORKER__CONCURRENCY".into(), "1".into());
    fleet.environment.insert("FRESHET_TELEMETRY__FILTER".into(), "info".into());
    fleet.add((1..=3).map(|id| NewConnection::very(id, 1_200))).await?;
    assert_eq!(fleet.scan(Lane::Early).await?.published, 3);
    fleet.marketplaces.script(Matcher::any(), [ScriptedAnswer::delay(answer_after)]);
    let worker = Binary::new("worker")?.arguments(["run"]).variables(&fleet.environment).start()?;
    eventually("a call is in flight", PATIENCE, async || {
        ensure!(!fleet.marketplaces.ledger().is_empty(), "the worker says:\n{}", worker.stderr());
        Ok(())
    })
    .await?;
    Ok(worker)
}

/// The connection whose call came first.
async fn first(fleet: &TestFleet) -> Result<i64> {
    let account = fleet.marketplaces.ledger().first().and_then(|entry| entry.account.clone());
    let account = account.context("no call")?;
    Ok(account.strip_prefix("client ").context("the account of no connection")?.parse()?)
}

/// What is left in the queue is handled by the next worker.
async fn finish(fleet: TestFleet, left: u32) -> Result<()> {
    eventually("messages are back in their queue", PATIENCE, async || {
        let ready: u32 = fleet.vhost.all_ready_messages().await?.values().sum();
        ensure!(ready == left, "{ready} are, not {left}");
        Ok(())
    })
    .await?;
    let next = fleet.worker().await?;
    next.until_handled(left as usize, PATIENCE).await?;
    next.stop().await?;
    for id in 1..=3 {
        assert_eq!(fleet.stored(id).await?.generation(), 1, "connection {id}");
    }
    fleet.dissolve().await
}

#[tokio::test]
async fn sigterm_lets_the_call_in_flight_finish_and_gives_back_what_was_not_begun() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    let mut worker = in_the_middle(&mut fleet, SLOW).await?;
    worker.signal(Signal::SIGTERM)?;
    worker.until_it_says("stopping", PATIENCE).await?;
    let ledger = fleet.marketplaces.ledger();
    assert!(ledger.len() == 1 && ledger[0].answer == LedgerAnswer::Pending, "the call is still in flight");
    let begun = first(&fleet).await?;
    let ended = worker.ended(PATIENCE).await?.with_code(0)?;
    assert!(!ended.stderr.contains("grace period over"), "{}", ended.stderr);

    for id in 1..=3 {
        assert_eq!(fleet.stored(id).await?.generation(), i64::from(id == begun), "connection {id}");
    }
    let token = fleet.stored(begun).await?.access_token.context("no token")?;
    assert_eq!(fleet.cache().await?[&format!("connectionAccessToken_{begun}")].value, token);
    assert_eq!(fleet.marketplaces.ledger().len(), 1, "nothing was begun after the signal");
    finish(fleet, 2).await
}

#[tokio::test]
async fn when_the_grace_period_is_over_the_message_comes_again_and_the_exit_code_says_so() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    fleet.environment.insert("FRESHET_WORKER__SHUTDOWN_GRACE".into(), "100ms".into());
    let worker = in_the_middle(&mut fleet, SLOW).await?;
    let ended = worker.terminate(SLOW).await?.with_code(1)?;
    assert!(ended.stderr.contains("grace period over"), "{}", ended.stderr);
    finish(fleet, 3).await
}

#[tokio::test]
async fn a_second_signal_ends_at_once() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    let mut worker = in_the_middle(&mut fleet, SLOW).await?;
    worker.signal(Signal::SIGINT)?;
    worker.until_it_says("stopping", PATIENCE).await?;
    let ended = worker.terminate(PATIENCE).await?.with_code(130)?;
    assert!(ended.took < SLOW, "it took {:?}", ended.took);
    finish(fleet, 3).await
}

#[tokio::test]
async fn a_second_signal_ends_a_producer_in_the_middle_of_a_scan_at_once() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    fleet.environment.insert("FRESHET_SCAN__RETRY_EVERY".into(), "200ms".into());
    fleet.environment.insert("FRESHET_TELEMETRY__FILTER".into(), "info".into());
    let mut producer = Binary::new("producer")?.arguments(["run"]).variables(&fleet.environment).start()?;
    producer.until_it_says("this producer leads and scans", PATIENCE).await?;
    // Of this session alone, for as long as the transaction is open.
    let somebody = fleet.store.connection().begin().await?;
    somebody
        .execute_unprepared("LOCK TABLES ie_appinstall_connection WRITE, channels WRITE, token_refresh WRITE")
        .await?;
    let waiting = format!(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE db = '{}' AND state LIKE 'Waiting for table%'",
        fleet.database.name()
    );
    eventually("a scan waits", PATIENCE, async || {
        ensure!(fleet.number(&waiting).await? > 0, "it does not:\n{}", producer.stderr());
        Ok(())
    })
    .await?;
    producer.signal(Signal::SIGTERM)?;
    producer.until_it_says("stopping", PATIENCE).await?;
    let ended = producer.terminate(PATIENCE).await?.with_code(130)?;
    assert!(ended.took < SLOW, "it took {:?}", ended.took);
    somebody.execute_unprepared("UNLOCK TABLES").await?;
    somebody.rollback().await?;
    fleet.dissolve().await
}

#[tokio::test]
async fn under_load_no_message_of_a_job_that_was_finished_comes_back() -> Result<()> {
    const CONNECTIONS: i64 = 1_500;
    let mut fleet = TestFleet::found().await?;
    fleet.environment.insert("FRESHET_TELEMETRY__FILTER".into(), "info".into());
    fleet.add((1..=CONNECTIONS).map(|id| NewConnection::fynd(id, 300))).await?;
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, CONNECTIONS as u64);
    let worker = Binary::new("worker")?.arguments(["run"]).variables(&fleet.environment).start()?;
    eventually("the worker is in the middle of it", PATIENCE, async || {
        let calls = fleet.marketplaces.ledger().len();
        ensure!(calls > 600, "{calls} calls; the worker says:\n{}", worker.stderr());
        Ok(())
    })
    .await?;
    worker.signal(Signal::SIGTERM)?;
    let ended = worker.ended(PATIENCE).await?.with_code(0)?;
    assert!(!ended.stderr.contains("may come again"), "{}", ended.stderr);
    let mut not_refreshed = 0;
    for id in 1..=CONNECTIONS {
        not_refreshed += u32::from(fleet.stored(id).await?.generation() == 0);
    }
    eventually("what was not begun is back in its queue, and nothing else", PATIENCE, async || {
        let ready: u32 = fleet.vhost.all_ready_messages().await?.values().sum();
        ensure!(ready == not_refreshed, "{ready} messages for {not_refreshed} connections");
        Ok(())
    })
    .await?;
    assert!(
        i64::from(not_refreshed) < CONNECTIONS - 300,
        "{not_refreshed} are left: calls were not finished"
    );
    let next = fleet.worker().await?;
    next.until_handled(not_refreshed as usize, PATIENCE).await?;
    next.stop().await?;
    fleet.dissolve().await
}
