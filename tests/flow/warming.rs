//! Redis loses everything, and is filled again without a call to any provider.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fred::prelude::{Builder, Client, ClientLike, Config, KeysInterface, LuaInterface};
use freshet_tests::binaries::{Binary, Process};
use freshet_tests::environment;
use freshet_tests::fleet::{FYND, PATIENCE, TestFleet, VERY};
use freshet_tests::services::Redis;
use freshet_tests::waiting::eventually;
use serde_json::{Value, json};

/// Enough for several pages; a person may ask for more.
const CONNECTIONS: i64 = 2_500;

/// What a worker says that has filled the cache.
const FILLED: &str = "the cache had lost everything, and is filled again";

/// What `is_very` says in SQL.
const IS_VERY: &str = "i % 4 >= 2";

/// Half of the connections, enrolled ones and others.
fn is_very(id: i64) -> bool {
    id % 4 >= 2
}

/// How many digits the statement that writes them counts with.
const DIGITS: &str = "(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 \
     UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";

/// Connections `1..=count`, Fynd's and Very's, with tokens that are good for hours, stored by this fleet as generation 3;
/// nothing is due. The token of each tenth is the platform's own and was never refreshed by this fleet.
async fn refreshed_fleet(count: i64) -> Result<TestFleet> {
    let mut fleet = TestFleet::found().await?;
    fleet.environment.insert("FRESHET_REDIS__CHECK_EVERY".into(), "200ms".into());
    let numbers = format!(
        "(SELECT 1 + a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d AS i \
         FROM {DIGITS} a, {DIGITS} b, {DIGITS} c, {DIGITS} e, {DIGITS} f)"
    );
    let fynd = r#"{"x-integration-id":"a","x-integration-token":"b"}"#;
    let very = r#"{"companyRefId":"850135","apiKey":"key-@","clientId":"c","clientSecret":"s"}"#;
    for statement in [
        &format!(
            "INSERT INTO ie_appinstall_connection (id, isActive, accessToken, accessTokenExpiryAt, inputFields) \
             SELECT i, 'active', CONCAT('token-', i), UTC_TIMESTAMP(6) + INTERVAL 5 HOUR, \
               CASE WHEN {IS_VERY} THEN REPLACE('{very}', '@', i) ELSE '{fynd}' END"
        ),
        &format!(
            "INSERT INTO channels (id, connectionId, account_id, channel_id, integrationType, additionalDetails) \
             SELECT i, i, i, 'main', CASE WHEN {IS_VERY} THEN '{VERY}' ELSE '{FYND}' END, '{{}}'"
        ),
        "INSERT INTO token_refresh (connection_id, generation) SELECT i, 3",
    ] {
        fleet.execute(&format!("{statement} FROM {numbers} AS numbers WHERE i <= ?"), [count.into()]).await?;
    }
    fleet.execute("DELETE FROM token_refresh WHERE connection_id % 10 = 0", []).await?;
    fleet.environment.insert("FRESHET_TELEMETRY__FILTER".into(), "info".into());
    Ok(fleet)
}

/// What others find of a connection whose cache is filled; `None` where any value will do.
fn expected(id: i64) -> Vec<(String, Option<String>)> {
    let mut entries = vec![
        (format!("connectionAccessToken_{id}"), Some(format!("token-{id}"))),
        (format!("connectionDetail_{id}"), None),
    ];
    if is_very(id) {
        for (operation, header) in [
            ("order_push", format!("Basic 850135:key-{id}")),
            ("stock_update", format!("Basic 850135:key-{id}")),
            ("order_ship", format!("Bearer token-{id}")),
            ("order_cancel", format!("Bearer token-{id}")),
            ("order_return", format!("Bearer token-{id}")),
        ] {
            entries.push((format!("connectionAuthorization_{id}:{operation}"), Some(header)));
        }
    }
    entries
}

