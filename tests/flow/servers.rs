//! A private server that is killed comes back at the same address, with what it had promised to keep.
//!
//! These tests start servers of their own; where all services are given from outside, the programs may be missing
//! and there is nothing to test.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use fred::prelude::{Builder, Client, ClientLike, Config, KeysInterface};
use freshet_tests::services::{MariaDb, RabbitMq, Redis};
use freshet_tests::waiting::eventually;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Connection, ConnectionProperties};
use sea_orm::{ConnectionTrait, Database, DbBackend, Statement};

#[tokio::test]
async fn a_killed_mariadb_keeps_what_was_committed() -> Result<()> {
    if !MariaDb::is_installed() {
        return Ok(());
    }
    let mut server = MariaDb::start().await?;
    let url = server.url();
    let connection = Database::connect(&url).await?;
    connection.execute_unprepared("CREATE DATABASE kept").await?;
    connection.execute_unprepared("CREATE TABLE kept.thing (value BIGINT)").await?;
    connection.execute_unprepared("INSERT INTO kept.thing VALUES (7)").await?;
    server.kill()?;
    server.restart().await?;
    assert_eq!(server.url(), url);
    let connection = Database::connect(&url).await?;
    let query = Statement::from_string(DbBackend::MySql, "SELECT value FROM kept.thing");
    let row = connection.query_one_raw(query).await?;
    assert_eq!(row.map(|row| row.try_get::<i64>("", "value")).transpose()?, Some(7));
    server.stop().await
}

/// One that starts would else remove the other's temporary tables, and the other would crash.
#[tokio::test]
async fn of_two_mariadbs_each_has_a_temporary_folder_of_its_own() -> Result<()> {
    if !MariaDb::is_installed() {
        return Ok(());
    }
    let servers = tokio::try_join!(MariaDb::start(), MariaDb::start())?;
    let mut folders = Vec::new();
    for server in [&servers.0, &servers.1] {
        let connection = Database::connect(server.url()).await?;
        let query = Statement::from_string(DbBackend::MySql, "SELECT @@tmpdir AS folder, @@datadir AS data");
        let row = connection.query_one_raw(query).await?.context("no row")?;
        let (folder, data): (String, String) = (row.try_get("", "folder")?, row.try_get("", "data")?);
        let home = Path::new(&data).parent().context("no folder around the data")?;
        ensure!(Path::new(&folder).starts_with(home), "{folder} is not beside {data}");
        folders.push(folder);
    }
    assert_ne!(folders[0], folders[1]);
    Ok(())
}

#[tokio::test]
async fn a_killed_rabbitmq_keeps_what_was_confirmed() -> Result<()> {
    if !RabbitMq::is_installed() {
        return Ok(());
    }
    let mut server = RabbitMq::start().await?;
    let url = server.url();
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.queue_declare("kept".into(), QueueDeclareOptions::durable(), arguments).await?;
    // A declaration, unlike a message, reaches the disk only seconds after it is confirmed.
    server.writes_down(&["kept".to_owned()]).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let properties = BasicProperties::default().with_delivery_mode(2);
    let confirmed =
        channel.basic_publish("".into(), "kept".into(), BasicPublishOptions::default(), b"thing", properties);
    ensure!(confirmed.await?.await?.is_ack(), "the broker did not take the message");
    server.kill()?;
    server.restart().await?;
    assert_eq!(server.url(), url);
    let connection = Connection::connect(&url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    // A quorum queue counts only what its leader has applied, and a new leader has yet to read its log.
    eventually("the queue has its message back", Duration::from_secs(30), async || {
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare("kept".into(), passive, FieldTable::default()).await?;
        ensure!(queue.message_count() == 1, "it counts {}", queue.message_count());
        Ok(())
    })
    .await?;
    connection.close(200, "".into()).await?;
    Ok(())
}

#[tokio::test]
async fn a_killed_redis_comes_back_empty() -> Result<()> {
    if !Redis::is_installed() {
        return Ok(());
    }
    let mut server = Redis::start().await?;
    let url = server.url();
    let client = connect(&url).await?;
    client.set::<(), _, _>("thing", "a", None, None, false).await?;
    server.restart().await?;
    assert_eq!(server.url(), url);
    let client = connect(&url).await?;
    assert_eq!(client.get::<Option<String>, _>("thing").await?, None);
    client.quit().await?;
    server.stop().await
}

async fn connect(url: &str) -> Result<Client> {
    let client = Builder::from_config(Config::from_url(url)?).build()?;
    client.init().await?;
    Ok(client)
}
