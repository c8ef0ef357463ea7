//! One refresh, one stored effect: whatever comes twice, in between, or not at all.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fred::prelude::{Builder, Client, ClientLike, Config, KeysInterface};
use freshet_cli::simulator::{Matcher, Provider, Reply, ScriptedAnswer, StatusCode};
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::outcome::{Cached, Outcome, Skip};
use freshet_tests::fleet::{NewConnection, PATIENCE, RunningWorker, TestFleet};
use freshet_tests::services::Redis;
use freshet_tests::waiting::eventually;

/// Long enough for a test to do something meanwhile, on a machine that does everything at once.
const SLOW: Duration = Duration::from_secs(4);

/// Asks for the connection's token are answered slowly.
fn slow(fleet: &TestFleet, times: usize) {
    let answers = std::iter::repeat_n(ScriptedAnswer::delay(SLOW), times);
    fleet.marketplaces.script(Matcher::provider(Provider::Fynd), answers);
}

#[tokio::test]
async fn a_message_that_comes_again_after_the_commit_only_writes_the_cache() -> Result<()> {
    for lane in Lane::ALL {
        let fleet = TestFleet::found().await?;
        fleet.add([NewConnection::fynd(1, 300)]).await?;
        assert_eq!(fleet.scan(Lane::Urgent).await?.published, 1);
        fleet.work_off(1).await?;
        let stored = fleet.stored(1).await?;
        let calls = fleet.calls();
        let token = stored.access_token.clone().context("no token")?;

        // A worker died between commit and cache, and took the cache's memory of the generation with it.
        let gone = ["connectionAccessToken_1", "freshet:generation:1"]
            .map(|name| format!("{}{name}", fleet.keys.prefix()));
        assert_eq!(fleet.keys.client().del::<i64, _>(gone.to_vec()).await?, 2);
        fleet.publish_message(lane, 1, 0).await?;
        let reports = fleet.work_off(1).await?;
        assert_eq!(reports[0].outcome, Outcome::Skipped(Skip::GenerationMovedOn), "{lane}");
        let entry = fleet.cache().await?["connectionAccessToken_1"].clone();
        assert_eq!(entry.value, token);
        assert!(entry.time_to_live.is_some());
        assert_eq!(fleet.stored(1).await?, stored, "{lane}");
        assert_eq!(fleet.calls(), calls, "{lane}");
        fleet.dissolve().await?;
    }
    Ok(())
}

#[tokio::test]
async fn of_two_copies_at_two_workers_one_waits_for_nothing() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    // One at a time, so that a busy worker leaves the other copy to the other worker.
    fleet.environment.insert("FRESHET_WORKER__CONCURRENCY".into(), "1".into());
    let workers = [fleet.worker().await?, fleet.worker().await?];
    let outcomes = handle_two_copies(&fleet, &workers, 1).await?;
    assert_eq!(outcomes, ["refreshed", "skipped"]);
    assert_eq!(fleet.token_requests().len(), 1);
    for worker in workers {
        worker.stop().await?;
    }
    fleet.dissolve().await
}

/// The marks of work in flight only save calls. Here the workers do not see each other's, and the fence alone decides.
#[tokio::test]
async fn of_two_copies_that_both_ask_one_is_stored() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    fleet.environment.insert("FRESHET_WORKER__CONCURRENCY".into(), "1".into());
    let one = fleet.worker().await?;
    let elsewhere = format!("{}elsewhere:", fleet.keys.prefix());
    fleet.environment.insert("FRESHET_REDIS__KEY_PREFIX".into(), elsewhere);
    let workers = [one, fleet.worker().await?];
    let outcomes = handle_two_copies(&fleet, &workers, 2).await?;
    assert_eq!(outcomes, ["refreshed", "stale"]);
    assert_eq!(fleet.token_requests().len(), 2);
    for worker in workers {
        worker.stop().await?;
    }
    let token = fleet.stored(1).await?.access_token.context("no token")?;
    let cache = fleet.cache().await?;
    for key in ["connectionAccessToken_1", "elsewhere:connectionAccessToken_1"] {
        assert_eq!(cache[key].value, token, "the loser caches the winner's token");
    }
    fleet.dissolve().await
}