/// All that can be read, by name, and whether it expires.
async fn readable(client: &Client) -> Result<BTreeMap<String, (String, bool)>> {
    const READ: &str = "local found = {} \
         for i, key in ipairs(KEYS) do \
           found[2 * i - 1], found[2 * i] = redis.call('GET', key), redis.call('PTTL', key) >= 0 and '1' or '0' \
         end \
         return found";
    let (mut names, mut cursor) = (BTreeSet::new(), "0".to_owned());
    loop {
        let (next, page): (String, Vec<String>) = client.scan_page(cursor, "*", Some(1_000), None).await?;
        names.extend(page);
        cursor = next;
        if cursor == "0" {
            break;
        }
    }
    let names: Vec<String> = names.into_iter().collect();
    let mut entries = BTreeMap::new();
    for names in names.chunks(1_000) {
        let found: Vec<String> = client.eval(READ, names.to_vec(), Vec::<String>::new()).await?;
        for (name, found) in names.iter().zip(found.chunks(2)) {
            let [value, expires] = found else { anyhow::bail!("no value of {name}") };
            entries.insert(name.clone(), (value.clone(), expires == "1"));
        }
    }
    Ok(entries)
}

/// What workers have said of filling the cache.
fn fillings(said: &[String]) -> Result<Vec<Value>> {
    let lines = said.iter().flat_map(|said| said.lines()).filter(|line| line.contains(FILLED));
    lines.map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
}

/// Waits until who has filled the cache says so: so often in all, and each time all of it.
async fn until_filled_by_one(workers: &[Process], times: usize, count: i64) -> Result<()> {
    eventually("who filled it says so", PATIENCE, async || {
        let fillings = fillings(&workers.iter().map(Process::stderr).collect::<Vec<_>>())?;
        ensure!(fillings.len() >= times, "it was filled {} times", fillings.len());
        assert_eq!(fillings.len(), times, "{fillings:#?}");
        for filling in &fillings {
            assert_eq!((&filling["connections"], &filling["passed_over"]), (&json!(count), &json!(0)));
        }
        Ok(())
    })
    .await
}

/// Waits until all of every connection can be read, of the newest of all as well as of the first.
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
        let expected: Vec<_> = ids.iter().flat_map(|id| expected(*id)).collect();
        let keys: Vec<String> = expected.iter().map(|(name, _)| key(name.clone())).collect();
        let found: Vec<Option<String>> = client.mget(keys).await?;
        for ((name, value), found) in expected.into_iter().zip(found) {
            let found = found.with_context(|| format!("{name} is not there"))?;
            ensure!(value.is_none_or(|value| value == found), "{name} is {found}");
        }
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
    until_filled_by_one(&workers, 1, count).await?;
    let before = readable(&client).await?;
    // Once more, under workers that run.
    let nothing: [&str; 0] = [];
    let _: () = client.eval("redis.call('FLUSHALL')", nothing.to_vec(), nothing.to_vec()).await?;
    let lost = Instant::now();
    until_filled(&fleet, &client, count).await?;
    let took = lost.elapsed();
    println!("{count} connections are readable again after {took:?}");
    assert!(took < Duration::from_secs(30), "{took:?}");
    until_filled_by_one(&workers, 2, count).await?;
    let after = readable(&client).await?;
    for (name, entry) in &before {
        assert_eq!(after.get(name), Some(entry), "{name} is not as before");
    }
    assert_eq!(after.len(), before.len());
    let mut said = Vec::new();
    for worker in workers {
        said.push(worker.terminate(PATIENCE).await?.with_code(0)?.stderr);
    }
    let fillings = fillings(&said)?;
    assert_eq!(fillings.len(), 2, "each time by one of the two: {fillings:#?}");
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
        ("connectionAuthorization_2:order_ship", "Bearer newer"),
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
    assert_eq!(cache["connectionAuthorization_2:order_ship"].value, "Bearer newer");
    assert_eq!(cache["connectionDetail_3"].value, "[\"renewed\"]");
    fleet.dissolve().await
}
