//! A rate that all workers share, and Redis, which they share it by, gone.

use std::time::Duration;

use anyhow::{Result, ensure};
use freshet_tests::fleet::now;
use freshet_tests::services::Redis;

use super::{Throttled, WORKERS, assert_within};

#[tokio::test]
async fn without_redis_three_workers_keep_below_the_rate_together() -> Result<()> {
    const BURST: usize = 3;
    const INTERVAL: Duration = Duration::from_millis(100);
    let mut redis = Redis::start().await?;
    let mut fleet = Throttled::found("rate = { requests = 10, per = \"1s\", burst = 3 }", 80).await?;
    fleet.set("FRESHET_REDIS__URL", &redis.url());
    fleet.set("FRESHET_REDIS__COMMAND_TIMEOUT", "500ms");
    fleet.start()?;
    fleet.until_fresh(20).await?;
    redis.kill()?;
    let killed_at = now();
    fleet.until_fresh(80).await?;
    let arrivals: Vec<_> = fleet.model.ledger().iter().map(|entry| entry.arrived_at).collect();
    // What was shared before, and then what each begins with anew.
    assert_within(&arrivals, INTERVAL, BURST + WORKERS)?;
    let without = arrivals.iter().filter(|at| **at > killed_at).count();
    ensure!(without >= 40, "only {without} came without Redis");
    for process in &fleet.processes[..WORKERS] {
        let said = process.stderr();
        ensure!(said.contains("keeps to its share of the request rates"), "it is not said:\n{said}");
    }
    fleet.end().await
}