/// Publishes two copies to workers that are ready, and answers the outcomes in alphabetical order.
async fn handle_two_copies(
    fleet: &TestFleet,
    workers: &[RunningWorker; 2],
    calls: usize,
) -> Result<Vec<&'static str>> {
    fleet.add([NewConnection::fynd(1, 1_500)]).await?;
    // Enrolled by a scan whose message is the first copy.
    fleet.until_consuming(&workers.each_ref()).await?;
    slow(fleet, calls);
    assert_eq!(fleet.scan(Lane::Early).await?.published, 1);
    fleet.publish_message(Lane::Early, 1, 0).await?;
    let outcomes = || {
        let reports = workers.iter().flat_map(RunningWorker::reports);
        let about_it = reports.filter(|report| report.connection_id.is_some_and(|id| id.0 == 1));
        about_it.map(|report| report.outcome.as_str()).collect::<Vec<_>>()
    };
    eventually("both copies are handled", PATIENCE, async || {
        ensure!(outcomes().len() == 2, "{:?}", outcomes());
        Ok(())
    })
    .await?;
    let stored = fleet.stored(1).await?;
    assert_eq!(stored.generation(), 1, "one effect");
    let token = stored.access_token.context("no token")?;
    let issued = fleet.token_requests().iter().filter(|entry| entry.issued() == Some(&token)).count();
    assert_eq!(issued, 1, "it is a token of the provider's");
    let mut outcomes = outcomes();
    outcomes.sort_unstable();
    Ok(outcomes)
}

#[tokio::test]
async fn a_merchant_who_reconnects_meanwhile_wins() -> Result<()> {
    let fleet = TestFleet::found().await?;
    fleet
        .add([
            NewConnection::fynd(1, 300),
            NewConnection { expires_in: None, ..NewConnection::fynd(2, 0) },
            NewConnection::fynd(3, 1_500),
        ])
        .await?;
    slow(&fleet, 3);
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, 2);
    assert_eq!(fleet.scan(Lane::Early).await?.published, 1);
    let worker = fleet.worker().await?;
    fleet.until_pending(3).await?;
    reconnect(&fleet, 3).await?;
    let mut reconnected = Vec::new();
    for id in 1..=3 {
        reconnected.push(fleet.stored(id).await?);
    }
    worker.until_handled(3, PATIENCE).await?;
    assert_eq!(worker.outcomes(), ["stale"; 3]);
    worker.stop().await?;
    let cache = fleet.cache().await?;
    for (id, reconnected) in (1..).zip(reconnected) {
        let stored = fleet.stored(id).await?;
        assert_eq!(stored, reconnected, "neither token nor generation nor failures are touched");
        assert_eq!((stored.access_token.as_deref(), stored.generation()), (Some("reconnected"), 0));
        assert_eq!(cache[&format!("connectionAccessToken_{id}")].value, "reconnected", "connection {id}");
    }
    for lane in Lane::ALL {
        assert_eq!(fleet.scan(lane).await?.found, 0, "they are fresh");
    }
    fleet.dissolve().await
}

#[tokio::test]
async fn a_merchant_whose_access_token_alone_is_another_wins_too() -> Result<()> {
    let fleet = TestFleet::found().await?;
    fleet.add([NewConnection::fynd(1, 1_500)]).await?;
    slow(&fleet, 1);
    assert_eq!(fleet.scan(Lane::Early).await?.published, 1);
    let worker = fleet.worker().await?;
    fleet.until_pending(1).await?;
    fleet.execute("UPDATE ie_appinstall_connection SET accessToken = UPPER(accessToken)", []).await?;
    ensure!(fleet.pending_token_requests() == 1, "the machine is too slow for this test");
    let reconnected = fleet.stored(1).await?;
    worker.until_handled(1, PATIENCE).await?;
    assert_eq!(worker.outcomes(), ["stale"]);
    worker.stop().await?;
    assert_eq!(fleet.stored(1).await?, reconnected);
    let cached = fleet.cache().await?["connectionAccessToken_1"].value.clone();
    assert_eq!(Some(cached), reconnected.access_token);
    fleet.dissolve().await
}

