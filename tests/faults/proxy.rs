//! A TCP proxy between two parts of the fleet, which can be made as bad as a network may be.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It carries everything.
    Open,
    /// Everything arrives late.
    Slow(Duration),
    /// Connections are reset, and new ones too.
    Reset,
    /// What the server says does not arrive.
    HalfOpen,
    /// Nothing arrives, and nobody is told.
    BlackHole,
    /// The same, and for good: connections that were there stay silent when the network is well again, as behind a router that
    /// has forgotten them. New ones are carried then.
    Gone,
}

/// A proxy on loopback; ends when dropped, with its connections.
pub(crate) struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    _accepting: AbortOnDropHandle<()>,
}

impl Proxy {
    /// Carries connections to `server`.
    pub(crate) async fn start(server: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (mode, watched) = watch::channel(Mode::Open);
        let accepting = tokio::spawn(accept(listener, server, watched));
        Ok(Self { address, mode, _accepting: AbortOnDropHandle::new(accepting) })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on the network does this.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, mode: watch::Receiver<Mode>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        tokio::spawn(carry(client, server, mode.clone()));
    }
}

async fn carry(client: TcpStream, server: SocketAddr, mode: watch::Receiver<Mode>) {
    if *mode.borrow() == Mode::Reset {
        let _ = client.set_zero_linger();
        return;
    }
    let Ok(server) = TcpStream::connect(server).await else { return };
    // Resets are to be seen as such by both.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let _ = (client.set_zero_linger(), server.set_zero_linger());
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut resets, mut losses) = (mode.clone(), mode.clone());
    tokio::select! {
        biased;
        Ok(_) = losses.wait_for(|mode| *mode == Mode::Gone) => {}
        _ = resets.wait_for(|mode| *mode == Mode::Reset) => return,
        () = pump(&mut from_client, &mut to_server, mode.clone(), true) => return,
        () = pump(&mut from_server, &mut to_client, mode.clone(), false) => return,
    }
    // Neither hears that the other one has left.
    let swallowed = async { tokio::join!(swallow(&mut from_client), swallow(&mut from_server)) };
    tokio::select! {
        _ = swallowed => {}
        () = proxy_ends(mode) => {}
    }
}

/// Takes all that comes, and gives it to nobody.
async fn swallow(from: &mut OwnedReadHalf) {
    let _ = tokio::io::copy(from, &mut tokio::io::sink()).await;
}

async fn proxy_ends(mut mode: watch::Receiver<Mode>) {
    while mode.changed().await.is_ok() {}
}

/// Carries one direction to its end.
async fn pump(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    mut mode: watch::Receiver<Mode>,
    is_from_client: bool,
) {
    let mut chunk = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut chunk).await {
        // What does not arrive now arrives when the network is well again, as TCP has it, unless one of them has left.
        let passes = |mode: &Mode| match mode {
            Mode::BlackHole | Mode::Gone => false,
            Mode::HalfOpen => is_from_client,
            Mode::Open | Mode::Slow(_) | Mode::Reset => true,
        };
        let Ok(now) = mode.wait_for(passes).await.map(|mode| *mode) else { return };
        if let Mode::Slow(latency) = now {
            tokio::time::sleep(latency).await;
        }
        if to.write_all(chunk.get(..count).unwrap_or_default()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    /// A server that says everything back, a proxy to it, and a connection through that.
    async fn echo() -> (Proxy, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let server = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        let proxy = Proxy::start(server).await.unwrap();
        let stream = TcpStream::connect(proxy.address()).await.unwrap();
        (proxy, stream)
    }

    async fn said_back(stream: &mut TcpStream) -> std::io::Result<[u8; 4]> {
        let mut answer = [0; 4];
        stream.write_all(b"ping").await?;
        stream.read_exact(&mut answer).await?;
        Ok(answer)
    }

    #[tokio::test]
    async fn it_carries_and_delays() {
        let (proxy, mut stream) = echo().await;
        assert_eq!(&said_back(&mut stream).await.unwrap(), b"ping");
        proxy.set(Mode::Slow(Duration::from_millis(30)));
        let begun = tokio::time::Instant::now();
        said_back(&mut stream).await.unwrap();
        assert!(begun.elapsed() >= Duration::from_millis(60), "each way takes its time");
    }

    #[tokio::test]
    async fn it_resets_what_is_there_and_what_comes() {
        let (proxy, mut stream) = echo().await;
        said_back(&mut stream).await.unwrap();
        proxy.set(Mode::Reset);
        assert!(said_back(&mut stream).await.is_err());
        let mut next = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(said_back(&mut next).await.is_err());
        proxy.set(Mode::Open);
        let mut next = TcpStream::connect(proxy.address()).await.unwrap();
        said_back(&mut next).await.unwrap();
    }

    #[tokio::test]
    async fn what_it_swallows_comes_when_it_is_well_again() {
        for mode in [Mode::HalfOpen, Mode::BlackHole] {
            let (proxy, mut stream) = echo().await;
            said_back(&mut stream).await.unwrap();
            proxy.set(mode);
            let waiting = timeout(Duration::from_millis(100), said_back(&mut stream)).await;
            assert!(waiting.is_err(), "{mode:?}");
            proxy.set(Mode::Open);
            let mut answer = [0; 4];
            stream.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"ping", "{mode:?}");
        }
    }

    #[tokio::test]
    async fn what_is_gone_stays_so_and_what_comes_after_it_is_carried() {
        let (proxy, mut stream) = echo().await;
        said_back(&mut stream).await.unwrap();
        proxy.set(Mode::Gone);
        let is_silent = async |stream: &mut TcpStream| {
            timeout(Duration::from_millis(100), said_back(stream)).await.is_err()
        };
        assert!(is_silent(&mut stream).await);
        let mut meanwhile = TcpStream::connect(proxy.address()).await.unwrap();
        assert!(is_silent(&mut meanwhile).await);
        proxy.set(Mode::Open);
        assert!(is_silent(&mut stream).await && is_silent(&mut meanwhile).await, "they are not told either");
        let mut next = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(&said_back(&mut next).await.unwrap(), b"ping");
        // No more is left of the dead ones than of the others when the proxy ends.
        drop(proxy);
        let mut answer = [0; 1];
        let told = timeout(Duration::from_secs(5), stream.read(&mut answer)).await.unwrap();
        assert!(!matches!(told, Ok(1..)));
    }
}
