//! The signals by which somebody wants us to end.

use anyhow::{Context, Result};
use nix::sys::signal::Signal as Name;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ctrl-C, a polite kill, a closed terminal. From its creation on none of them ends the process by itself.
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    /// Begins to listen.
    pub fn listen() -> Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen to signals");
        Ok(Self {
            interrupt: listen(SignalKind::interrupt())?,
            terminate: listen(SignalKind::terminate())?,
            hangup: listen(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub async fn received(&mut self) -> Name {
        tokio::select! {
            _ = self.interrupt.recv() => Name::SIGINT,
            _ = self.terminate.recv() => Name::SIGTERM,
            _ = self.hangup.recv() => Name::SIGHUP,
        }
    }
}
