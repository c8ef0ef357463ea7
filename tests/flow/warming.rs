//! Redis loses everything, and is filled again without a call to any provider.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fred::prelude::{Builder, Client, ClientLike, Config, KeysInterface, LuaInterface};
use freshet_tests::binaries::Binary;
use freshet_tests::environment;
use freshet_tests::fleet::{PATIENCE, TestFleet};
use freshet_tests::services::Redis;
use freshet_tests::waiting::eventually;

/// Enough for several pages; a person may ask for more.
const CONNECTIONS: i64 = 2_500;

/// How many digits the statement that writes them counts with.
const DIGITS: &str = "(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 \
     UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";

/// Connections `1..=count` with tokens that are good for hours, stored by this fleet as generation 3; nothing is due. Each
/// tenth is the platform's own and was never refreshed by this fleet.
async fn refreshed_fleet(count: i64) -> Result<TestFleet> {
    let mut fleet = TestFleet::found().await?;
    fleet.environment.insert("FRESHET_REDIS__CHECK_EVERY".into(), "200ms".into());
    let numbers = format!(
        "(SELECT 1 + a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d AS i \
         FROM {DIGITS} a, {DIGITS} b, {DIGITS} c, {DIGITS} e, {DIGITS} f)"
    );
    for statement in [
        "INSERT INTO ie_appinstall_connection (id, isActive, accessToken, accessTokenExpiryAt, inputFields) \
         SELECT i, 'active', CONCAT('token-', i), UTC_TIMESTAMP(6) + INTERVAL 5 HOUR, \
           '{\"x-integration-id\":\"a\",\"x-integration-token\":\"b\"}'",
        "INSERT INTO channels (id, connectionId, account_id, channel_id, integrationType, additionalDetails) \
         SELECT i, i, i, 'main', '15', '{}'",
        "INSERT INTO token_refresh (connection_id, generation) SELECT i, 3",
    ] {
        fleet.execute(&format!("{statement} FROM {numbers} AS numbers WHERE i <= ?"), [count.into()]).await?;
    }
    fleet.execute("DELETE FROM token_refresh WHERE connection_id % 10 = 0", []).await?;
    Ok(fleet)
}

/// Waits until the token of every connection can be read, the newest of all as well as the first.
async fn until_filled(fleet: &TestFleet, client: &Client, count: i64) -> Result<()> {
    let key = |name: String| format!("{}{name}", fleet.keys.prefix());
    eventually("the cache is filled", PATIENCE, async || {
        let state: Option<String> = client.get(key("freshet:warm".into())).await?;
        ensure!(state.as_deref() == Some("warm"), "it is {state:?}");
        Ok(())
    })
    .await?;
    let wanted: Vec<i64> = (1..=count).collect();
    for ids in wanted.chunks(1_000) {
        let keys: Vec<String> = ids.iter().map(|id| key(format!("connectionAccessToken_{id}"))).collect();
        let tokens: Vec<Option<String>> = client.mget(keys).await?;
        for (id, token) in ids.iter().zip(tokens) {
            ensure!(token.with_context(|| format!("no token of {id}"))? == format!("token-{id}"));
        }
        let keys: Vec<String> = ids.iter().map(|id| key(format!("connectionDetail_{id}"))).collect();
        let details: Vec<Option<String>> = client.mget(keys).await?;
        ensure!(details.iter().all(Option::is_some), "details are missing");
    }
    Ok(())
}

#[tokio::test]
async fn a_redis_that_lost_everything_is_filled_by_one_worker_without_a_call() -> Result<()> {
    let count = match environment::optional(environment::WARM_CONNECTIONS) {
        Some(count) => count.parse().context("the number of connections is none")?,
        None => CONNECTIONS,
    };
    if !Redis::is_installed() {
        return Ok(());
    }
    let mut redis = Redis::start().await?;
    let client = Builder::from_config(Config::from_url(&redis.url())?).build()?;
    client.init().await?;
    let mut fleet = refreshed_fleet(count).await?;
    fleet.environment.insert("FRESHET_REDIS__URL".into(), redis.url());
    let start = || Binary::new("worker")?.arguments(["run"]).variables(&fleet.environment).start();
    let workers = [start()?, start()?];
    until_filled(&fleet, &client, count).await?;
    // Once more, under workers that run.
    let nothing: [&str; 0] = [];
    let _: () = client.eval("redis.call('FLUSHALL')", nothing.to_vec(), nothing.to_vec()).await?;
    let lost = Instant::now();
    until_filled(&fleet, &client, count).await?;
    let took = lost.elapsed();
    println!("{count} connections are readable again after {took:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
    for worker in workers {
        let _ = worker.terminate(PATIENCE).await?.with_code(0)?;
    }
    assert_eq!(fleet.calls().len(), 0);
    client.quit().await?;
    fleet.dissolve().await?;
    redis.stop().await
}

#[tokio::test]
async fn what_is_newer_in_redis_than_in_mysql_stays() -> Result<()> {
    let fleet = refreshed_fleet(3).await?;
    fleet.lose_redis().await?;
    let client = fleet.keys.client();
    let key = |name: &str| format!("{}{name}", fleet.keys.prefix());
    for (name, value) in [
        ("freshet:generation:2", "4"),
        ("connectionAccessToken_2", "newer"),
        ("connectionDetail_3", "[\"renewed\"]"),
    ] {
        let _: () = client.set(key(name), value, None, None, false).await?;
    }
    let worker = fleet.worker().await?;
    eventually("the cache is filled", PATIENCE, async || {
        let state: Option<String> = client.get(key("freshet:warm")).await?;
        ensure!(state.as_deref() == Some("warm"), "it is {state:?}");
        Ok(())
    })
    .await?;
    worker.stop().await?;
    let cache = fleet.cache().await?;
    assert_eq!(cache["connectionAccessToken_1"].value, "token-1");
    assert_eq!(cache["connectionAccessToken_2"].value, "newer");
    assert_eq!(cache["connectionDetail_3"].value, "[\"renewed\"]");
    fleet.dissolve().await
}
