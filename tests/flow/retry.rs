//! A failure that passes: the row says when to try again, and nobody tries before.

use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{DateTime, TimeDelta, Utc};
use freshet_cli::simulator::{HeaderValue, LedgerAnswer, Matcher, Reply, ScriptedAnswer, StatusCode, header};
use freshet_shared::domain::lane::Lane;
use freshet_tests::fleet::{Fields, NewConnection, PATIENCE, TestFleet, now};
use tokio::net::TcpSocket;

/// Expire early and urgently, by their ids.
const EXPIRES_IN: [(i64, i64); 2] = [(1, 1_500), (2, 300)];

#[tokio::test]
async fn a_waiting_time_in_seconds_is_kept() -> Result<()> {
    let fleet = TestFleet::found().await?;
    let next = after_rate_limit(&fleet, "100").await?;
    assert_waits(next, TimeDelta::seconds(100));
    fleet.dissolve().await
}

#[tokio::test]
async fn a_waiting_time_until_a_date_is_kept() -> Result<()> {
    let fleet = TestFleet::found().await?;
    let until = now() + TimeDelta::seconds(200);
    let next = after_rate_limit(&fleet, &until.format("%a, %d %b %Y %H:%M:%S GMT").to_string()).await?;
    for next in next {
        // A date in HTTP has whole seconds, so it is up to one short; and all who were told the same are spread.
        assert!(next > until - TimeDelta::seconds(2) && next <= until + TimeDelta::seconds(3), "{next}");
    }
    fleet.dissolve().await
}

#[tokio::test]
async fn a_waiting_time_of_a_day_is_clamped() -> Result<()> {
    let fleet = TestFleet::found().await?;
    let next = after_rate_limit(&fleet, "86400").await?;
    assert_waits(next, TimeDelta::minutes(5));
    fleet.dissolve().await
}

fn assert_waits(next: Vec<DateTime<Utc>>, wait: TimeDelta) {
    for next in next {
        let left = next - now();
        assert!(left <= wait + TimeDelta::seconds(3) && left > wait - TimeDelta::seconds(60), "{left}");
    }
}

/// Both connections meet a 429 with this `Retry-After`; answers their next attempts, after they have been let come.
async fn after_rate_limit(fleet: &TestFleet, retry_after: &str) -> Result<Vec<DateTime<Utc>>> {
    let reply = Reply::json(StatusCode::TOO_MANY_REQUESTS, r#"{"message":"slow down"}"#)
        .with(header::RETRY_AFTER, HeaderValue::from_str(retry_after)?);
    let failed = fail(fleet, reply.into()).await?;
    let mut next = Vec::new();
    for ours in &failed {
        assert_eq!(ours.failure_class.as_deref(), Some("rate_limited"));
        assert_eq!(ours.failure_detail.as_deref(), Some("the provider answered 429: we ask again later"));
        next.push(ours.next_attempt_at.context("no next attempt")?);
    }
    succeed(fleet).await?;
    Ok(next)
}

#[tokio::test]
async fn a_failing_provider_is_asked_again_after_a_short_wait() -> Result<()> {
    let fleet = TestFleet::found().await?;
    let started = now();
    let reply = Reply::html(StatusCode::INTERNAL_SERVER_ERROR, "<h1>oops</h1>");
    for ours in fail(&fleet, reply.into()).await? {
        assert_eq!(ours.failure_class.as_deref(), Some("server_error"));
        assert_eq!(ours.failure_detail.as_deref(), Some("the provider answered 500: we ask again later"));
        let next = ours.next_attempt_at.context("no next attempt")?;
        // The first wait is short: two to four seconds.
        assert!(next >= started + TimeDelta::seconds(2) && next <= now() + TimeDelta::seconds(4), "{next}");
    }
    succeed(&fleet).await?;
    fleet.dissolve().await
}

#[tokio::test]
async fn a_request_whose_connection_is_reset_is_sent_once_per_attempt() -> Result<()> {
    let fleet = TestFleet::found().await?;
    for ours in fail(&fleet, ScriptedAnswer::Reset).await? {
        assert_eq!(ours.failure_class.as_deref(), Some("answer_lost"));
        let detail = ours.failure_detail.context("no detail")?;
        assert!(detail.contains("the connection ended before the answer came"), "{detail}");
        // The template stands for the URL.
        assert!(detail.contains("{input.aggregator}") && !detail.contains("location"), "{detail}");
    }
    let answers: Vec<_> = fleet.token_requests().into_iter().map(|entry| entry.answer).collect();
    assert!(answers == [LedgerAnswer::Reset, LedgerAnswer::Reset], "{answers:?}");
    succeed(&fleet).await?;
    assert_eq!(fleet.token_requests().len(), 4);
    fleet.dissolve().await
}

#[tokio::test]
async fn an_answer_that_takes_too_long_is_lost() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    fleet.environment.insert("FRESHET_CALL__CONNECT_TIMEOUT".into(), "500ms".into());
    fleet.environment.insert("FRESHET_CALL__TIMEOUT".into(), "2s".into());
    for ours in fail(&fleet, ScriptedAnswer::delay(Duration::from_secs(600))).await? {
        assert_eq!(ours.failure_class.as_deref(), Some("answer_lost"));
        let detail = ours.failure_detail.context("no detail")?;
        assert!(detail.contains("the time for the call was over"), "{detail}");
    }
    succeed(&fleet).await?;
    fleet.dissolve().await
}

