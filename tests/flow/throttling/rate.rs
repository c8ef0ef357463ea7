//! A rate that all workers share.

use std::time::Duration;

use anyhow::Result;

use super::{Throttled, assert_within};

#[tokio::test]
async fn three_workers_keep_to_one_rate_and_serve_all() -> Result<()> {
    const BURST: usize = 5;
    const INTERVAL: Duration = Duration::from_millis(200);
    let mut fleet = Throttled::found("rate = { requests = 5, per = \"1s\", burst = 5 }", 60).await?;
    fleet.start()?;
    fleet.until_fresh(60).await?;
    let arrivals: Vec<_> = fleet.model.ledger().iter().map(|entry| entry.arrived_at).collect();
    assert_within(&arrivals, INTERVAL, BURST)?;
    fleet.end().await
}
