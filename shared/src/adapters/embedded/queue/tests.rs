use std::time::Duration;

use chrono::DateTime;
use tokio::time::timeout;

use super::*;
use crate::domain::connection::{ConnectionId, Generation};
use crate::domain::lane::Lane;
use crate::domain::message::{MessageError, RefreshMessage, VERSION};
use crate::ports::queue::{Consumer, Delivery, TraceContext};

fn outgoing(id: i64, lane: Lane) -> Outgoing {
    let message = RefreshMessage {
        v: VERSION,
        connection_id: ConnectionId(id),
        generation: Generation(1),
        provider: "fynd".into(),
        lane,
        due_at: DateTime::UNIX_EPOCH,
    };
    let context = TraceContext::from([("traceparent".to_owned(), format!("trace-{id}"))]);
    Outgoing { message, pool: "shared".into(), context }
}

async fn publish(queue: &InProcessQueue, ids: impl IntoIterator<Item = i64>, lane: Lane) {
    let messages: Vec<Outgoing> = ids.into_iter().map(|id| outgoing(id, lane)).collect();
    assert_eq!(queue.publish(&messages).await, vec![Ok(()); messages.len()]);
}

fn id(delivery: &Delivery) -> i64 {
    RefreshMessage::decode(&delivery.body).unwrap().connection_id.0
}

async fn is_empty_for(consumer: &mut InProcessConsumer) -> bool {
    timeout(Duration::from_millis(20), consumer.next()).await.is_err()
}

fn depth(ready: usize, unacknowledged: usize, dead: u64) -> QueueDepth {
    QueueDepth { ready, unacknowledged, dead }
}

#[tokio::test]
async fn urgent_messages_overtake_early_ones_and_each_lane_keeps_its_order() {
    let queue = InProcessQueue::new();
    publish(&queue, [1, 2], Lane::Early).await;
    publish(&queue, [3, 4], Lane::Urgent).await;
    let mut consumer = queue.consumer();
    let mut order = Vec::new();
    for _ in 0..4 {
        let delivery = consumer.next().await.unwrap();
        assert!(!delivery.redelivered);
        assert_eq!(delivery.context["traceparent"], format!("trace-{}", id(&delivery)));
        order.push((id(&delivery), delivery.lane));
        delivery.settle.acknowledge().await.unwrap();
    }
    assert_eq!(order, [(3, Lane::Urgent), (4, Lane::Urgent), (1, Lane::Early), (2, Lane::Early)]);
    assert_eq!(queue.depth(), depth(0, 0, 0));
}

#[tokio::test]
async fn what_is_given_back_or_dropped_comes_again_first_and_says_so() {
    let queue = InProcessQueue::new();
    publish(&queue, [1, 2], Lane::Early).await;
    let mut consumer = queue.consumer();
    let first = consumer.next().await.unwrap();
    assert_eq!(queue.depth(), depth(1, 1, 0));
    drop(first);
    assert_eq!(queue.depth(), depth(2, 0, 0));
    let first = consumer.next().await.unwrap();
    assert_eq!((id(&first), first.redelivered), (1, true));
    first.settle.requeue().await.unwrap();
    let first = consumer.next().await.unwrap();
    assert_eq!((id(&first), first.redelivered), (1, true));
    first.settle.acknowledge().await.unwrap();
    let second = consumer.next().await.unwrap();
    assert_eq!((id(&second), second.redelivered), (2, false));
}

#[tokio::test]
async fn a_dead_letter_is_kept_with_its_reason() {
    let queue = InProcessQueue::new();
    publish(&queue, [1], Lane::Urgent).await;
    let delivery = queue.consumer().next().await.unwrap();
    let body = delivery.body.clone();
    let reason = MessageError::Field { path: "v".into() };
    delivery.settle.dead_letter(body.clone(), reason.clone()).await.unwrap();
    let expected =
        DeadLetter { body, lane: Lane::Urgent, reason: "invalid_field", detail: reason.to_string() };
    assert_eq!(queue.dead_letters(), [expected]);
    assert_eq!(queue.depth(), depth(0, 0, 1));
}

#[tokio::test]
async fn a_message_that_nobody_settles_dies_in_the_end() {
    let queue = InProcessQueue::new();
    publish(&queue, [1], Lane::Early).await;
    let mut consumer = queue.consumer();
    let mut deliveries = 0;
    while queue.depth().ready > 0 {
        drop(consumer.next().await.unwrap());
        deliveries += 1;
    }
    assert_eq!(deliveries, 51);
    assert_eq!(queue.depth(), depth(0, 0, 1));
    assert_eq!(queue.dead_letters()[0].reason, "delivery_limit");
}

#[tokio::test]
async fn a_waiting_consumer_is_woken() {
    let queue = InProcessQueue::new();
    let mut consumer = queue.consumer();
    let waiting = tokio::spawn(async move { id(&consumer.next().await.unwrap()) });
    tokio::task::yield_now().await;
    publish(&queue, [7], Lane::Early).await;
    assert_eq!(timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap(), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_consumers_share_the_messages_and_none_is_lost() {
    let queue = InProcessQueue::new();
    let consumers: Vec<_> = (0..4)
        .map(|_| {
            let mut consumer = queue.consumer();
            tokio::spawn(async move {
                let mut ids = Vec::new();
                // The pause ends the test, not a wait for work: it is far longer than any gap between messages.
                while let Ok(delivery) = timeout(Duration::from_secs(1), consumer.next()).await {
                    let delivery = delivery.unwrap();
                    ids.push(id(&delivery));
                    delivery.settle.acknowledge().await.unwrap();
                }
                ids
            })
        })
        .collect();
    for batch in 0..100 {
        publish(&queue, batch * 10..(batch + 1) * 10, Lane::Early).await;
        tokio::task::yield_now().await;
    }
    let mut ids = Vec::new();
    for consumer in consumers {
        ids.extend(consumer.await.unwrap());
    }
    ids.sort_unstable();
    assert_eq!(ids, (0..1_000).collect::<Vec<i64>>());
    assert_eq!(queue.depth(), depth(0, 0, 0));
}

#[tokio::test]
async fn giving_up_the_wait_loses_nothing() {
    let queue = InProcessQueue::new();
    let (mut one, mut other) = (queue.consumer(), queue.consumer());
    assert!(is_empty_for(&mut one).await);
    assert!(is_empty_for(&mut other).await);
    publish(&queue, [1, 2], Lane::Early).await;
    let (first, second) = (other.next().await.unwrap(), one.next().await.unwrap());
    assert_eq!((id(&first), id(&second)), (1, 2));
}

#[tokio::test]
async fn a_stopped_consumer_takes_no_more_and_what_it_had_can_be_settled() {
    let queue = InProcessQueue::new();
    publish(&queue, [1, 2], Lane::Early).await;
    let mut consumer = queue.consumer();
    let delivery = consumer.next().await.unwrap();
    consumer.stop().await;
    assert!(consumer.next().await.is_err());
    delivery.settle.acknowledge().await.unwrap();
    assert_eq!(queue.depth(), depth(1, 0, 0));
}
