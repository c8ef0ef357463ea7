//! The small installation: `freshet dev --config` keeps an SQLite file fresh, without RabbitMQ and Redis.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::TimeDelta;
use freshet_cli::simulator::{Matcher, Reply, ScriptedAnswer, StatusCode};
use freshet_tests::binaries::{Binary, Ended, PATIENCE, TestFolder};
use freshet_tests::fleet::{FYND, fynd_input, now};
use freshet_tests::waiting::eventually;
use nix::sys::signal::Signal;
use serde_json::Value;

use super::file::Installation;

#[tokio::test]
async fn the_rows_of_the_file_that_are_due_are_refreshed() -> Result<()> {
    let installation = Installation::new().await?;
    installation.add_fynd(1, TimeDelta::minutes(5)).await?;
    installation.add_very(2, TimeDelta::minutes(20)).await?;
    installation.add_very(3, TimeDelta::hours(-1)).await?;
    installation.add_fynd(4, TimeDelta::minutes(50)).await?;
    let ended =
        installation.dev()?.arguments(["--duration", "3s", "--report", "json"]).run().await?.with_code(0)?;
    let report: Value = serde_json::from_str(ended.stdout.trim())?;
    assert_eq!(
        (&report["connections"], &report["refreshed"], &report["expired_now"]),
        (&4.into(), &3.into(), &0.into())
    );
    for id in 1..=3 {
        let stored = installation.stored(id).await?;
        assert_ne!(stored.token, format!("old-{id}"));
        assert!(stored.expires_at - now() > TimeDelta::minutes(58), "connection {id}: {}", stored.expires_at);
    }
    assert_eq!(installation.stored(4).await?.token, "old-4");
    assert_eq!(installation.marketplaces.ledger().len(), 3);

    // A second run finds nothing to do and may be asked to end.
    let mut again = installation.dev()?.start()?;
    again.until_it_says("connections 4 · fresh 4", PATIENCE).await?;
    let ended = again.terminate(PATIENCE).await?.with_code(0)?;
    assert!(ended.stdout.ends_with("No token expired while its provider answered.\n"), "{}", ended.stdout);
    assert_eq!(installation.marketplaces.ledger().len(), 3);
    Ok(())
}

/// Lets a token expire while it runs, and asks it to end.
async fn expiring(installation: &Installation, input: String) -> Result<Ended> {
    let mut running = installation.dev()?.arguments(["--report", "json"]).start()?;
    running.until_it_says("connections 1 · fresh 1", PATIENCE).await?;
    installation.add(2, FYND, TimeDelta::seconds(1), input).await?;
    eventually("the token has expired and its refresh has failed", PATIENCE, async || {
        let expires_at = installation.stored(2).await?.expires_at;
        ensure!(expires_at < now(), "it expires at {expires_at}");
        ensure!(running.stderr().contains("refresh failed"), "it says:\n{}", running.stderr());
        Ok(())
    })
    .await?;
    running.signal(Signal::SIGINT)?;
    running.ended(PATIENCE).await
}

fn expired(ended: &Ended) -> Result<(u64, u64)> {
    let report: Value = serde_json::from_str(ended.stdout.trim()).with_context(|| ended.stdout.clone())?;
    let number = |name: &str| report[name].as_u64().with_context(|| format!("no {name} in {report}"));
    Ok((number("expired_now")?, number("expired_while_provider_answered")?))
}

#[tokio::test]
async fn a_token_that_expires_although_its_provider_answers_makes_the_exit_code_1() -> Result<()> {
    let installation = Installation::new().await?;
    installation.add_fynd(1, TimeDelta::minutes(50)).await?;
    let ended = expiring(&installation, "{\"x-integration-id\": ".into()).await?.with_code(1)?;
    assert_eq!(expired(&ended)?, (1, 1));
    assert_eq!(installation.stored(2).await?.token, "old-2");
    Ok(())
}

