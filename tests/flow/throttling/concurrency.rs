//! Requests at once, of all workers together.

use std::time::Duration;

use anyhow::Result;
use freshet_tests::model_provider::Fault;

use super::Throttled;

#[tokio::test]
async fn three_workers_never_have_more_requests_under_way_than_the_provider_takes() -> Result<()> {
    let mut fleet = Throttled::found("concurrency = 6", 90).await?;
    fleet.model.set_standing_fault(Some(Fault::none().after(Duration::from_millis(200))));
    fleet.start()?;
    fleet.until_fresh(90).await?;
    let most = fleet.model.ledger().iter().map(|entry| entry.at_once).max();
    assert_eq!(most, Some(6), "all that it takes, and not one more");
    fleet.end().await
}
