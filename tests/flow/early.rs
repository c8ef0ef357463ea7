//! The early lane, end to end.

use anyhow::{Context, Result};
use chrono::TimeDelta;
use freshet_shared::adapters::rabbitmq::queue_name;
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::message::RefreshMessage;
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet, now};
use lapin::options::{BasicGetOptions, BasicNackOptions};

#[tokio::test]
async fn of_ten_connections_the_six_inside_the_window_are_refreshed_and_four_are_untouched() -> Result<()> {
    let fleet = TestFleet::found().await?;
    // Six inside: from nearly dead to nearly half an hour. Four outside: later, just later, expired, switched off.
    let inside = [30, 600, 601, 1_200, 1_700, 1_790].into_iter().enumerate();
    fleet.add(inside.map(|(index, seconds)| NewConnection::fynd(index as i64 + 1, seconds))).await?;
    let mut inactive = NewConnection::fynd(10, 900);
    inactive.is_active = "inactive";
    fleet
        .add([
            NewConnection::fynd(7, 3_500),
            NewConnection::fynd(8, 1_830),
            NewConnection::fynd(9, -60),
            inactive,
        ])
        .await?;
    let mut before = Vec::new();
    for id in 1..=10 {
        before.push(fleet.stored(id).await?);
    }

    let report = fleet.scan(Lane::Early).await?;
    assert_eq!((report.found, report.claimed, report.published, report.unpublished), (6, 6, 6, 0));
    let early = queue_name("shared", Lane::Early);
    assert_eq!(fleet.vhost.all_ready_messages().await?.into_iter().collect::<Vec<_>>(), [(early.clone(), 6)]);
    let (message_id, message) = first_message(&fleet, &early).await?;
    assert_eq!(message_id, format!("{}:0", message.connection_id));
    assert_eq!((message.provider.as_str(), message.lane), ("fynd", Lane::Early));

    let second = fleet.scan(Lane::Early).await?;
    assert_eq!((second.found, second.published), (0, 0), "a queued connection is not due again");

    let worker = fleet.worker().await?;
    worker.until_handled(6, PATIENCE).await?;
    worker.stop().await?;

    let mut expected_keys = Vec::new();
    for id in 1..=6 {
        let stored = fleet.stored(id).await?;
        let token = stored.access_token.context("no token")?;
        assert_ne!(Some(&token), before[id as usize - 1].access_token.as_ref());
        let lifetime = stored.expires_at.context("no expiry")? - now();
        assert!(lifetime > TimeDelta::minutes(58) && lifetime <= TimeDelta::minutes(60), "{lifetime}");
        assert!((now() - stored.generated_on.context("no generation time")?).abs() < TimeDelta::minutes(2));
        let ours = stored.ours.context("not enrolled")?;
        assert_eq!((ours.generation, ours.state.as_str(), ours.queued_until), (1, "active", None));
        expected_keys.push((format!("connectionAccessToken_{id}"), token));
    }
    let cache = fleet.cache().await?;
    for entry in cache.values() {
        let left = entry.time_to_live.context("a token without an end")?;
        assert!(left.as_secs() > 3_400 && left.as_secs() <= 3_600, "{left:?}");
    }
    assert_eq!(cache.into_iter().map(|(key, entry)| (key, entry.value)).collect::<Vec<_>>(), expected_keys);
    for id in 7..=10 {
        assert_eq!(fleet.stored(id).await?, before[id as usize - 1], "connection {id}");
    }

    let mut calls = fleet.calls();
    calls.sort();
    let expected: Vec<_> = (1..=6)
        .map(|id| {
            format!(
                "GET /hogwarts/api/v1/Eshopbox/shipment/authToken?username=location%26{id}&password=p%2Bss%20w%25rd%3D{id}"
            )
        })
        .collect();
    assert_eq!(calls, expected);
    assert!(fleet.marketplaces.ledger().iter().all(|entry| entry.body.is_empty()));
    fleet.dissolve().await
}

/// Looks at the first message and puts it back.
async fn first_message(fleet: &TestFleet, queue: &str) -> Result<(String, RefreshMessage)> {
    let connection = fleet.vhost.connect().await?;
    let channel = connection.create_channel().await?;
    let got = channel.basic_get(queue.into(), BasicGetOptions::default()).await?.context("no message")?;
    let id = got.delivery.properties.message_id().as_ref().context("no message id")?.to_string();
    assert_eq!(got.delivery.properties.delivery_mode(), &Some(2), "persistent");
    let message = RefreshMessage::decode(&got.delivery.data)?;
    got.delivery.acker.nack(BasicNackOptions { requeue: true, ..BasicNackOptions::default() }).await?;
    connection.close(200, "".into()).await?;
    Ok((id, message))
}
