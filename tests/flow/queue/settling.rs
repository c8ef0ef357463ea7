//! Acknowledgements that go together, and messages among them that do not.

use std::collections::BTreeSet;
use std::ops::Range;

use anyhow::{Result, ensure};
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::message::RefreshMessage;
use freshet_shared::ports::queue::{Consumer, Delivery};
use freshet_tests::isolation::TestVhost;
use futures_util::future::try_join_all;

use super::{DEADLINE, POOL, broker, consumer, next, publish};

/// What becomes of the messages of one round.
#[derive(Clone, Copy, PartialEq)]
enum Fate {
    Acknowledged,
    GivenBack,
    /// As by a panic.
    Dropped,
    /// Settled after all others.
    Slow,
}

fn fate(id: i64) -> Fate {
    match id % 10 {
        3 => Fate::GivenBack,
        6 => Fate::Dropped,
        8 => Fate::Slow,
        _ => Fate::Acknowledged,
    }
}

const MESSAGES: Range<i64> = 0..400;

#[tokio::test]
async fn what_is_acknowledged_together_takes_nothing_along() -> Result<()> {
    let vhost = TestVhost::create().await?;
    let rabbitmq = broker(vhost.url(), &[POOL])?;
    publish(&rabbitmq.publisher(), MESSAGES, Lane::Early).await?;
    let mut consumer = consumer(&rabbitmq, 400);
    let mut taken = Vec::new();
    for _ in MESSAGES {
        let delivery = next(&mut consumer).await?;
        taken.push((id(&delivery)?, delivery));
    }
    let (slow, others): (Vec<_>, Vec<_>) = taken.into_iter().partition(|(id, _)| fate(*id) == Fate::Slow);
    try_join_all(others.into_iter().map(settle)).await?;
    // Those that were given back come again, and nothing else does.
    let expected: BTreeSet<i64> =
        MESSAGES.filter(|id| matches!(fate(*id), Fate::GivenBack | Fate::Dropped)).collect();
    let mut again = BTreeSet::new();
    while again.len() < expected.len() {
        let delivery = next(&mut consumer).await?;
        let id = id(&delivery)?;
        ensure!(delivery.redelivered && again.insert(id), "{id} came once more");
        delivery.settle.acknowledge().await?;
    }
    assert_eq!(again, expected);
    // While they were at work they were in our hands.
    try_join_all(slow.into_iter().map(|(_, delivery)| delivery.settle.acknowledge())).await?;
    vhost.until_drained(DEADLINE).await?;
    consumer.stop().await;
    vhost.delete_vhost().await
}

/// More than a quorum queue's client in the broker sends on before it has heard of any of them (32): the rest would be dropped
/// with the channel.
const LAST: Range<i64> = 0..2_000;

#[tokio::test]
async fn what_is_acknowledged_last_is_taken_in_before_the_session_ends() -> Result<()> {
    let vhost = TestVhost::create().await?;
    let rabbitmq = broker(vhost.url(), &[POOL])?;
    publish(&rabbitmq.publisher(), LAST, Lane::Early).await?;
    let mut consumer = consumer(&rabbitmq, 2_000);
    let first = next(&mut consumer).await?;
    let mut others = Vec::new();
    for _ in LAST.skip(1) {
        others.push(next(&mut consumer).await?);
    }
    consumer.stop().await;
    // While the first is at work, each of the others needs a frame of its own.
    try_join_all(others.into_iter().map(|delivery| delivery.settle.acknowledge())).await?;
    first.settle.acknowledge().await?;
    consumer.finish().await;
    drop((consumer, rabbitmq));
    vhost.until_drained(DEADLINE).await?;
    vhost.delete_vhost().await
}

async fn settle((id, delivery): (i64, Delivery)) -> Result<()> {
    match fate(id) {
        Fate::GivenBack => delivery.settle.requeue().await?,
        Fate::Dropped => drop(delivery),
        Fate::Acknowledged | Fate::Slow => delivery.settle.acknowledge().await?,
    }
    Ok(())
}

fn id(delivery: &Delivery) -> Result<i64> {
    Ok(RefreshMessage::decode(&delivery.body)?.connection_id.0)
}
