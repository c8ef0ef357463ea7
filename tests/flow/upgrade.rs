//! Two versions side by side: this one, and the next one, which has migrated the database and publishes already.

use anyhow::Result;
use freshet_shared::adapters::rabbitmq::queue_name;
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::message::VERSION;
use freshet_shared::migrations;
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet, now};
use lapin::options::QueuePurgeOptions;
use serde_json::{Value, json};

/// What a migration of the next version may have done: it only adds.
const OF_THE_NEXT_VERSION: [&str; 4] = [
    "ALTER TABLE token_refresh ADD COLUMN of_the_next_version VARCHAR(16) NULL",
    "ALTER TABLE refresh_attempt ADD COLUMN of_the_next_version BIGINT NOT NULL DEFAULT 0",
    "CREATE TABLE of_the_next_version (id BIGINT NOT NULL PRIMARY KEY)",
    "INSERT INTO freshet_migrations (version, applied_at) VALUES ('m29991231_000000_of_the_next_version', 0)",
];

/// A message about this connection, of a version and with the further members that the next one may have.
fn message(id: i64, version: u32, more: Value) -> Vec<u8> {
    let mut message = json!({
        "v": version, "connection_id": id, "generation": 0, "provider": "fynd", "lane": "early", "due_at": now(),
    });
    if let (Some(message), Value::Object(more)) = (message.as_object_mut(), more) {
        message.extend(more);
    }
    message.to_string().into_bytes()
}

#[tokio::test]
async fn a_worker_beside_a_newer_producer_loses_nothing() -> Result<()> {
    let fleet = TestFleet::found().await?;
    for statement in OF_THE_NEXT_VERSION {
        fleet.execute(statement, []).await?;
    }
    fleet.add((1..=3).map(|id| NewConnection::fynd(id, 1_500))).await?;
    // Claimed as by the newer producer, whose messages take the place of these.
    assert_eq!(fleet.scan(Lane::Early).await?.published, 3);
    let queue = queue_name("shared", Lane::Early);
    let channel = fleet.vhost.connect().await?.create_channel().await?;
    assert_eq!(channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await?, 3);
    let messages = [
        message(1, VERSION, json!({})),
        message(2, VERSION, json!({"priority": {"of": ["the", "next", "version"]}})),
        message(3, VERSION + 1, json!({"priority": 1})),
    ];
    let worker = fleet.worker().await?;
    for (index, body) in messages.iter().enumerate() {
        fleet.publish_body(Lane::Early, body).await?;
        worker.until_handled(index + 1, PATIENCE).await?;
    }
    assert_eq!(worker.outcomes(), ["refreshed", "refreshed", "undecodable"]);
    // What this one does not understand it keeps for whoever looks, and says why.
    let letters = fleet.take_dead_letters(1).await?;
    assert_eq!(letters[0].body.as_bytes(), messages[2]);
    assert_eq!(letters[0].headers["x-freshet-reason"], "unsupported_version");

    // Its connection is claimed until the claim runs out, and found again.
    assert_eq!(fleet.scan(Lane::Early).await?.published, 0);
    let run_out = "UPDATE token_refresh SET queued_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND WHERE connection_id = 3";
    assert_eq!(fleet.execute(run_out, []).await?, 1);
    assert_eq!(fleet.scan(Lane::Early).await?.published, 1);
    worker.until_handled(4, PATIENCE).await?;
    worker.stop().await?;
    for id in 1..=3 {
        assert_eq!(fleet.stored(id).await?.generation(), 1, "connection {id}");
    }
    assert_eq!(fleet.token_requests().len(), 3, "one call each");
    fleet.dissolve().await
}

#[tokio::test]
async fn after_a_way_back_the_older_version_migrates_nothing_and_is_content() -> Result<()> {
    let fleet = TestFleet::found().await?;
    for statement in OF_THE_NEXT_VERSION {
        fleet.execute(statement, []).await?;
    }
    migrations::migrate(&fleet.store).await?;
    assert!(migrations::is_current(&fleet.store).await?);
    let kept = "SELECT COUNT(*) FROM freshet_migrations WHERE version LIKE '%of_the_next_version'";
    assert_eq!(fleet.number(kept).await?, 1);
    fleet.dissolve().await
}
