//! Tests that run side by side do not see each other.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Result, ensure};
use fred::prelude::{Expiration, KeysInterface};
use freshet_tests::isolation::{TestDatabase, TestKeys, TestVhost};
use freshet_tests::waiting::eventually;
use lapin::BasicProperties;
use lapin::options::{BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

#[tokio::test]
async fn two_databases_hold_tables_of_the_same_name() -> Result<()> {
    let (one, other) = (TestDatabase::create().await?, TestDatabase::create().await?);
    for (database, value) in [(&one, 1), (&other, 2)] {
        let connection = database.connect().await?;
        connection.execute_unprepared("CREATE TABLE thing (value BIGINT, name VARCHAR(20))").await?;
        connection.execute_unprepared(&format!("INSERT INTO thing VALUES ({value}, '🌊')")).await?;
        connection.close().await?;
    }
    for (database, expected) in [(&one, 1), (&other, 2)] {
        let connection = database.connect().await?;
        let query = Statement::from_string(DbBackend::MySql, "SELECT value, name FROM thing");
        let rows = connection.query_all_raw(query).await?;
        let rows: Vec<(i64, String)> = rows
            .iter()
            .map(|row| row.try_get_many("", &["value".into(), "name".into()]))
            .collect::<Result<_, _>>()?;
        assert_eq!(rows, [(expected, "🌊".to_owned())]);
        connection.close().await?;
    }
    one.drop_database().await?;
    other.drop_database().await
}

#[tokio::test]
async fn a_database_goes_even_when_its_test_fails() -> Result<()> {
    let kept = TestDatabase::create().await?;
    let forgotten = TestDatabase::create().await?;
    let name = forgotten.name().to_owned();
    drop(forgotten);
    let query = format!("SELECT 1 FROM information_schema.schemata WHERE schema_name = '{name}'");
    let connection = kept.connect().await?;
    assert!(connection.query_one_raw(Statement::from_string(DbBackend::MySql, query)).await?.is_none());
    connection.close().await?;
    kept.drop_database().await
}

#[tokio::test]
async fn two_vhosts_hold_queues_of_the_same_name() -> Result<()> {
    let (one, other) = (TestVhost::create().await?, TestVhost::create().await?);
    for (vhost, messages) in [(&one, 3), (&other, 0)] {
        let connection = vhost.connect().await?;
        let channel = connection.create_channel().await?;
        channel.confirm_select(ConfirmSelectOptions::default()).await?;
        channel.queue_declare("things".into(), QueueDeclareOptions::durable(), FieldTable::default()).await?;
        for _ in 0..messages {
            let published = channel.basic_publish(
                "".into(),
                "things".into(),
                BasicPublishOptions::default(),
                b"thing",
                BasicProperties::default(),
            );
            published.await?.await?;
        }
        connection.close(200, "".into()).await?;
    }
    assert_eq!(one.ready_messages("things").await?, 3);
    assert_eq!(one.all_ready_messages().await?, BTreeMap::from([("things".to_owned(), 3)]));
    assert!(other.all_ready_messages().await?.is_empty());
    other.until_drained(Duration::from_secs(10)).await?;
    one.delete_vhost().await?;
    other.delete_vhost().await
}

#[tokio::test]
async fn a_message_in_a_consumers_hands_is_not_drained() -> Result<()> {
    let vhost = TestVhost::create().await?;
    let connection = vhost.connect().await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    channel.queue_declare("things".into(), QueueDeclareOptions::durable(), FieldTable::default()).await?;
    let options = BasicPublishOptions::default();
    channel
        .basic_publish("".into(), "things".into(), options, b"thing", BasicProperties::default())
        .await?
        .await?;
    let taken = channel.basic_get("things".into(), BasicGetOptions::default()).await?;
    assert!(taken.is_some());
    eventually("the statistics show it", Duration::from_secs(30), async || {
        let queues = vhost.queues().await?;
        let held: Vec<_> = queues.iter().map(|queue| (queue.ready, queue.unacknowledged)).collect();
        ensure!(held == [(Some(0), Some(1))], "they show {queues:?}");
        Ok(())
    })
    .await?;
    assert!(vhost.until_drained(Duration::from_millis(200)).await.is_err());
    connection.close(200, "".into()).await?;
    assert_eq!(vhost.ready_messages("things").await?, 1);
    vhost.delete_vhost().await
}

#[tokio::test]
async fn keys_are_seen_under_their_own_prefix_only() -> Result<()> {
    let (one, other) = (TestKeys::create().await?, TestKeys::create().await?);
    let lasting = format!("{}lasting", one.prefix());
    let passing = format!("{}passing", one.prefix());
    one.client().set::<(), _, _>(lasting, "a", None, None, false).await?;
    one.client().set::<(), _, _>(passing, "b", Some(Expiration::EX(60)), None, false).await?;
    let entries = one.entries().await?;
    let seen: Vec<(&str, &str, bool)> = entries
        .iter()
        .map(|(name, entry)| (name.as_str(), entry.value.as_str(), entry.time_to_live.is_some()))
        .collect();
    assert_eq!(seen, [("lasting", "a", false), ("passing", "b", true)]);
    let time_to_live = entries.get("passing").and_then(|entry| entry.time_to_live);
    assert!(time_to_live.is_some_and(|left| (30..=60).contains(&left.as_secs())), "{time_to_live:?}");
    assert!(other.entries().await?.is_empty());
    one.delete_keys().await?;
    other.delete_keys().await
}
