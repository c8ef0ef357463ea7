//! A network that loses the other half of connections: both ends stay open, and hear nothing from each other any more.

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, Result};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// Between a server and whoever connects to it here; gone when dropped.
pub(crate) struct Network {
    address: SocketAddr,
    /// How many times it lost all that was connected.
    losses: watch::Sender<u32>,
    carried: Arc<AtomicUsize>,
    _accepting: AbortOnDropHandle<()>,
}

impl Network {
    /// To the server of `mysql://user:password@host:port`, or of `redis://host:port`.
    pub(crate) async fn to(server: &str) -> Result<Self> {
        let server: SocketAddr = server.rsplit(['@', '/']).next().context("no host")?.parse()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let (losses, carried) = (watch::Sender::new(0), Arc::new(AtomicUsize::new(0)));
        let address = listener.local_addr()?;
        let accepting = accept(listener, server, losses.clone(), carried.clone());
        Ok(Self { address, losses, carried, _accepting: AbortOnDropHandle::new(tokio::spawn(accepting)) })
    }

    /// Where it begins.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The way to a database over this network.
    pub(crate) fn url(&self) -> String {
        format!("mysql://freshet:freshet@{}", self.address)
    }

    /// From now on nothing passes on those connections that there are. Answers how many these are; new ones are carried.
    pub(crate) fn lose_all(&self) -> usize {
        self.losses.send_modify(|losses| *losses += 1);
        self.carried.swap(0, Ordering::SeqCst)
    }
}

async fn accept(
    listener: TcpListener,
    server: SocketAddr,
    losses: watch::Sender<u32>,
    carried: Arc<AtomicUsize>,
) {
    while let Ok((client, _)) = listener.accept().await {
        carried.fetch_add(1, Ordering::SeqCst);
        tokio::spawn(carry(client, server, losses.subscribe()));
    }
}

async fn carry(mut client: TcpStream, server: SocketAddr, mut losses: watch::Receiver<u32>) {
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    tokio::select! {
        // Ends with this test's runtime.
        Ok(()) = losses.changed() => pending().await,
        _ = copy_bidirectional(&mut client, &mut server) => {}
    }
}
