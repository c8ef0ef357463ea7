//! A virtual host of a test's own: exchanges and queues that no other test sees.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::Url;
use serde_json::{Value, json};

use super::cleanup::best_effort;
use super::unique_name;
use crate::environment::{RABBITMQ_MANAGEMENT_URL, RABBITMQ_URL, required};
use crate::management::Management;
use crate::waiting::eventually;

/// An empty virtual host with a unique name, deleted at the end.
pub struct TestVhost {
    management: Management,
    management_url: String,
    name: String,
    url: String,
    deleted: bool,
}

/// A queue as the management API's statistics show it: up to seconds late, `None` before the first of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueState {
    /// The queue's name.
    pub name: String,
    /// All messages in the queue.
    pub messages: Option<u64>,
    /// Messages that wait for a consumer.
    pub ready: Option<u64>,
    /// Messages that a consumer has and has not acknowledged.
    pub unacknowledged: Option<u64>,
}

impl TestVhost {
    /// Creates the virtual host on the server that `TEST_RABBITMQ_URL` and `TEST_RABBITMQ_MANAGEMENT_URL` name,
    /// and lets the user of the former do everything in it.
    pub async fn create() -> Result<Self> {
        let mut url =
            Url::parse(&required(RABBITMQ_URL)?).with_context(|| format!("{RABBITMQ_URL} is not a URL"))?;
        let management_url = required(RABBITMQ_MANAGEMENT_URL)?;
        let management = Management::new(&management_url)?;
        // With a slash in the name, whoever forgets to encode it finds out.
        let name = format!("test/{}", unique_name());
        url.set_path(&encoded(&name));
        let user =
            percent_decode_str(url.username()).decode_utf8().context("the user is not UTF-8")?.into_owned();
        management.put(&format!("api/vhosts/{}", encoded(&name)), &json!({})).await?;
        // Made before the permissions, so that a failure there still deletes the virtual host.
        let vhost = Self { management, management_url, name, url: url.into(), deleted: false };
        let permissions = format!("api/permissions/{}/{}", encoded(&vhost.name), encoded(&user));
        vhost.management.put(&permissions, &json!({"configure": ".*", "write": ".*", "read": ".*"})).await?;
        Ok(vhost)
    }

    /// The virtual host's name, not encoded.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The server's AMQP URL with this virtual host in it, percent-encoded.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The management API of the server.
    pub fn management(&self) -> &Management {
        &self.management
    }

    /// A connection into this virtual host, for what a test itself declares, publishes and reads.
    pub async fn connect(&self) -> Result<Connection> {
        let connection = Connection::connect(&self.url, ConnectionProperties::default()).await;
        connection.context("no connection to the RabbitMQ server of the tests")
    }

    /// The queues in name order. The names are exact, the numbers late: see [`QueueState`].
    pub async fn queues(&self) -> Result<Vec<QueueState>> {
        let path = format!("api/queues/{}?sort=name", encoded(&self.name));
        let answer = self.management.get(&path).await?;
        let queues = answer.as_array().context("the list of queues is not a list")?;
        queues.iter().map(queue_state).collect()
    }

    /// How many messages wait in the queue for a consumer, exactly and now. Only a quorum queue whose broker has
    /// just restarted counts too few, until its leader has read its log.
    pub async fn ready_messages(&self, queue: &str) -> Result<u32> {
        let connection = self.connect().await?;
        let ready = ready_messages(&connection, queue).await?;
        connection.close(200, "".into()).await?;
        Ok(ready)
    }

    /// The same for all queues that hold any, by name.
    pub async fn all_ready_messages(&self) -> Result<BTreeMap<String, u32>> {
        let connection = self.connect().await?;
        let mut all = BTreeMap::new();
        for queue in self.queues().await? {
            let ready = ready_messages(&connection, &queue.name).await?;
            if ready > 0 {
                all.insert(queue.name, ready);
            }
        }
        connection.close(200, "".into()).await?;
        Ok(all)
    }

    /// Waits until no queue holds a message, neither ready nor in a consumer's hands. The latter comes from the
    /// late statistics; with all consumers stopped their messages are ready again and the answer is exact.
    pub async fn until_drained(&self, deadline: Duration) -> Result<()> {
        eventually("no queue holds a message", deadline, async || {
            let ready = self.all_ready_messages().await?;
            ensure!(ready.is_empty(), "ready messages: {ready:?}");
            let held: Vec<QueueState> = self
                .queues()
                .await?
                .into_iter()
                .filter(|queue| queue.unacknowledged.unwrap_or(0) > 0)
                .collect();
            ensure!(held.is_empty(), "unacknowledged messages: {held:?}");
            Ok(())
        })
        .await
    }

    /// Deletes the virtual host with all in it; the server closes connections that are still open.
    pub async fn delete_vhost(mut self) -> Result<()> {
        self.deleted = true;
        delete(&self.management, &self.name).await
    }
}

impl Drop for TestVhost {
    fn drop(&mut self) {
        if !self.deleted {
            let (url, name) = (self.management_url.clone(), self.name.clone());
            best_effort(&format!("the virtual host {}", self.name), async move {
                delete(&Management::new(&url)?, &name).await
            });
        }
    }
}

async fn delete(management: &Management, name: &str) -> Result<()> {
    management.delete(&format!("api/vhosts/{}", encoded(name))).await
}

async fn ready_messages(connection: &Connection, queue: &str) -> Result<u32> {
    // A queue that is not there costs the channel.
    let channel = connection.create_channel().await?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(queue.into(), passive, FieldTable::default()).await;
    let declared = declared.with_context(|| format!("cannot look into the queue {queue}"))?;
    channel.close(200, "".into()).await?;
    Ok(declared.message_count())
}

fn queue_state(queue: &Value) -> Result<QueueState> {
    let number = |field: &str| queue.get(field).and_then(Value::as_u64);
    Ok(QueueState {
        name: queue.get("name").and_then(Value::as_str).context("a queue without a name")?.to_owned(),
        messages: number("messages"),
        ready: number("messages_ready"),
        unacknowledged: number("messages_unacknowledged"),
    })
}

fn encoded(part: &str) -> String {
    utf8_percent_encode(part, NON_ALPHANUMERIC).to_string()
}
