//! A panic in the middle of a refresh, with the request in hand.

use anyhow::{Result, ensure};
use freshet_shared::domain::lane::Lane;
use freshet_tests::binaries::Binary;
use freshet_tests::fleet::{FYND, NewConnection, PATIENCE, TestFleet, VERY};
use freshet_tests::monitoring::Watched;
use freshet_tests::otlp::Collector;
use freshet_tests::waiting::eventually;

use super::searched::Searched;
use super::seen;
use super::tap::Tap;
use super::{everything_told, fynd, very};

#[tokio::test]
async fn a_panic_whose_words_hold_the_request_tells_no_secret() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    let collector = Collector::start().await?;
    fleet.environment.extend(everything_told(&collector.endpoint()));
    for (id, integration_type, input) in [(1, FYND, fynd(1)), (2, VERY, very(2))] {
        let input_fields = Some(input.to_string());
        fleet.add([NewConnection { integration_type, input_fields, ..NewConnection::fynd(id, 300) }]).await?;
    }
    let worker = Binary::new("faulty-worker")?
        .variables(&fleet.environment)
        .variables([("TEST_FAULT", "panic"), ("RUST_BACKTRACE", "1")]);
    let mut worker = worker.start()?;
    let tap = Tap::open(&fleet).await?;
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, 2);
    eventually("both are put off", PATIENCE, async || {
        for id in [1, 2] {
            let ours = fleet.stored(id).await?.ours;
            let class = ours.and_then(|ours| ours.failure_class);
            ensure!(class.as_deref() == Some("panicked"), "{id}: {class:?}");
        }
        Ok(())
    })
    .await?;
    let shown = seen::shown(&mut worker).await?;
    let ended = worker.terminate(PATIENCE).await?.with_code(0)?;
    let searched = Searched::for_marks();
    for (place, bytes) in seen::seen(&fleet, &collector, &tap, &ended.stderr, &shown).await? {
        searched.assert_none_in(place, &bytes);
    }
    for part in ["panicked: its words are left out", "faulty_worker.rs:", "the refresh panicked"] {
        ensure!(ended.stderr.contains(part), "`{part}` is not said:\n{}", ended.stderr);
    }
    tap.close().await?;
    fleet.dissolve().await
}

/// A client's tasks may panic while the runtime drops them one after another: that wakes nobody.
#[tokio::test]
async fn a_panic_when_all_is_over_is_not_told() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    fleet.watch();
    let worker = Binary::new("faulty-worker")?.variables(&fleet.environment);
    let mut worker = worker.variables([("TEST_FAULT", "end")]).start()?;
    let _watched = Watched::of(&mut worker).await?;
    let ended = worker.terminate(PATIENCE).await?.with_code(0)?;
    ensure!(!ended.stderr.contains("panicked"), "it says:\n{}", ended.stderr);
    fleet.dissolve().await
}
