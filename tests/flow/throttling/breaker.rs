//! A provider that fails for all.

use anyhow::{Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use freshet_tests::fleet::{PATIENCE, now};
use freshet_tests::model_provider::{Fault, LedgerEntry};
use freshet_tests::waiting::eventually;

use super::{Throttled, WORKERS};

const OPEN_FOR: TimeDelta = TimeDelta::seconds(1);
const FAILURES: &str = "SELECT CAST(COALESCE(SUM(failures), 0) AS SIGNED) FROM token_refresh";

#[tokio::test]
async fn while_a_provider_fails_for_all_it_is_only_probed_and_no_connection_pays_for_it() -> Result<()> {
    let mut fleet = Throttled::found("", 60).await?;
    for (name, value) in [
        ("FRESHET_BREAKER__MINIMUM", "4"),
        ("FRESHET_BREAKER__OPEN_FOR", "1s"),
        ("FRESHET_RETRY__SHORTEST", "500ms"),
        ("FRESHET_RETRY__LONGEST", "1s"),
        ("FRESHET_WORKER__CONCURRENCY", "4"),
        ("FRESHET_TELEMETRY__FILTER", "info"),
    ] {
        fleet.set(name, value);
    }
    fleet.model.set_standing_fault(Some(Fault::status(503)));
    fleet.start()?;
    for worker in &mut fleet.processes[..WORKERS] {
        worker.until_it_says("provider is left alone", PATIENCE).await?;
    }
    // What was under way when the last one opened has arrived by then.
    let open_since = now() + OPEN_FOR;
    let mut before = None;
    eventually("each has probed three times", PATIENCE, async || {
        let probes = probes(&fleet, open_since);
        let fewest = probes.iter().map(Vec::len).min().unwrap_or_default();
        if fewest > 0 && before.is_none() {
            before = Some(fleet.defined.fleet.number(FAILURES).await?);
        }
        ensure!(fewest >= 3, "one has probed {fewest} times");
        Ok(())
    })
    .await?;
    for probes in probes(&fleet, open_since) {
        for pair in probes.windows(2) {
            let pause = pair[1] - pair[0];
            ensure!(pause >= OPEN_FOR, "{pause} between two probes of one worker");
        }
    }
    let failures = fleet.defined.fleet.number(FAILURES).await?;
    assert_eq!(Some(failures), before, "no connection's failures were counted while all were open");
    ensure!(failures > 0, "those that opened the breakers were counted");

    fleet.model.set_standing_fault(None);
    // Whoever probes first takes all that has waited, so the others may have no probe left to send.
    fleet.until_fresh(60).await?;
    let workers = &fleet.processes[..WORKERS];
    ensure!(workers.iter().any(|worker| worker.stderr().contains("provider serves again")), "nobody says so");
    fleet.end().await
}

/// When each worker's calls arrived that came while all breakers were open.
fn probes(fleet: &Throttled, open_since: DateTime<Utc>) -> Vec<Vec<DateTime<Utc>>> {
    let of_worker = |calls: Vec<LedgerEntry>| {
        calls.iter().map(|entry| entry.arrived_at).filter(|at| *at >= open_since).collect()
    };
    fleet.calls_by_worker().into_iter().map(of_worker).collect()
}
