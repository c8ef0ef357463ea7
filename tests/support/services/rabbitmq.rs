//! A private RabbitMQ with its management API, and the private `epmd` that Erlang wants beside it.

mod broker;
mod epmd;

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lapin::{Connection, ConnectionProperties};

use self::broker::Broker;
use self::epmd::Epmd;
use super::root::Root;
use crate::management::Management;
use crate::waiting::eventually;

/// Longer than the broker holds anything in memory only, and than those need who declare it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running RabbitMQ server with the user `guest`; killed and removed when dropped. The broker is dropped first:
/// one without its `epmd` would start another that outlives us.
pub struct RabbitMq {
    broker: Broker,
    _epmd: Epmd,
}

impl RabbitMq {
    /// Whether this machine has the programs at all.
    pub fn is_installed() -> bool {
        let root = Root::of_environment();
        broker::find_server(&root).is_some() && root.find(epmd::PROGRAM).is_some()
    }

    /// Starts a broker on free ports.
    pub async fn start() -> Result<Self> {
        Self::start_counting_every(Duration::from_secs(1)).await
    }

    /// The same with statistics that are so old at most.
    pub async fn start_counting_every(interval: Duration) -> Result<Self> {
        let epmd = Epmd::start().await?;
        let broker = Broker::create(epmd.port(), interval)?;
        let mut rabbitmq = Self { broker, _epmd: epmd };
        rabbitmq.launch().await?;
        Ok(rabbitmq)
    }

    /// `amqp://guest:guest@127.0.0.1:PORT`, without a virtual host; stays the same over restarts.
    pub fn url(&self) -> String {
        format!("amqp://guest:guest@{}:{}", Ipv4Addr::LOCALHOST, self.broker.amqp_port)
    }

    /// `http://guest:guest@127.0.0.1:PORT`; stays the same over restarts.
    pub fn management_url(&self) -> String {
        format!("http://guest:guest@{}:{}", Ipv4Addr::LOCALHOST, self.broker.management_port)
    }

    /// Shuts down in good order.
    pub async fn stop(&mut self) -> Result<()> {
        self.broker.instance.stop().await
    }

    /// Waits until a SIGKILL would leave these quorum queues of the virtual host `/` as they are. For some seconds the broker
    /// holds their names in memory only, and one whose name it has lost never has a leader again (seen with RabbitMQ 3.10,
    /// whose `ra` starts it as one that awaits its first election).
    pub async fn writes_down(&self, queues: &[String]) -> Result<()> {
        eventually("the broker has written down its queues", PATIENCE, async || {
            ensure!(self.broker.has_written_down(queues)?, "names are missing on disk");
            Ok(())
        })
        .await
    }

    /// SIGKILL; messages that were confirmed are there after a restart. Queues and exchanges are, too, unless they
    /// were declared in the last few seconds: see [`RabbitMq::writes_down`].
    pub fn kill(&mut self) -> Result<()> {
        self.broker.instance.kill()
    }

    /// Starts anew on the same ports and data, after a SIGKILL where it still runs.
    pub async fn restart(&mut self) -> Result<()> {
        self.broker.instance.kill()?;
        self.launch().await
    }

    /// Stops the broker's clock: connections stay open, nothing is answered.
    pub fn freeze(&self) -> Result<()> {
        self.broker.instance.freeze()
    }

    /// Lets a frozen broker go on.
    pub fn thaw(&self) -> Result<()> {
        self.broker.instance.thaw()
    }

    /// Raises the memory alarm, or ends it: while it stands, the broker reads nothing from connections that publish.
    pub async fn alarm(&mut self, is_raised: bool) -> Result<()> {
        let watermark = if is_raised { "0.000001" } else { "0.8" };
        self.control(&["set_vm_memory_high_watermark", watermark]).await
    }

    /// Lets a quorum queue of the virtual host `/` stand still: it answers nobody, and all others go on.
    pub async fn suspend(&self, queue: &str) -> Result<()> {
        self.control(&["eval", &format!("sys:suspend('%2F_{queue}').")]).await
    }

    /// Lets a queue that stands still go on; what was sent to it meanwhile has not been lost.
    pub async fn resume(&self, queue: &str) -> Result<()> {
        self.control(&["eval", &format!("sys:resume('%2F_{queue}').")]).await
    }

    async fn control(&self, arguments: &[&str]) -> Result<()> {
        let mut command = self.broker.control(arguments)?;
        let ended = tokio::task::spawn_blocking(move || command.output())
            .await?
            .context("cannot start rabbitmqctl")?;
        ensure!(ended.status.success(), "rabbitmqctl: {}", String::from_utf8_lossy(&ended.stderr));
        Ok(())
    }

    async fn launch(&mut self) -> Result<()> {
        let command = self.broker.command()?;
        let (url, management) = (self.url(), Management::new(&self.management_url())?);
        self.broker.instance.launch(command, async || answers(&url, &management).await).await
    }
}

async fn answers(url: &str, management: &Management) -> Result<()> {
    management.get("api/overview").await?;
    let connection =
        Connection::connect(url, ConnectionProperties::default()).await.context("no connection")?;
    connection.close(200, "".into()).await.context("the connection does not close")
}
