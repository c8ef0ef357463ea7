//! Where calls may go, in a fleet: without the operator's exception the marketplaces on loopback are out of reach.

use anyhow::{Context, Result};
use freshet_shared::domain::lane::Lane;
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};

#[tokio::test]
async fn a_marketplace_at_a_private_address_is_not_called_unless_its_host_is_allowed() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    let allowed = fleet.environment.remove("FRESHET_EGRESS__ALLOW").context("nothing is allowed")?;
    fleet.add([NewConnection::fynd(1, 300), NewConnection::very(2, 300)]).await?;
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, 2);
    let worker = fleet.worker().await?;
    worker.until_handled(2, PATIENCE).await?;
    assert_eq!(worker.outcomes(), ["failed"; 2]);
    worker.stop().await?;
    for id in [1, 2] {
        let ours = fleet.stored(id).await?.ours.context("not enrolled")?;
        assert_eq!(ours.failure_class.as_deref(), Some("egress_blocked"));
        let detail = ours.failure_detail.context("no detail")?;
        assert!(detail.contains("is blocked: ") && detail.contains("egress.allow"), "{detail}");
        assert!(!detail.contains("127.0.0.1"), "{detail}");
    }
    assert_eq!(fleet.token_requests().len(), 0);
    // The platform's own endpoint is named by being configured.
    assert_eq!(fleet.calls(), ["POST /api/fynd/refresh/connection"]);

    fleet.environment.insert("FRESHET_EGRESS__ALLOW".into(), allowed);
    fleet.let_next_attempts_come().await?;
    assert_eq!(fleet.retry_scan().await?.published, 2);
    let worker = fleet.worker().await?;
    worker.until_handled(2, PATIENCE).await?;
    assert_eq!(worker.outcomes(), ["refreshed"; 2]);
    worker.stop().await?;
    fleet.dissolve().await
}
