//! The urgent lane, end to end.

use anyhow::{Context, Result};
use fred::prelude::KeysInterface;
use freshet_cli::simulator::{Matcher, Provider, Reply, StatusCode};
use freshet_shared::domain::lane::Lane;
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};
use sea_orm::{ConnectionTrait, DbBackend, Statement};
use serde_json::{Value, json};

#[tokio::test]
async fn channels_are_renewed_the_cache_is_cleared_and_rewritten_and_expired_tokens_are_included()
-> Result<()> {
    let fleet = TestFleet::found().await?;
    let mut inactive = NewConnection::fynd(5, 60);
    inactive.is_active = "disabled";
    let mut other = NewConnection::fynd(6, 60);
    other.integration_type = "3";
    fleet
        .add([
            NewConnection::fynd(1, 300),
            NewConnection::fynd(2, -86_400),
            NewConnection::fynd(3, 605),
            NewConnection { expires_in: None, ..NewConnection::fynd(4, 0) },
            inactive,
            other,
        ])
        .await?;
    // A second channel of the same connection: `connectionId` is not unique.
    fleet
        .execute(
            "INSERT INTO channels (id, connectionId, account_id, channel_id, integrationType, additionalDetails) \
             VALUES (11, 1, 7001, 'second', '15', NULL)",
            [],
        )
        .await?;
    let key = |name: &str| format!("{}{name}", fleet.keys.prefix());
    for name in ["connectionAccessToken_1", "connectionDetail_1", "connectionDetail_3"] {
        let _: () = fleet.keys.client().set(key(name), "from before", None, None, false).await?;
    }
    let untouched = [fleet.stored(3).await?, fleet.stored(5).await?, fleet.stored(6).await?];

    let report = fleet.scan(Lane::Urgent).await?;
    assert_eq!((report.found, report.published), (3, 3));
    let worker = fleet.worker().await?;
    worker.until_handled(3, PATIENCE).await?;
    assert_eq!(worker.outcomes(), ["refreshed"; 3]);
    worker.stop().await?;

    let cache = fleet.cache().await?;
    for id in [1, 2, 4] {
        let token = fleet.stored(id).await?.access_token.context("no token")?;
        assert_eq!(cache[&format!("connectionAccessToken_{id}")].value, token);
        let details: Value = serde_json::from_str(&cache[&format!("connectionDetail_{id}")].value)?;
        assert_eq!(details, channels(&fleet, id).await?, "the cache holds what the table holds");
        for channel in details.as_array().context("details are an array")? {
            assert!(channel["additionalDetails"]["refreshed"].is_number(), "{channel}");
        }
    }
    let first = &channels(&fleet, 1).await?;
    assert_eq!(first[0]["additionalDetails"]["kept"], "as it was");
    assert_eq!(
        (&first[0]["id"], &first[1]["id"], first.as_array().map(Vec::len)),
        (&json!(10), &json!(11), Some(2))
    );
    assert_eq!(cache["connectionDetail_3"].value, "from before");
    assert_eq!(cache.len(), 7, "{cache:?}");
    assert_eq!([fleet.stored(3).await?, fleet.stored(5).await?, fleet.stored(6).await?], untouched);
    assert_eq!(channels(&fleet, 6).await?[0]["additionalDetails"], json!({"kept": "as it was"}));

    the_platform_was_asked_as_agreed(&fleet)?;
    fleet.dissolve().await
}

