//! The cache: one table of behaviour for the one in Redis and the one in the process, and what only a server can do
//! to us: forget scripts, go away, hang, come back.

mod behaviour;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use fred::clients::Client;
use fred::interfaces::{ClientLike, LuaInterface};
use fred::types::Builder;
use fred::types::config::Config;
use freshet_shared::adapters::embedded::cache::InProcessCache;
use freshet_shared::adapters::embedded::clock::ManualClock;
use freshet_shared::adapters::redis::{RedisCache, RedisSettings};
use freshet_shared::domain::connection::{ConnectionId, Generation, IdempotencyKey};
use freshet_shared::domain::secret::Secret;
use freshet_shared::ports::cache::{Cache, CacheError, Put, TokenEntry};
use freshet_tests::isolation::{Entry, TestKeys};
use freshet_tests::services::Redis;
use freshet_tests::waiting::eventually;
use tokio::task::JoinSet;

use crate::silent_database::network::Network;
use behaviour::cache_behaviour;

const COMMAND_TIMEOUT: Duration = Duration::from_millis(500);
/// What a loaded machine adds.
const SLACK: Duration = Duration::from_secs(2);

/// The cache asks its clock for the time that is left only, so the time itself may be any.
fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::new(DateTime::UNIX_EPOCH))
}

fn connect(url: &str, prefix: &str) -> Result<RedisCache, CacheError> {
    let settings = RedisSettings {
        url: Secret::new(url),
        key_prefix: prefix.into(),
        command_timeout: COMMAND_TIMEOUT,
        connections: 2,
    };
    RedisCache::connect(settings, clock())
}

fn entry(id: i64, generation: i64, expires_at: DateTime<Utc>) -> TokenEntry {
    TokenEntry {
        connection_id: ConnectionId(id),
        generation: Generation(generation),
        token: Secret::new(format!("token {generation}")),
        expires_at: Some(expires_at),
        headers: Vec::new(),
    }
}

fn lasting(id: i64, generation: i64) -> TokenEntry {
    entry(id, generation, DateTime::UNIX_EPOCH + TimeDelta::hours(1))
}

async fn put(cache: &dyn Cache, entry: TokenEntry) -> Result<Put> {
    Ok(cache.put_token(&entry).await?)
}

#[tokio::test]
async fn the_cache_in_redis_behaves() -> Result<()> {
    let keys = TestKeys::create().await?;
    let cache = connect(keys.url(), keys.prefix())?;
    cache_behaviour(&cache, DateTime::UNIX_EPOCH, async |key: &str| Ok(keys.entries().await?.remove(key)))
        .await?;
    cache.close().await;
    keys.delete_keys().await
}

#[tokio::test]
async fn the_cache_in_the_process_behaves() -> Result<()> {
    let clock = clock();
    let cache = InProcessCache::new(clock.clone());
    let read = async |key: &str| {
        let left = cache.expires_at(key).map(|expires_at| (expires_at - DateTime::UNIX_EPOCH).to_std());
        let time_to_live = left.transpose()?;
        Ok(cache.get(key).map(|value| Entry { value, time_to_live }))
    };
    cache_behaviour(&cache, DateTime::UNIX_EPOCH, read).await
}

#[tokio::test]
async fn a_token_in_redis_goes_when_its_time_has_come() -> Result<()> {
    let keys = TestKeys::create().await?;
    let cache = connect(keys.url(), keys.prefix())?;
    put(&cache, entry(1, 1, DateTime::UNIX_EPOCH + TimeDelta::milliseconds(300))).await?;
    eventually("only the generation is left", Duration::from_secs(10), async || {
        let names: BTreeSet<String> = keys.entries().await?.into_keys().collect();
        ensure!(names == BTreeSet::from(["freshet:generation:1".to_owned()]), "there are {names:?}");
        Ok(())
    })
    .await?;
    keys.delete_keys().await
}

