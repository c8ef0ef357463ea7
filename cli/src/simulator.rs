//! Marketplaces simulated on loopback HTTP: Fynd, KornitX, and the platform's own refresh-connection endpoint.
//!
//! `freshet dev` runs a whole fleet against it in one process, so a request costs O(1) and what is optional (the
//! ledger, scripts) costs nothing while unused. The flow tests use the same server with recording on: the ledger
//! keeps each request as it was on the wire, and scripts decide single answers.
//!
//! The order of events for one request: count, record, then the scripted answer if one is waiting, else latency,
//! a drawn fault, or the honest answer.

mod base64;
mod chance;
mod counts;
mod credentials;
mod form;
mod fynd;
mod kornitx;
mod ledger;
mod line;
mod mint;
mod platform;
mod provider;
mod received;
mod reply;
mod script;
mod settings;
mod site;
#[cfg(test)]
mod wire;

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

pub use axum::{
    body::Bytes,
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header},
};
pub use counts::Counts;
pub use credentials::Credentials;
pub use kornitx::SCOPE as KORNITX_SCOPE;
pub use ledger::{LedgerAnswer, LedgerEntry};
pub use provider::Provider;
pub use reply::Reply;
pub use script::{Matcher, ScriptedAnswer};
pub use settings::{Clock, Latency, Settings};

use line::Door;
use site::Site;

/// How long a stop waits for answers under way before it cuts their connections.
const GRACE: Duration = Duration::from_millis(500);

/// A running simulation. Dropping it stops it without waiting.
pub struct Simulator {
    site: Arc<Site>,
    address: SocketAddr,
    /// Ends the server in good order: no new connections, idle ones closed.
    stopping: CancellationToken,
    /// Cuts every connection that is still open.
    cut: CancellationToken,
    serving: JoinHandle<io::Result<()>>,
}

impl Simulator {
    /// Binds a free port of 127.0.0.1 and serves on it.
    ///
    /// # Errors
    /// `InvalidInput` where the settings contradict themselves (shares outside 0..=1 or over 1 together, a latency
    /// that ends before it begins), and whatever binding the port fails with.
    pub async fn start(settings: Settings) -> io::Result<Self> {
        settings.validate()?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let stopping = CancellationToken::new();
        let cut = CancellationToken::new();
        let site = Arc::new(Site::new(settings, stopping.clone()));
        let serving = tokio::spawn(
            axum::serve(Door::new(listener, cut.clone()), site::service(site.clone()))
                .with_graceful_shutdown(stopping.clone().cancelled_owned())
                .into_future(),
        );
        Ok(Self { site, address, stopping, cut, serving })
    }

    /// The `oms_host` of Fynd: `http://127.0.0.1:PORT/hogwarts`.
    pub fn fynd_base_url(&self) -> String {
        format!("http://{}{}", self.address, provider::FYND_BASE)
    }

    /// The token endpoint of KornitX: `http://127.0.0.1:PORT/token`.
    pub fn kornitx_token_url(&self) -> String {
        format!("http://{}{}", self.address, provider::KORNITX_TOKEN)
    }

    /// The platform's host, without a scheme: `127.0.0.1:PORT`.
    pub fn platform_host(&self) -> String {
        self.address.to_string()
    }

    /// The next requests that match get these answers in order; after the last one behaviour is normal again.
    ///
    /// A script for an account goes before one for its provider, and that before one for all. Scripts of equal
    /// matchers queue up.
    pub fn script(&self, matcher: Matcher, answers: impl IntoIterator<Item = ScriptedAnswer>) {
        self.site.scripts.add(matcher, answers);
    }

    /// Scripted answers that no request has taken yet; zero at the end of a test that used up its scripts.
    pub fn unused_scripted_answers(&self) -> usize {
        self.site.scripts.waiting()
    }

    /// Every request so far, in order of arrival; empty unless [`Settings::record`] is on.
    pub fn ledger(&self) -> Vec<LedgerEntry> {
        self.site.ledger.entries()
    }

    /// The counters, which run whether requests are recorded or not.
    pub fn counts(&self) -> Counts {
        self.site.counters.counts()
    }

    /// Stops accepting and ends the connections: idle ones at once, answers under way within half a second, delayed
    /// answers by a reset.
    pub async fn stop(mut self) {
        self.stopping.cancel();
        if tokio::time::timeout(GRACE, &mut self.serving).await.is_err() {
            self.cut.cancel();
            if let Err(error) = (&mut self.serving).await {
                tracing::warn!(%error, "the simulator's server ended badly");
            }
        }
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        self.stopping.cancel();
        self.cut.cancel();
    }
}

#[cfg(test)]
mod tests;
