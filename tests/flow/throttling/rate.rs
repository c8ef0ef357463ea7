//! A rate that all workers share.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Throttled, assert_within};

#[tokio::test]
async fn three_workers_keep_to_one_rate_and_use_it() -> Result<()> {
    // What a machine that stands still for three seconds could not send is made up for by the burst.
    const BURST: usize = 15;
    const INTERVAL: Duration = Duration::from_millis(200);
    let mut fleet = Throttled::found("rate = { requests = 5, per = \"1s\", burst = 15 }", 75).await?;
    fleet.start()?;
    fleet.until_fresh(75).await?;
    let arrivals: Vec<_> = fleet.model.ledger().iter().map(|entry| entry.arrived_at).collect();
    assert_within(&arrivals, INTERVAL, BURST)?;
    // As long as there is more to do than may be done: the last few come at the turns that each was given.
    const BUSY: usize = 65;
    let intervals = (arrivals[BUSY - 1] - arrivals[0]).to_std()?.as_secs_f64() / INTERVAL.as_secs_f64();
    let used = BUSY as f64 / (BURST as f64 + intervals);
    ensure!(used >= 0.9, "only {:.0} % of the rate were used", used * 100.0);
    fleet.end().await
}
