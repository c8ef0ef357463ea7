//! Who does the same work: the product, and those that it is measured against.

use anyhow::Result;
use lapin::BasicProperties;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable};
use serde_json::json;

use crate::peers;
use crate::process::{Process, Program};
use crate::stage::{Stage, URGENT};

/// Celery's messages have a form of their own, hence a queue of their own, of the same kind.
const CELERY_QUEUE: &str = "celery.refresh";

/// One that refreshes connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Contestant {
    /// This many workers of the product.
    Freshet { workers: usize },
    /// The same crates without the guarantees.
    Floor,
    /// A worker by hand on Node.
    Node,
    /// A Celery worker.
    Celery,
}

impl Contestant {
    pub(crate) const FRESHET: Self = Self::Freshet { workers: 1 };

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Freshet { .. } => "Freshet",
            Self::Floor => "grouped floor",
            Self::Node => "Node",
            Self::Celery => "Celery",
        }
    }

    /// The queue that it takes its messages from.
    pub(crate) fn queue(self) -> &'static str {
        match self {
            Self::Celery => CELERY_QUEUE,
            _ => URGENT,
        }
    }

    /// Fetches what it is made of, where it is none of our own.
    pub(crate) async fn prepare(self) -> Result<()> {
        match self {
            Self::Freshet { .. } | Self::Floor => Ok(()),
            Self::Node => peers::node::install().await,
            Self::Celery => peers::celery::install().await,
        }
    }

    /// Puts a message for each expired connection, of which there are `count`, into its queue.
    pub(crate) async fn fill(self, stage: &Stage, count: u64) -> Result<()> {
        match self {
            Self::Celery => publish_tasks(stage, count).await,
            _ => stage.publish_expired(count).await,
        }
    }

    /// Starts its processes.
    pub(crate) fn start(self, stage: &Stage) -> Result<Vec<Process>> {
        let folder = stage.folder.path();
        let programs = match self {
            Self::Freshet { workers } => (0..workers).map(|_| stage.worker()).collect::<Result<_>>()?,
            Self::Floor => vec![floor(stage)?],
            Self::Node => vec![peers::node::program()?.variables(peer_environment(self, stage))],
            Self::Celery => vec![peers::celery::program()?.variables(peer_environment(self, stage))],
        };
        programs.into_iter().map(|program| program.start(folder)).collect()
    }
}

fn floor(stage: &Stage) -> Result<Program> {
    let provider = format!("http://{}", stage.provider_address);
    Ok(Program::beside("bench-floor")?
        .arguments(["--mysql", &stage.mysql_url()])
        .arguments(["--amqp", &stage.amqp_url()])
        .arguments(["--queue", URGENT])
        .arguments(["--redis", &stage.redis_url()])
        .arguments(["--provider", &provider]))
}

fn peer_environment(contestant: Contestant, stage: &Stage) -> [(&'static str, String); 5] {
    [
        ("MYSQL_URL", stage.mysql_url()),
        ("AMQP_URL", stage.amqp_url()),
        ("REDIS_URL", stage.redis_url()),
        ("QUEUE", contestant.queue().to_owned()),
        ("PROVIDER_URL", format!("http://{}", stage.provider_address)),
    ]
}

/// Messages in the form that Celery's own clients publish (protocol 2).
async fn publish_tasks(stage: &Stage, count: u64) -> Result<()> {
    let connection = stage.broker().await?;
    let channel = connection.create_channel().await?;
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    channel.queue_declare(CELERY_QUEUE.into(), QueueDeclareOptions::durable(), arguments).await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    for id in 1..=count {
        let text = |text: String| AMQPValue::LongString(text.into());
        let mut headers = FieldTable::default();
        headers.insert("lang".into(), text("py".into()));
        headers.insert("task".into(), text("refresh".into()));
        headers.insert("id".into(), text(format!("refresh-{id}")));
        let properties = BasicProperties::default()
            .with_delivery_mode(2)
            .with_content_type("application/json".into())
            .with_content_encoding("utf-8".into())
            .with_correlation_id(format!("refresh-{id}").into())
            .with_headers(headers);
        let body = json!([[id], {}, {"callbacks": null, "errbacks": null, "chain": null, "chord": null}]);
        let options = BasicPublishOptions::default();
        channel
            .basic_publish("".into(), CELERY_QUEUE.into(), options, body.to_string().as_bytes(), properties)
            .await?;
    }
    channel.wait_for_confirms().await?;
    Ok(connection.close(200, "".into()).await?)
}
