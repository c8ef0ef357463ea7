//! Erlang's port mapper. We start our own: a node that finds none starts a daemon that outlives it.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use tokio::net::TcpStream;

use super::super::instance::Instance;
use super::super::ports::free_port;
use super::super::root::Root;

pub(super) const PROGRAM: &str = "epmd";

pub(super) struct Epmd {
    /// Held for its end.
    _instance: Instance,
    port: u16,
}

impl Epmd {
    pub(super) async fn start() -> Result<Self> {
        let mut instance = Instance::create("epmd", Root::of_environment())?;
        let port = free_port()?;
        let mut command = instance.root().command(instance.root().require(PROGRAM, "erlang-base")?);
        command.args(["-address", "127.0.0.1", "-port", &port.to_string()]);
        let listens = async || {
            let connection = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await;
            connection.map(drop).context("it does not listen")
        };
        instance.launch(command, listens).await?;
        Ok(Self { _instance: instance, port })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }
}
