//! A part of the Redis key space of a test's own.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result};
use fred::prelude::{Builder, Client, ClientLike, Config, KeysInterface};

use super::cleanup::best_effort;
use super::unique_name;
use crate::environment::{REDIS_URL, required};

/// A key prefix that nobody else uses; the keys under it are deleted at the end.
pub struct TestKeys {
    url: String,
    prefix: String,
    client: Client,
    deleted: bool,
}

/// What a key holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The string under the key.
    pub value: String,
    /// How long it will still be there; `None` for good.
    pub time_to_live: Option<Duration>,
}

impl TestKeys {
    /// Takes a prefix on the server that `TEST_REDIS_URL` names.
    pub async fn create() -> Result<Self> {
        let url = required(REDIS_URL)?;
        let client = connect(&url).await?;
        Ok(Self { url, prefix: format!("{}:", unique_name()), client, deleted: false })
    }

    /// What the names of all keys of this test must begin with.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The server's URL; the prefix is not part of it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A connection to write and read keys with, under [`prefix`](Self::prefix).
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// All keys of this test, named without the prefix.
    pub async fn entries(&self) -> Result<BTreeMap<String, Entry>> {
        let mut entries = BTreeMap::new();
        for key in names(&self.client, &self.prefix).await? {
            let value: Option<String> =
                self.client.get(key.as_str()).await.with_context(|| format!("{key} is not a string"))?;
            let milliseconds: i64 = self.client.pttl(key.as_str()).await?;
            // Either may find the key expired meanwhile: the second says -2 then, and -1 of a key that stays.
            let (Some(value), -1..) = (value, milliseconds) else { continue };
            let time_to_live = u64::try_from(milliseconds).ok().map(Duration::from_millis);
            let name = key.strip_prefix(&self.prefix).unwrap_or(&key).to_owned();
            entries.insert(name, Entry { value, time_to_live });
        }
        Ok(entries)
    }

    /// Deletes all keys of this test.
    pub async fn delete_keys(mut self) -> Result<()> {
        self.deleted = true;
        delete(&self.client, &self.prefix).await
    }
}

impl Drop for TestKeys {
    fn drop(&mut self) {
        if !self.deleted {
            let (url, prefix) = (self.url.clone(), self.prefix.clone());
            best_effort(&format!("a key under {}", self.prefix), async move {
                delete(&connect(&url).await?, &prefix).await
            });
        }
    }
}

async fn connect(url: &str) -> Result<Client> {
    let config = Config::from_url(url).with_context(|| format!("{REDIS_URL} is not a Redis URL"))?;
    let client = Builder::from_config(config)
        .with_connection_config(|connection| connection.connection_timeout = Duration::from_secs(10))
        .build()
        .context("cannot build the Redis client")?;
    client.init().await.context("no connection to the Redis server of the tests")?;
    Ok(client)
}

/// A scan may name a key twice; the set does not.
async fn names(client: &Client, prefix: &str) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    let mut cursor = "0".to_owned();
    loop {
        let (next, page): (String, Vec<String>) = client
            .scan_page(cursor, format!("{prefix}*"), Some(1_000), None)
            .await
            .context("cannot scan the keys")?;
        names.extend(page);
        if next == "0" {
            return Ok(names);
        }
        cursor = next;
    }
}

async fn delete(client: &Client, prefix: &str) -> Result<()> {
    let names: Vec<String> = names(client, prefix).await?.into_iter().collect();
    if !names.is_empty() {
        client.del::<(), _>(names).await.with_context(|| format!("cannot delete the keys under {prefix}"))?;
    }
    client.quit().await.context("the connection does not close")
}