#[tokio::test]
async fn a_token_that_expires_because_its_provider_is_down_does_not() -> Result<()> {
    let installation = Installation::new().await?;
    installation.add_fynd(1, TimeDelta::minutes(50)).await?;
    let down = || Reply::html(StatusCode::SERVICE_UNAVAILABLE, "<h1>away</h1>").into();
    installation.marketplaces.script(Matcher::any(), (0..100).map(|_| down()));
    let ended = expiring(&installation, fynd_input(2).to_string()).await?.with_code(0)?;
    assert_eq!(expired(&ended)?, (1, 0));
    Ok(())
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once_with_a_call_in_flight() -> Result<()> {
    /// Longer than a signal needs to arrive on a busy machine.
    const SLOW: Duration = Duration::from_secs(4);
    let installation = Installation::new().await?;
    installation.marketplaces.script(Matcher::any(), [ScriptedAnswer::delay(SLOW)]);
    installation.add_very(1, TimeDelta::minutes(5)).await?;
    let mut dev = installation.dev()?.variable("FRESHET_TELEMETRY__FILTER", "info").start()?;
    eventually("a call is in flight", PATIENCE, async || {
        ensure!(!installation.marketplaces.ledger().is_empty(), "it says:\n{}", dev.stderr());
        Ok(())
    })
    .await?;
    dev.signal(Signal::SIGINT)?;
    dev.until_it_says("stopping", PATIENCE).await?;
    let ended = dev.terminate(PATIENCE).await?.with_code(130)?;
    assert!(ended.took < SLOW, "it took {:?}", ended.took);
    assert_eq!(ended.stdout, "", "it reports nothing");
    Ok(())
}

#[tokio::test]
async fn what_does_not_go_with_a_file_is_refused() -> Result<()> {
    let folder = TestFolder::create()?;
    let sqlite = folder.write("sqlite.toml", "[database]\nurl = \"sqlite://nowhere.db\"\n")?;
    let mysql =
        folder.write("mysql.toml", "[database]\nurl = \"mysql://freshet:s3cret@127.0.0.1:1/platform\"\n")?;
    let nothing = folder.write("nothing.toml", "[worker]\nconcurrency = 4\n")?;
    for (file, arguments, code, words) in [
        (&mysql, [].as_slice(), 78, ["database.url", "SQLite"]),
        (&nothing, &[], 78, ["database.url", "not set"]),
        (&sqlite, &["--connections", "5"], 2, ["--connections", "--config"]),
        (&sqlite, &["--token-lifetime", "9s"], 2, ["--token-lifetime", "--config"]),
    ] {
        let dev = Binary::new("freshet")?.arguments(["dev".as_ref(), "--config".as_ref(), file.as_os_str()]);
        let ended = dev.arguments(arguments).run().await?.with_code(code)?;
        for word in words {
            assert!(ended.stderr.contains(word), "{}: no `{word}` in {}", file.display(), ended.stderr);
        }
        assert!(!format!("{ended:?}").contains("s3cret"), "{ended:?}");
        assert_eq!(ended.stdout, "");
    }
    Ok(())
}

#[tokio::test]
async fn a_file_without_the_platforms_tables_is_left_as_it_is() -> Result<()> {
    let folder = TestFolder::create()?;
    let empty = folder.write("empty.db", "")?;
    let file =
        folder.write("freshet.toml", &format!("[database]\nurl = \"sqlite://{}\"\n", empty.display()))?;
    let dev = Binary::new("freshet")?.arguments(["dev".as_ref(), "--config".as_ref(), file.as_os_str()]);
    let ended = dev.run().await?.with_code(1)?;
    assert!(ended.stderr.contains("table `ie_appinstall_connection` does not exist"), "{}", ended.stderr);
    assert!(ended.stderr.contains("freshet migrate --platform-tables"), "{}", ended.stderr);
    assert_eq!(ended.stdout, "");
    Ok(())
}
