//! A private Redis. It keeps nothing on disk: a killed and restarted one is empty, as a lost cache is.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use fred::prelude::{Builder, ClientLike, Config};

use super::instance::Instance;
use super::ports::free_port;
use super::programs::{ending_with_us, find, require};
use super::root::Root;

const PROGRAM: &str = "redis-server";

/// A running Redis server; killed and removed when dropped.
pub struct Redis {
    instance: Instance,
    port: u16,
}

impl Redis {
    /// Whether this machine has the program at all.
    pub fn is_installed() -> bool {
        find(PROGRAM).is_some()
    }

    /// Starts a server on a free port.
    pub async fn start() -> Result<Self> {
        let mut redis = Self { instance: Instance::create("redis", Root::machine())?, port: free_port()? };
        redis.launch().await?;
        Ok(redis)
    }

    /// `redis://127.0.0.1:PORT`; stays the same over restarts.
    pub fn url(&self) -> String {
        format!("redis://{}:{}", Ipv4Addr::LOCALHOST, self.port)
    }

    /// Shuts down in good order.
    pub async fn stop(&mut self) -> Result<()> {
        self.instance.stop().await
    }

    /// SIGKILL.
    pub fn kill(&mut self) -> Result<()> {
        self.instance.kill()
    }

    /// Starts anew on the same port, after a SIGKILL where it still runs. The keys are gone.
    pub async fn restart(&mut self) -> Result<()> {
        self.instance.kill()?;
        self.launch().await
    }

    /// Stops the server's clock: connections stay open, nothing is answered.
    pub fn freeze(&self) -> Result<()> {
        self.instance.freeze()
    }

    /// Lets a frozen server go on.
    pub fn thaw(&self) -> Result<()> {
        self.instance.thaw()
    }

    async fn launch(&mut self) -> Result<()> {
        let mut command = ending_with_us(require(PROGRAM, "redis-server")?);
        command
            .args(["--port", &self.port.to_string()])
            .args(["--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(self.instance.path());
        let url = self.url();
        self.instance.launch(command, async || answers(&url).await).await
    }
}

async fn answers(url: &str) -> Result<()> {
    let client = Builder::from_config(Config::from_url(url)?).build()?;
    client.init().await.context("no connection")?;
    client.ping::<()>(None).await.context("no answer to PING")?;
    client.quit().await.context("the connection does not close")?;
    Ok(())
}
