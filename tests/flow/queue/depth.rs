//! What an autoscaler reads of a queue: KEDA asks the management API for one queue by name and takes `messages`
//! (`protocol: http`), or declares it passively and takes what waits (`protocol: amqp`).

use freshet_shared::adapters::rabbitmq::queue_names;

use super::accounts::{Account, encoded};
use super::*;

const PUBLISHED: i64 = 30;
const HELD: u16 = 20;

#[tokio::test]
async fn by_http_messages_in_workers_hands_count_and_by_amqp_they_do_not() -> Result<()> {
    let vhost = TestVhost::create().await?;
    let rabbitmq = broker(vhost.url(), &[POOL])?;
    publish(&rabbitmq.publisher(), 0..PUBLISHED, Lane::Urgent).await?;
    let mut consumer = consumer(&rabbitmq, HELD);
    let mut held = Vec::new();
    for _ in 0..HELD {
        held.push(next(&mut consumer).await?);
    }
    let queue = queue_name(POOL, Lane::Urgent);
    assert_eq!(vhost.ready_messages(&queue).await?, 10, "by amqp a busy worker looks idle");
    // As the runbook gives it to KEDA: without permissions at all it would not be let near, with these it may only look.
    let account = Account::create(&vhost, "management", "^$").await?;
    let management = account.management()?;
    let path = format!("api/queues/{}/{queue}", encoded(&vhost));
    until(&management, &path, [30, 10, 20]).await?;
    for delivery in held.drain(..) {
        delivery.settle.acknowledge().await?;
    }
    // Ten are left; the consumer is sent them as soon as it has room.
    until(&management, &path, [10, 0, 10]).await?;
    account.delete(&vhost).await?;
    vhost.delete_vhost().await
}

/// Messages in all, waiting, and in consumers' hands, as the statistics have it that are seconds late.
pub(super) async fn counted(management: &Management, path: &str) -> Result<[Option<u64>; 3]> {
    let answer = management.get(path).await?;
    Ok(["messages", "messages_ready", "messages_unacknowledged"].map(|key| answer[key].as_u64()))
}

/// Waits for the statistics, which are seconds late, to say so many messages in all, waiting, and in consumers' hands.
async fn until(management: &Management, path: &str, expected: [u64; 3]) -> Result<()> {
    eventually("the statistics are up to date", DEADLINE, async || {
        let seen = counted(management, path).await?;
        ensure!(seen == expected.map(Some), "{seen:?}");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn the_queues_are_those_that_are_named() -> Result<()> {
    let vhost = TestVhost::create().await?;
    let pools = [POOL.to_owned(), "slow".to_owned()];
    let rabbitmq = broker(vhost.url(), &[POOL, "slow"])?;
    publish(&rabbitmq.publisher(), 0..1, Lane::Early).await?;
    let mut declared: Vec<String> = vhost.queues().await?.into_iter().map(|queue| queue.name).collect();
    let mut named = queue_names(&pools);
    declared.sort();
    named.sort();
    assert_eq!(declared, named);
    vhost.delete_vhost().await
}