fn the_platform_was_asked_as_agreed(fleet: &TestFleet) -> Result<()> {
    let ledger = fleet.marketplaces.ledger();
    let asked: Vec<_> = ledger.iter().filter(|entry| entry.provider == Some(Provider::Platform)).collect();
    assert_eq!(asked.len(), 4);
    for entry in &asked {
        assert_eq!((entry.method.as_str(), entry.target.as_str()), ("POST", "/api/fynd/refresh/connection"));
        assert_eq!(entry.headers["content-type"], "application/json");
    }
    let bodies: Vec<Value> =
        asked.iter().map(|entry| serde_json::from_slice(&entry.body)).collect::<Result<_, _>>()?;
    let expected = json!({
        "connectionId": 2, "id": 20, "account_id": 7_002, "channel_id": "channel-2",
        "additionalDetails": {"kept": "as it was"}
    });
    assert!(bodies.contains(&expected), "{bodies:?}");
    // The channel is renewed before the token is asked for.
    let of_two: Vec<_> = ledger
        .iter()
        .filter(|entry| matches!(entry.account.as_deref(), Some("2" | "location&2")))
        .map(|entry| entry.provider)
        .collect();
    assert_eq!(of_two, [Some(Provider::Platform), Some(Provider::Fynd)]);
    Ok(())
}

#[tokio::test]
async fn a_failure_after_the_cache_was_cleared_puts_the_good_token_back() -> Result<()> {
    let fleet = TestFleet::found().await?;
    fleet.add([NewConnection::fynd(1, 300)]).await?;
    let refusal = Reply::html(StatusCode::SERVICE_UNAVAILABLE, "<h1>away</h1>");
    fleet.marketplaces.script(Matcher::provider(Provider::Fynd), [refusal.into()]);
    fleet.scan(Lane::Urgent).await?;
    let worker = fleet.worker().await?;
    worker.until_handled(1, PATIENCE).await?;
    assert_eq!(worker.outcomes(), ["failed"]);
    worker.stop().await?;
    assert_eq!(fleet.cache().await?["connectionAccessToken_1"].value, "old-1");
    let ours = fleet.stored(1).await?.ours.context("not enrolled")?;
    assert_eq!((ours.generation, ours.failures, ours.failure_class.as_deref()), (0, 1, Some("server_error")));
    fleet.dissolve().await
}

#[tokio::test]
async fn trouble_at_the_platforms_endpoint_does_not_keep_the_token_from_being_renewed() -> Result<()> {
    let fleet = TestFleet::found().await?;
    fleet
        .add([NewConnection::fynd(1, 300), NewConnection::fynd(2, 300), NewConnection::fynd(3, 300)])
        .await?;
    let answers = [
        ("1", Reply::html(StatusCode::INTERNAL_SERVER_ERROR, "oops")),
        ("2", Reply::json(StatusCode::OK, "not json")),
        (
            "3",
            Reply::json(
                StatusCode::OK,
                r#"{"id":99,"account_id":1,"channel_id":"x","additionalDetails":{}}"#,
            ),
        ),
    ];
    for (account, reply) in answers {
        fleet.marketplaces.script(Matcher::provider(Provider::Platform).account(account), [reply.into()]);
    }
    fleet.scan(Lane::Urgent).await?;
    let worker = fleet.worker().await?;
    worker.until_handled(3, PATIENCE).await?;
    assert_eq!(worker.outcomes(), ["refreshed"; 3]);
    worker.stop().await?;
    for id in 1..=3 {
        assert_eq!(fleet.stored(id).await?.generation(), 1);
        assert_eq!(channels(&fleet, id).await?[0]["additionalDetails"], json!({"kept": "as it was"}));
    }
    fleet.dissolve().await
}

/// The connection's channels in the cache's form, read with no help from the product.
async fn channels(fleet: &TestFleet, id: i64) -> Result<Value> {
    let statement = Statement::from_sql_and_values(
        DbBackend::MySql,
        "SELECT id, account_id, channel_id, CAST(additionalDetails AS CHAR) AS details FROM channels \
         WHERE connectionId = ? ORDER BY id",
        [id.into()],
    );
    let mut channels = Vec::new();
    for row in fleet.store.connection().query_all_raw(statement).await? {
        let details: Option<String> = row.try_get("", "details")?;
        let details: Value = details.map_or(Ok(Value::Null), |text| serde_json::from_str(&text))?;
        channels.push(json!({
            "id": row.try_get::<i64>("", "id")?,
            "account_id": row.try_get::<i64>("", "account_id")?,
            "channel_id": row.try_get::<String>("", "channel_id")?,
            "additionalDetails": details,
        }));
    }
    Ok(channels.into())
}
