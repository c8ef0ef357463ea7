//! Messages that were published, confirmed and claimed, and are gone.

use anyhow::{Result, ensure};
use freshet_shared::adapters::rabbitmq::queue_name;
use freshet_shared::domain::lane::Lane;
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};
use lapin::options::QueuePurgeOptions;

const CONNECTIONS: i64 = 200;

#[tokio::test]
async fn what_was_in_a_purged_queue_is_served_again_and_once() -> Result<()> {
    let fleet = TestFleet::found().await?;
    fleet
        .add((1..=CONNECTIONS).map(|id| NewConnection::fynd(id, if id % 2 == 0 { -60 } else { 300 })))
        .await?;
    let all = u64::try_from(CONNECTIONS)?;
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, all);
    let channel = fleet.vhost.connect().await?.create_channel().await?;
    let queue = queue_name("shared", Lane::Urgent);
    let purged = channel.queue_purge(queue.as_str().into(), QueuePurgeOptions::default()).await?;
    assert_eq!(u64::from(purged), all);
    // As long as the claims hold, the messages might be somebody's.
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, 0);
    let run_out = "UPDATE token_refresh SET queued_until = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND";
    assert_eq!(fleet.execute(run_out, []).await?, all);
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, all);
    let worker = fleet.worker().await?;
    worker.until_handled(usize::try_from(all)?, PATIENCE).await?;
    worker.stop().await?;
    for id in 1..=CONNECTIONS {
        let generation = fleet.stored(id).await?.generation();
        ensure!(generation == 1, "connection {id} has generation {generation}");
    }
    assert_eq!(fleet.token_requests().len(), usize::try_from(all)?, "one call each");
    fleet.vhost.until_drained(PATIENCE).await?;
    fleet.dissolve().await
}
