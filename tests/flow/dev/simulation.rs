//! The simulated fleet: one command, nothing else installed.

use anyhow::{Context, Result};
use freshet_tests::binaries::{Binary, PATIENCE};
use nix::sys::signal::Signal;
use serde_json::Value;

#[tokio::test]
async fn the_report_is_one_json_object_and_no_token_has_expired() -> Result<()> {
    let arguments =
        ["dev", "--duration", "6s", "--token-lifetime", "6s", "--connections", "40", "--report", "json"];
    let ended = Binary::new("freshet")?.arguments(arguments).run().await?.with_code(0)?;
    let last = ended.stdout.lines().last().context("nothing was printed")?;
    let report: Value = serde_json::from_str(last).with_context(|| last.to_owned())?;
    let number = |name: &str| report[name].as_f64().with_context(|| format!("{name} is no number: {report}"));
    for name in ["failed", "retried", "p50_ms", "p99_ms"] {
        assert!(number(name)? >= 0.0, "{name}: {report}");
    }
    assert_eq!(
        (number("connections")?, number("valid_now")?, number("expired_now")?),
        (40.0, 40.0, 0.0),
        "{report}"
    );
    // A token lives as long as the run and is due in the last half of its life.
    assert!(number("refreshed")? >= 40.0, "{report}");
    assert!(number("p50_ms")? > 0.0 && number("p50_ms")? <= number("p99_ms")?, "{report}");

    // No terminal: plain lines, no bar.
    let progress: Vec<_> =
        ended.stderr.lines().filter(|line| line.starts_with("connections 40 · fresh ")).collect();
    assert!(progress.len() >= 2, "{}", ended.stderr);
    assert!(!ended.stderr.contains('\u{1b}') && !ended.stderr.contains('\r'), "{:?}", ended.stderr);
    Ok(())
}

#[tokio::test]
async fn without_any_argument_it_runs_and_a_signal_ends_it_with_a_report() -> Result<()> {
    for (arguments, signal) in [([].as_slice(), Signal::SIGINT), (&["dev"], Signal::SIGTERM)] {
        let mut freshet = Binary::new("freshet")?.arguments(arguments).start()?;
        freshet.until_it_says("connections 1000 · fresh ", PATIENCE).await?;
        freshet.signal(signal)?;
        let ended = freshet.ended(PATIENCE).await?.with_code(0)?;
        assert!(ended.stdout.starts_with("connections        1000   valid now "), "{}", ended.stdout);
        assert!(
            ended.stdout.ends_with("No token expired while its provider answered.\n"),
            "{}",
            ended.stdout
        );
    }
    Ok(())
}

#[tokio::test]
async fn arguments_that_make_no_sense_are_refused_by_name() -> Result<()> {
    for (argument, value) in [
        ("--connections", "0"),
        ("--connections", "1000001"),
        ("--connections", "some"),
        ("--token-lifetime", "1s"),
        ("--token-lifetime", "5999ms"),
        ("--token-lifetime", "8days"),
        ("--duration", "soon"),
        ("--report", "xml"),
    ] {
        let ended = Binary::new("freshet")?.arguments(["dev", argument, value]).run().await?.with_code(2)?;
        assert!(ended.stderr.contains(argument), "{argument} {value}: {}", ended.stderr);
        assert_eq!(ended.stdout, "");
    }
    Ok(())
}
