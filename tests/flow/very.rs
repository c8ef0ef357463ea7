//! Very through KornitX: several credentials in one connection.

use anyhow::{Context, Result};
use freshet_shared::domain::lane::Lane;
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};

#[tokio::test]
async fn the_token_is_asked_for_by_form_and_every_operation_finds_its_ready_header() -> Result<()> {
    let fleet = TestFleet::found().await?;
    fleet.add([NewConnection::very(1, 300), NewConnection::very(2, 1_500)]).await?;
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, 1);
    assert_eq!(fleet.scan(Lane::Early).await?.published, 1);
    let worker = fleet.worker().await?;
    worker.until_handled(2, PATIENCE).await?;
    assert_eq!(worker.outcomes(), ["refreshed"; 2]);
    worker.stop().await?;

    let mut ledger = fleet.marketplaces.ledger();
    ledger.sort_by_key(|entry| entry.account.clone());
    assert_eq!(ledger.len(), 2, "Very has no refresh-connection endpoint");
    for (entry, id) in ledger.iter().zip(1..) {
        assert_eq!((entry.method.as_str(), entry.target.as_str()), ("POST", "/token"));
        assert_eq!(entry.headers["content-type"], "application/x-www-form-urlencoded");
        assert!(!entry.headers.contains_key("authorization"));
        let expected = format!(
            "client_id=client+{id}&client_secret=s%26cret%2B{id}&grant_type=client_credentials\
             &scope=api-sl-2-3.order-shipment.create+api-sl-2-3.order-cancellation.create+api-sl-2-3.order-return.create"
        );
        assert_eq!(str::from_utf8(&entry.body)?, expected);
    }

    let cache = fleet.cache().await?;
    for id in 1..=2 {
        let token = fleet.stored(id).await?.access_token.context("no token")?;
        let header = |operation: &str| &cache[&format!("connectionAuthorization_{id}:{operation}")];
        assert_eq!(cache[&format!("connectionAccessToken_{id}")].value, token);
        for operation in ["order_push", "stock_update"] {
            // Joined by a colon and not base64.
            assert_eq!(header(operation).value, format!("Basic 850135:AD0D7AEB25F3F676450F5C79ED6-{id}"));
            assert_eq!(header(operation).time_to_live, None, "it never expires");
        }
        for operation in ["order_ship", "order_cancel", "order_return"] {
            assert_eq!(header(operation).value, format!("Bearer {token}"));
            assert!(header(operation).time_to_live.is_some(), "it dies with the token");
        }
    }
    // Two tokens, ten headers, and the details that only the urgent lane writes.
    assert_eq!(cache.len(), 13, "{:?}", cache.keys());
    fleet.dissolve().await
}