#[tokio::test]
async fn of_many_writers_the_newest_wins() -> Result<()> {
    const GENERATIONS: i64 = 200;
    let keys = TestKeys::create().await?;
    // Two processes, as two workers are.
    let caches = [connect(keys.url(), keys.prefix())?, connect(keys.url(), keys.prefix())?].map(Arc::new);
    let mut writers = JoinSet::new();
    for number in 0..GENERATIONS {
        // 77 has no divisor in common with 200, so this is every generation once, in no order.
        let generation = number * 77 % GENERATIONS + 1;
        let Some(cache) = caches.get(usize::from(number % 2 == 0)).cloned() else { bail!("there are two") };
        writers.spawn(async move { put(cache.as_ref(), lasting(1, generation)).await });
    }
    let mut written = 0;
    while let Some(outcome) = writers.join_next().await {
        written += u32::from(outcome?? == Put::Written);
    }
    ensure!(written >= 1, "nobody wrote");
    let entries = keys.entries().await?;
    let values = ["connectionAccessToken_1", "freshet:generation:1"].map(|key| &entries[key].value);
    assert_eq!(values, ["token 200", "200"]);
    keys.delete_keys().await
}

/// What other systems left under a name of ours concerns the connection whose it is, and nobody whose command goes along.
#[tokio::test]
async fn one_entry_that_cannot_be_written_fails_alone() -> Result<()> {
    const BROKEN: i64 = 120;
    let keys = TestKeys::create().await?;
    let cache = Arc::new(connect(keys.url(), keys.prefix())?);
    let generation = format!("{}freshet:generation:{BROKEN}", keys.prefix());
    let hash = "redis.call('HSET', KEYS[1], 'a', 'b')";
    keys.client().eval::<(), _, _, _>(hash, vec![generation], Vec::<String>::new()).await?;
    let mut writers = JoinSet::new();
    // Multiples of twelve share a connection to Redis, whether there are one, two, three or four.
    for id in (12..=600).step_by(12) {
        let cache = cache.clone();
        writers.spawn(async move { (id, cache.put_token(&lasting(id, 1)).await) });
    }
    while let Some(outcome) = writers.join_next().await {
        match outcome? {
            (BROKEN, put) => {
                let error = put.err().context("it was written")?.to_string();
                ensure!(error.contains("WRONGTYPE") && !error.contains("token 1"), "{error}");
            }
            (_, put) => assert_eq!(put?, Put::Written),
        }
    }
    keys.delete_keys().await
}

async fn visitor(redis: &Redis) -> Result<Client> {
    let client = Builder::from_config(Config::from_url(&redis.url())?).build()?;
    client.init().await?;
    Ok(client)
}

#[tokio::test]
async fn forgotten_scripts_are_sent_again() -> Result<()> {
    let redis = Redis::start().await?;
    let cache = connect(&redis.url(), "")?;
    let visitor = visitor(&redis).await?;
    let key = IdempotencyKey { connection_id: ConnectionId(1), generation: Generation(1) };
    for generation in 1..=3 {
        visitor.script_flush(false).await?;
        assert_eq!(put(&cache, lasting(1, generation)).await?, Put::Written);
        visitor.script_flush(false).await?;
        assert!(cache.begin(key, "a", Duration::from_secs(9)).await?);
        visitor.script_flush(false).await?;
        cache.finish(key, "a").await?;
        assert!(cache.begin(key, "b", Duration::from_secs(9)).await?);
        cache.finish(key, "b").await?;
    }
    Ok(())
}

