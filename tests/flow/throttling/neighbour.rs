//! A provider with a long backlog, and another one in the same queue behind it.

use anyhow::{Context, Result, ensure};
use freshet_shared::domain::lane::Lane;
use freshet_tests::binaries::Binary;
use freshet_tests::fleet::{NewConnection, PATIENCE};
use freshet_tests::waiting::eventually;

use super::Throttled;

/// Has to wait behind all connections of the other.
const NEIGHBOUR: i64 = 1_000;

#[tokio::test]
async fn a_throttled_provider_does_not_hold_up_another_one_of_the_same_queue() -> Result<()> {
    let mut throttled = Throttled::found("rate = { requests = 1, per = \"1s\" }", 300).await?;
    throttled.set("FRESHET_WORKER__CONCURRENCY", "4");
    let Throttled { model, defined, .. } = throttled;
    let fleet = &defined.fleet;
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, 300);
    fleet.add([NewConnection::fynd(NEIGHBOUR, 300)]).await?;
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, 1);

    let worker = Binary::new("worker")?.arguments(["run"]).variables(&fleet.environment).start()?;
    eventually("the other provider's connection is fresh", PATIENCE, async || {
        ensure!(fleet.stored(NEIGHBOUR).await?.generation() == 1, "it is not");
        Ok(())
    })
    .await?;
    // One request a second: that is the clock that this is judged by. Four slots that each waited for a second would
    // have taken 75 s to get there.
    let calls = model.ledger().len();
    ensure!(calls < 20, "the throttled provider was called {calls} times first");

    fleet.vhost.until_drained(PATIENCE).await?;
    let _ = worker.terminate(PATIENCE).await?.with_code(0)?;
    let granted = i64::try_from(model.ledger().len())?;
    let deferred = "SELECT COUNT(*) FROM token_refresh WHERE generation = 0 AND failures = 0 \
                    AND queued_until IS NULL AND next_attempt_at IS NOT NULL";
    assert_eq!(fleet.number(deferred).await?, 300 - granted, "deferral is no failure");
    let ours = fleet.stored(NEIGHBOUR).await?.ours.context("not enrolled")?;
    assert_eq!(ours.failures, 0);
    defined.fleet.dissolve().await
}