#[tokio::test]
async fn a_provider_that_does_not_listen_is_a_network_failure() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    // Bound and not listening: the port is nobody else's, and refuses.
    let closed = TcpSocket::new_v4()?;
    closed.bind("127.0.0.1:0".parse()?)?;
    let variable = "FRESHET_PROVIDERS__FYND__ENVIRONMENTS__PRODUCTION__OMS_HOST";
    let url = format!("http://{}/hogwarts", closed.local_addr()?);
    let good = fleet.environment.insert(variable.into(), url).context("the host is not set")?;
    add(&fleet).await?;
    for ours in work_in_vain(&fleet).await? {
        assert_eq!(ours.failure_class.as_deref(), Some("network"));
        let detail = ours.failure_detail.context("no detail")?;
        assert!(detail.contains("no connection to {environment.oms_host}"), "{detail}");
    }
    assert_eq!(fleet.token_requests().len(), 0);
    fleet.environment.insert(variable.into(), good);
    succeed(&fleet).await?;
    fleet.dissolve().await
}

async fn add(fleet: &TestFleet) -> Result<()> {
    fleet.add(EXPIRES_IN.map(|(id, expires_in)| NewConnection::fynd(id, expires_in))).await
}

/// Both connections meet this answer at their first attempt.
async fn fail(fleet: &TestFleet, answer: ScriptedAnswer) -> Result<Vec<Fields>> {
    add(fleet).await?;
    for (id, _) in EXPIRES_IN {
        fleet.marketplaces.script(Matcher::any().account(format!("location&{id}")), [answer.clone()]);
    }
    work_in_vain(fleet).await
}

/// A first attempt that fails in both lanes, after which no scan finds the connections.
async fn work_in_vain(fleet: &TestFleet) -> Result<Vec<Fields>> {
    for lane in Lane::ALL {
        assert_eq!(fleet.scan(lane).await?.published, 1);
    }
    let worker = fleet.worker().await?;
    worker.until_handled(2, PATIENCE).await?;
    assert_eq!(worker.outcomes(), ["failed"; 2]);
    worker.stop().await?;
    // Far from now whatever it is, so that a slow machine does not come upon it.
    let plan = "UPDATE token_refresh SET next_attempt_at = next_attempt_at + INTERVAL ? SECOND";
    let mut failed = Vec::new();
    for (id, _) in EXPIRES_IN {
        let stored = fleet.stored(id).await?;
        assert_eq!(stored.access_token, Some(format!("old-{id}")));
        let ours = stored.ours.context("not enrolled")?;
        assert_eq!((ours.generation, ours.failures, ours.state.as_str()), (0, 1, "active"));
        assert_eq!(ours.queued_until, None, "its claim has ended");
        failed.push(ours);
    }
    fleet.execute(plan, [600.into()]).await?;
    for lane in Lane::ALL {
        assert_eq!(fleet.scan(lane).await?.found, 0, "{lane}");
    }
    assert_eq!(fleet.retry_scan().await?.found, 0);
    fleet.execute(plan, [(-600).into()]).await?;
    Ok(failed)
}

/// The time comes, the retry scan alone finds both, and success clears what was written down.
async fn succeed(fleet: &TestFleet) -> Result<()> {
    fleet.let_next_attempts_come().await?;
    let report = fleet.retry_scan().await?;
    assert_eq!((report.found, report.published), (2, 2));
    assert_eq!(fleet.retry_scan().await?.found, 0, "they are queued");
    let reports = fleet.work_off(2).await?;
    assert!(reports.iter().all(|report| report.outcome.as_str() == "refreshed"), "{reports:?}");
    let mut lanes: Vec<_> = reports.iter().map(|report| report.lane).collect();
    lanes.sort();
    assert_eq!(lanes, Lane::ALL, "each went in the lane of its expiry");
    for (id, _) in EXPIRES_IN {
        let stored = fleet.stored(id).await?;
        assert_eq!(
            stored.access_token.as_ref(),
            Some(&fleet.cache().await?[&format!("connectionAccessToken_{id}")].value)
        );
        let expected = Fields {
            generation: 1,
            state: "active".into(),
            next_attempt_at: None,
            queued_until: None,
            failures: 0,
            failure_class: None,
            failure_detail: None,
        };
        assert_eq!(stored.ours, Some(expected));
    }
    Ok(())
}