#[tokio::test]
async fn a_merchant_who_reconnects_while_the_refresh_fails_stays_readable() -> Result<()> {
    let fleet = TestFleet::found().await?;
    fleet.add([NewConnection::fynd(1, 300)]).await?;
    let refusal = ScriptedAnswer::from(Reply::html(StatusCode::INTERNAL_SERVER_ERROR, "oops")).after(SLOW);
    fleet.marketplaces.script(Matcher::provider(Provider::Fynd), [refusal]);
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, 1);
    let worker = fleet.worker().await?;
    fleet.until_pending(1).await?;
    reconnect(&fleet, 1).await?;
    worker.until_handled(1, PATIENCE).await?;
    assert_eq!(worker.outcomes(), ["failed"]);
    worker.stop().await?;
    assert_eq!(fleet.cache().await?["connectionAccessToken_1"].value, "reconnected");

    // The next attempt finds nothing to do.
    fleet.let_next_attempts_come().await?;
    assert_eq!(fleet.retry_scan().await?.published, 1);
    assert_eq!(fleet.work_off(1).await?[0].outcome, Outcome::Skipped(Skip::AlreadyFresh));
    let stored = fleet.stored(1).await?;
    assert_eq!(stored.access_token.as_deref(), Some("reconnected"));
    assert_eq!(stored.ours.context("not enrolled")?.next_attempt_at, None);
    assert_eq!(fleet.token_requests().len(), 1);
    fleet.dissolve().await
}

/// What the platform does when merchants authorise anew, here while the calls for all connections are under way.
async fn reconnect(fleet: &TestFleet, calls: usize) -> Result<()> {
    fleet
        .execute(
            "UPDATE ie_appinstall_connection SET accessToken = 'reconnected', refreshToken = 'new', \
             accessTokenGeneratedOn = UTC_TIMESTAMP(), \
             accessTokenExpiryAt = UTC_TIMESTAMP() + INTERVAL 50 MINUTE",
            [],
        )
        .await?;
    ensure!(fleet.pending_token_requests() == calls, "the machine is too slow for this test");
    Ok(())
}

#[tokio::test]
async fn a_cache_that_is_away_during_the_commit_is_written_later_without_a_call() -> Result<()> {
    if !Redis::is_installed() {
        return Ok(());
    }
    let mut redis = Redis::start().await?;
    let mut fleet = TestFleet::found().await?;
    fleet.environment.insert("FRESHET_REDIS__URL".into(), redis.url());
    fleet.environment.insert("FRESHET_REDIS__COMMAND_TIMEOUT".into(), "500ms".into());
    fleet.add([NewConnection::fynd(1, 1_500)]).await?;
    slow(&fleet, 1);
    assert_eq!(fleet.scan(Lane::Early).await?.published, 1);
    let worker = fleet.worker().await?;
    fleet.until_pending(1).await?;
    redis.kill()?;
    worker.until_handled(1, PATIENCE).await?;
    let report = worker.reports().remove(0);
    let Outcome::Refreshed(refreshed) = report.outcome else { anyhow::bail!("{report:?}") };
    assert_eq!((refreshed.generation.0, refreshed.cached), (1, Cached::Failed));
    worker.stop().await?;
    let stored = fleet.stored(1).await?;
    let ours = stored.ours.clone().context("not enrolled")?;
    assert_eq!((ours.generation, ours.failures, ours.failure_class, ours.queued_until), (1, 0, None, None));
    assert!(ours.next_attempt_at.is_some(), "a repair is planned");

    redis.restart().await?;
    let client = connect(&redis.url()).await?;
    let key = format!("{}connectionAccessToken_1", fleet.keys.prefix());
    assert_eq!(client.get::<Option<String>, _>(&key).await?, None);
    fleet.let_next_attempts_come().await?;
    assert_eq!(fleet.retry_scan().await?.published, 1);
    let reports = fleet.work_off(1).await?;
    assert_eq!(reports[0].outcome, Outcome::Skipped(Skip::AlreadyFresh));
    assert_eq!(client.get::<Option<String>, _>(&key).await?, stored.access_token);
    assert_eq!(fleet.token_requests().len(), 1, "nothing was asked for");
    let after = fleet.stored(1).await?;
    assert_eq!((&after.access_token, after.expires_at), (&stored.access_token, stored.expires_at));
    let ours = after.ours.context("not enrolled")?;
    assert_eq!((ours.generation, ours.next_attempt_at, ours.queued_until), (1, None, None));
    assert_eq!(fleet.retry_scan().await?.found, 0);
    client.quit().await?;
    fleet.dissolve().await?;
    redis.stop().await
}

async fn connect(url: &str) -> Result<Client> {
    let client = Builder::from_config(Config::from_url(url)?).build()?;
    client.init().await?;
    Ok(client)
}