/// Every operation fails in time, with words that say nothing of what was to be stored.
async fn fails_in_time(cache: &RedisCache, within: Duration) -> Result<()> {
    let key = IdempotencyKey { connection_id: ConnectionId(1), generation: Generation(1) };
    let started = Instant::now();
    let errors = tokio::join!(
        cache.clear(ConnectionId(1), &["order_ship"]),
        cache.put_details(ConnectionId(1), "[]", &[]),
        async { cache.put_token(&lasting(1, 1)).await.map(drop) },
        async { cache.begin(key, "holder", Duration::from_secs(9)).await.map(drop) },
        cache.finish(key, "holder"),
    );
    let elapsed = started.elapsed();
    ensure!(elapsed < within, "it took {elapsed:?}");
    for outcome in <[Result<(), CacheError>; 5]>::from(errors) {
        let error = outcome.err().context("it went well")?.to_string();
        ensure!(error.contains("Redis") && !error.contains("token 1") && !error.contains("127.0"), "{error}");
    }
    Ok(())
}

async fn works_again(cache: &RedisCache) -> Result<()> {
    eventually("the cache works again", Duration::from_secs(30), async || {
        ensure!(put(cache, lasting(1, 1)).await? == Put::Written, "it is refused");
        ensure!(put(cache, lasting(2, 1)).await? == Put::Written, "it is refused on the other connection");
        Ok(())
    })
    .await
}

#[tokio::test]
async fn a_redis_that_comes_late_or_goes_away_is_no_reason_to_stop() -> Result<()> {
    let mut redis = Redis::start().await?;
    redis.kill()?;
    let cache = connect(&redis.url(), "")?;
    fails_in_time(&cache, COMMAND_TIMEOUT + SLACK).await?;
    // As long as it stays away nobody waits for it again.
    fails_in_time(&cache, COMMAND_TIMEOUT / 2).await?;
    redis.restart().await?;
    works_again(&cache).await?;

    redis.kill()?;
    fails_in_time(&cache, 2 * COMMAND_TIMEOUT + SLACK).await?;
    redis.restart().await?;
    works_again(&cache).await
}

#[tokio::test]
async fn a_redis_that_hangs_is_left_in_time() -> Result<()> {
    let redis = Redis::start().await?;
    let cache = connect(&redis.url(), "")?;
    works_again(&cache).await?;
    redis.freeze()?;
    fails_in_time(&cache, COMMAND_TIMEOUT + SLACK).await?;
    // Past the time after which a silent connection is given up.
    tokio::time::sleep(Duration::from_secs(6)).await;
    fails_in_time(&cache, COMMAND_TIMEOUT + SLACK).await?;
    redis.thaw()?;
    works_again(&cache).await
}

/// Nobody is told that it is silent, and there is never a pause in which it could be seen.
#[tokio::test]
async fn a_connection_that_stays_silent_is_left_also_while_it_is_used_all_the_time() -> Result<()> {
    let redis = Redis::start().await?;
    let network = Network::to(&redis.url()).await?;
    let cache = Arc::new(connect(&format!("redis://{}", network.address()), "")?);
    works_again(&cache).await?;
    let mut using = JoinSet::new();
    ensure!(network.lose_all() > 0, "nothing was connected");
    let lost = Instant::now();
    for id in [1, 2] {
        let cache = cache.clone();
        using.spawn(async move {
            while put(cache.as_ref(), lasting(id, 1)).await.is_err() {
                tokio::task::yield_now().await;
            }
        });
    }
    let all = async { while using.join_next().await.is_some() {} };
    tokio::time::timeout(Duration::from_secs(15), all).await.context("it is never left")?;
    ensure!(lost.elapsed() >= Duration::from_secs(3), "it was left after {:?}", lost.elapsed());
    Ok(())
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_without_their_password() -> Result<()> {
    for url in [
        "",
        "127.0.0.1:6379",
        "http://user:s3cret@127.0.0.1",
        "redis-cluster://:s3cret@127.0.0.1:6379",
        "redis://:s3cret@127.0.0.1:66379",
    ] {
        let error = connect(url, "").err().context(url)?.to_string();
        ensure!(!error.contains("s3cret") && error.contains("URL"), "{error}");
    }
    Ok(())
}
