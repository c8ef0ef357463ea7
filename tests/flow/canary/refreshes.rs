//! Refreshes that come to every end.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use freshet_shared::domain::failure::FailureClass;
use freshet_shared::domain::lane::Lane;
use freshet_tests::binaries::Binary;
use freshet_tests::fleet::PATIENCE;

use super::ends::AtRest;
use super::scene::Scene;
use super::seen;
use super::tap::Tap;
use crate::sealing::rotate;

#[tokio::test]
async fn no_secret_is_seen_anywhere_whatever_a_refresh_comes_to() -> Result<()> {
    let mut scene = Scene::set().await?;
    let classes: BTreeSet<_> =
        scene.ends.iter().filter_map(|end| end.class).map(FailureClass::as_str).collect();
    // A panic has a test of its own.
    let others = FailureClass::ALL.into_iter().filter(|class| *class != FailureClass::Panicked);
    let others: BTreeSet<_> = others.map(FailureClass::as_str).collect();
    assert_eq!(classes, others, "every class is here");
    for at_rest in [AtRest::Plain, AtRest::Sealed] {
        ensure!(scene.ends.iter().any(|end| end.at_rest == at_rest && end.class.is_none()), "one that opens");
        ensure!(scene.ends.iter().any(|end| end.at_rest == at_rest && end.class.is_some()), "one that fails");
    }

    let mut worker = Binary::new("worker")?.arguments(["run"]).variables(&scene.fleet.environment).start()?;
    let tap = Tap::open(&scene.fleet).await?;
    scene.publish().await?;
    scene.fleet.publish_body(Lane::Early, br#"{"v":1,"connection_id":"no number"}"#).await?;
    scene
        .until_ended(|| {
            ensure!(worker.is_running()?, "the worker gave up");
            Ok(())
        })
        .await?;
    let mut shown = seen::shown(&mut worker).await?;
    let mut producer =
        Binary::new("producer")?.arguments(["run"]).variables(&scene.fleet.environment).start()?;
    shown.push_str(&seen::shown(&mut producer).await?);
    scene.keep(&producer.terminate(PATIENCE).await?.with_code(0)?);
    scene.keep(&worker.terminate(PATIENCE).await?.with_code(0)?);

    // Everything under another key, then all of it in plain text again; two rows do not open.
    scene.keys.give(&mut scene.fleet, "k2", &[&scene.keys.k1, &scene.keys.k2])?;
    scene.run(rotate(&scene.fleet, &["--dry-run"])?, 1).await?;
    scene.run(rotate(&scene.fleet, &[])?, 1).await?;
    scene.keys.give(&mut scene.fleet, "", &[&scene.keys.k1, &scene.keys.k2])?;
    scene.run(rotate(&scene.fleet, &["--to-plaintext"])?, 1).await?;

    let searched = scene.searched()?;
    for (place, bytes) in seen::seen(&scene.fleet, &scene.collector, &tap, &scene.said, &shown).await? {
        let is_unused = ["provider_control", "producer_lease", "our keys in Redis"].contains(&place);
        ensure!(is_unused || !bytes.is_empty(), "nothing is seen in {place}");
        searched.assert_none_in(place, &bytes);
    }
    for metric in ["freshet_in_flight", "freshet_refreshes_total"] {
        ensure!(shown.contains(metric), "{metric} is not shown:\n{shown}");
    }
    // What was searched is what was meant to be.
    for part in [
        "\"level\":\"TRACE\"",
        "refresh failed",
        "quarantined",
        "re-encrypted",
        "accessToken of connection 21",
        "\"message\":\"refreshed\"",
    ] {
        ensure!(scene.said.contains(part), "`{part}` is not in what was searched");
    }
    tap.close().await?;
    scene.fleet.dissolve().await
}

#[tokio::test]
async fn no_secret_is_shown_by_debug_of_what_a_job_comes_to() -> Result<()> {
    let mut scene = Scene::set().await?;
    let worker = scene.fleet.worker().await?;
    scene.publish().await?;
    scene.until_ended(|| Ok(())).await?;
    worker.until_handled(scene.ends.len(), PATIENCE).await?;
    let reports = worker.reports();
    worker.stop().await?;
    for report in reports {
        scene.searched()?.assert_none_in("Debug of a report", format!("{report:?} {report:#?}").as_bytes());
    }
    scene.fleet.dissolve().await
}
