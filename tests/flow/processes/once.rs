//! `producer once`.

use anyhow::Result;
use freshet_shared::adapters::rabbitmq::queue_name;
use freshet_shared::domain::lane::Lane;
use freshet_tests::binaries::{Binary, Ended};
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};

async fn once(fleet: &TestFleet, lane: &str) -> Result<Ended> {
    let producer = Binary::new("producer")?.arguments(["once", "--lane", lane]).variables(&fleet.environment);
    producer.run().await?.with_code(0)
}

#[tokio::test]
async fn each_lane_is_scanned_on_request_and_its_report_printed() -> Result<()> {
    let fleet = TestFleet::found().await?;
    fleet
        .add([
            NewConnection::fynd(1, 300),
            NewConnection::very(2, -60),
            NewConnection::fynd(3, 1_200),
            NewConnection::very(4, 1_500),
            NewConnection::fynd(5, 1_600),
            NewConnection::fynd(6, 3_000),
        ])
        .await?;
    let report = |count: u8| {
        format!(
            "found {count}, claimed {count}, published {count}, not published 0, unreadable rows 0, paused providers 0\n"
        )
    };
    assert_eq!(once(&fleet, "urgent").await?.stdout, report(2));
    assert_eq!(once(&fleet, "early").await?.stdout, report(3));
    let waiting: Vec<_> = fleet.vhost.all_ready_messages().await?.into_iter().collect();
    let queues = [queue_name("shared", Lane::Early), queue_name("shared", Lane::Urgent)];
    assert_eq!(waiting, queues.into_iter().zip([3, 2]).collect::<Vec<_>>());
    assert_eq!(once(&fleet, "early").await?.stdout, report(0), "what is queued is not due again");

    let worker = fleet.worker().await?;
    worker.until_handled(5, PATIENCE).await?;
    assert_eq!(worker.outcomes(), ["refreshed"; 5]);
    worker.stop().await?;
    fleet.dissolve().await
}

#[tokio::test]
async fn a_broker_that_takes_nothing_is_an_error_and_the_connections_stay_due() -> Result<()> {
    let fleet = TestFleet::found().await?;
    fleet.add([NewConnection::fynd(1, 300)]).await?;
    let nobody = freshet_tests::binaries::DesertedAddress::take()?;
    let ended = Binary::new("producer")?
        .arguments(["once", "--lane", "urgent"])
        .variables(&fleet.environment)
        .variable("FRESHET_RABBITMQ__URL", format!("amqp://u:p@{}/%2f", nobody.address()?))
        .variable("FRESHET_RABBITMQ__OPERATION_TIMEOUT", "1s")
        .run()
        .await?
        .with_code(1)?;
    assert!(ended.stdout.contains("claimed 1, published 0, not published 1"), "{ended:?}");
    assert!(ended.stderr.contains("messages not published"), "{ended:?}");
    assert_eq!(fleet.stored(1).await?.generation(), 0);
    fleet.dissolve().await
}
