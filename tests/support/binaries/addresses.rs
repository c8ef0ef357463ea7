//! Addresses that are of no help to whoever connects to them.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

use anyhow::Result;
use tokio::net::TcpSocket;

/// A port that is taken and on which nobody listens: connections are refused as long as this lives.
pub struct DesertedAddress(TcpSocket);

impl DesertedAddress {
    /// Takes a free port of 127.0.0.1.
    pub fn take() -> Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Self(socket))
    }

    /// Where it is.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.0.local_addr()?)
    }
}

/// A port that accepts connections and never says a word.
pub struct MuteAddress(TcpListener);

impl MuteAddress {
    /// Takes a free port of 127.0.0.1. The kernel accepts what nobody takes from its queue.
    pub fn take() -> Result<Self> {
        Ok(Self(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?))
    }

    /// Where it is.
    pub fn address(&self) -> Result<SocketAddr> {
        Ok(self.0.local_addr()?)
    }
}
