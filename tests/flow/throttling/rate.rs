//! A rate that all workers share.

use std::time::Duration;

use anyhow::{Result, ensure};

use super::{Throttled, assert_within};

#[tokio::test]
async fn three_workers_keep_to_one_rate_and_use_it() -> Result<()> {
    const BURST: usize = 5;
    const INTERVAL: Duration = Duration::from_millis(200);
    let mut fleet = Throttled::found("rate = { requests = 5, per = \"1s\", burst = 5 }", 60).await?;
    fleet.start()?;
    fleet.until_fresh(60).await?;
    let arrivals: Vec<_> = fleet.model.ledger().iter().map(|entry| entry.arrived_at).collect();
    assert_within(&arrivals, INTERVAL, BURST)?;
    // As long as there is more to do than may be done: the last few come at the turns that each was given.
    const BUSY: usize = 50;
    let intervals = (arrivals[BUSY - 1] - arrivals[0]).to_std()?.as_secs_f64() / INTERVAL.as_secs_f64();
    let used = BUSY as f64 / (BURST as f64 + intervals);
    // A machine that has other things to do sends less than it may. Where jobs that were put off came back every 5 s, and
    // then waited for a second, it could be no more than two fifths.
    ensure!(used >= 0.55, "only {:.0} % of the rate were used", used * 100.0);
    fleet.end().await
}
