//! `bench-floor`: the same work on the same crates with none of the guarantees, as the floor that the worker is measured
//! against.
//!
//! It takes whatever has gathered in its consumers, reads the inputs of all of them in one query, calls the provider for
//! all of them at once, stores all tokens in one update, sends the cache one pipeline, and acknowledges them with one
//! frame. What fails ends the process. There is no fence, no claim, no journal, no limit, no breaker, no log and no trace.
#![forbid(unsafe_code)]

use std::time::Duration;

use anyhow::{Context, Result, bail};
use chrono::{DateTime, TimeDelta, Utc};
use clap::Parser;
use fred::prelude::{Builder, Client, ClientLike, Config, Expiration, KeysInterface};
use freshet_shared::adapters::system::SystemClock;
use freshet_shared::ports::clock::Clock;
use futures_util::future::{FutureExt, try_join_all};
use futures_util::stream::StreamExt;
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties, Consumer};
use serde::Deserialize;
use serde_json::{Value, json};
use sqlx::Row;
use sqlx::mysql::{MySqlPool, MySqlPoolOptions, MySqlRow};

/// Refreshes that one round trip carries at most.
const GROUP: u16 = 256;
/// Groups at once, each with a channel of its own: acknowledging many with one frame goes by channel.
const GROUPS: usize = 4;

const READ: &str = "SELECT k.id, CAST(k.inputFields AS CHAR) AS inputFields, \
     c.id AS channel, c.account_id, CAST(c.channel_id AS CHAR) AS channel_id, \
     CAST(c.additionalDetails AS CHAR) AS additionalDetails \
     FROM JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$')) v \
     JOIN ie_appinstall_connection k ON k.id = v.id JOIN channels c ON c.connectionId = k.id";
const STORE: &str = "UPDATE JSON_TABLE(?, '$[*]' COLUMNS (id BIGINT PATH '$.id', token TEXT PATH '$.token')) v \
     JOIN ie_appinstall_connection k ON k.id = v.id \
     SET k.accessToken = v.token, k.accessTokenExpiryAt = ?, k.accessTokenGeneratedOn = ?";

#[derive(Parser)]
struct Arguments {
    #[arg(long)]
    mysql: String,
    #[arg(long)]
    amqp: String,
    #[arg(long)]
    queue: String,
    #[arg(long)]
    redis: String,
    #[arg(long)]
    provider: String,
}

#[derive(Clone)]
struct Services {
    mysql: MySqlPool,
    redis: Client,
    http: reqwest::Client,
    provider: String,
}

/// A connection as it is read, and the token that the provider gives for it.
struct Job {
    id: i64,
    username: String,
    password: String,
    details: String,
    token: String,
}

#[derive(Deserialize)]
struct Message {
    connection_id: i64,
}

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "accessToken")]
    access_token: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    freshet_shared::process::install_crypto();
    let arguments = Arguments::parse();
    let mysql = MySqlPoolOptions::new().max_connections(8).test_before_acquire(false);
    let redis = Builder::from_config(Config::from_url(&arguments.redis)?).build()?;
    redis.init().await?;
    let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(15)).build()?;
    let services =
        Services { mysql: mysql.connect(&arguments.mysql).await?, redis, http, provider: arguments.provider };
    let broker = Connection::connect(&arguments.amqp, ConnectionProperties::default()).await?;
    let consumers = (0..GROUPS).map(|_| consumer(&broker, &arguments.queue));
    let consumers = try_join_all(consumers).await?;
    let consuming = consumers.into_iter().map(|consumer| {
        let services = services.clone();
        tokio::spawn(async move { consume(consumer, &services).await })
    });
    for ended in try_join_all(consuming).await? {
        ended?;
    }
    bail!("the broker sends no more messages")
}

async fn consumer(broker: &Connection, queue: &str) -> Result<Consumer> {
    let channel = broker.create_channel().await?;
    channel.basic_qos(GROUP * 2, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    Ok(channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?)
}

async fn consume(mut consumer: Consumer, services: &Services) -> Result<()> {
    while let Some(first) = consumer.next().await {
        let mut group = vec![first?];
        while group.len() < GROUP.into()
            && let Some(Some(next)) = consumer.next().now_or_never()
        {
            group.push(next?);
        }
        refresh(&group, services).await?;
        let last = group.last().context("a group is never empty")?;
        last.acker.ack(BasicAckOptions { multiple: true }).await?;
    }
    Ok(())
}

async fn refresh(group: &[Delivery], services: &Services) -> Result<()> {
    let mut ids = Vec::with_capacity(group.len());
    for delivery in group {
        ids.push(serde_json::from_slice::<Message>(&delivery.data)?.connection_id);
    }
    let rows = sqlx::query(READ).bind(serde_json::to_string(&ids)?).fetch_all(&services.mysql).await?;
    let jobs = rows.iter().map(job).collect::<Result<Vec<_>>>()?;
    let jobs = try_join_all(jobs.into_iter().map(|job| call(job, services))).await?;
    store(&jobs, SystemClock.now(), &services.mysql).await?;
    let pipeline = services.redis.pipeline();
    for job in &jobs {
        let expiration = Some(Expiration::EX(3600));
        let (id, token, details) = (job.id, job.token.as_str(), job.details.as_str());
        pipeline
            .set::<(), _, _>(format!("connectionDetail_{id}"), details, expiration.clone(), None, false)
            .await?;
        pipeline
            .set::<(), _, _>(format!("connectionAccessToken_{id}"), token, expiration, None, false)
            .await?;
    }
    Ok(pipeline.last::<()>().await?)
}

fn job(row: &MySqlRow) -> Result<Job> {
    let id: i64 = row.try_get("id")?;
    let inputs: Value = serde_json::from_str(row.try_get("inputFields")?)?;
    let input = |name: &str| {
        let value = inputs.get(name).and_then(Value::as_str).map(str::to_owned);
        value.with_context(|| format!("connection {id} has no {name}"))
    };
    let details = json!([{
        "id": row.try_get::<i64, _>("channel")?,
        "account_id": row.try_get::<i64, _>("account_id")?,
        "channel_id": row.try_get::<&str, _>("channel_id")?,
        "additionalDetails": serde_json::from_str::<Value>(row.try_get("additionalDetails")?)?,
    }]);
    Ok(Job {
        id,
        username: input("x-integration-id")?,
        password: input("x-integration-token")?,
        details: details.to_string(),
        token: String::new(),
    })
}

async fn call(mut job: Job, services: &Services) -> Result<Job> {
    let mut url = reqwest::Url::parse(&services.provider)?;
    url.set_path("/api/v1/Eshopbox/shipment/authToken");
    url.query_pairs_mut().append_pair("username", &job.username).append_pair("password", &job.password);
    let answer = services.http.get(url).send().await?.error_for_status()?.bytes().await?;
    job.token = serde_json::from_slice::<Answer>(&answer)?.access_token;
    Ok(job)
}

async fn store(jobs: &[Job], now: DateTime<Utc>, mysql: &MySqlPool) -> Result<()> {
    let rows: Vec<Value> = jobs.iter().map(|job| json!({"id": job.id, "token": job.token})).collect();
    let time = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M:%S").to_string();
    sqlx::query(STORE)
        .bind(serde_json::to_string(&rows)?)
        .bind(time(now + TimeDelta::hours(1)))
        .bind(time(now))
        .execute(mysql)
        .await?;
    Ok(())
}
