//! A token endpoint (RFC 6749) with a model behind it: the oracle that tests of refreshing are judged by.
//!
//! The model knows which client secrets count, which refresh tokens are spent, and which access tokens are valid. A
//! ledger tells every request in order: whose it was, what the model did, and what the caller got to see. The two come
//! apart where a [`Fault`] is scripted: the model may have spent a refresh token whose successor nobody ever sees.
//!
//! The server speaks HTTP by hand, because the simulator of `freshet dev` stands on a library that frames every answer
//! correctly: it can neither announce more than it sends nor stop in the middle.

mod answer;
mod caller;
mod connection;
mod credentials;
mod definition;
mod delivery;
mod family;
mod fault;
mod fleet;
mod ledger;
mod model;
mod request;
mod script;
mod settings;
mod state;

#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::waiting::eventually;

pub use caller::DefinedCaller;
pub use credentials::Client;
pub use definition::{DefinitionOptions, Grant, SecretOf};
pub use fault::{Fault, RetryAfter};
pub use fleet::DefinedFleet;
pub use ledger::{CALLER_HEADER, Did, GrantType, LedgerEntry, Refusal, Sent};
pub use model::{Denied, Granted, Model};
pub use settings::{ClientAuthentication, Rotation, Settings, Successor};

use state::State;

/// Where the token endpoint is.
const PATH: &str = "/token";

/// A running server. Dropping it ends every connection, those included on which it was scripted to hang.
pub struct ModelProvider {
    address: SocketAddr,
    state: Arc<State>,
    _running: DropGuard,
}

impl ModelProvider {
    /// Serves on a free port of 127.0.0.1. It knows no client and no account yet.
    pub async fn start(settings: Settings) -> Result<Self> {
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no loopback port is free")?;
        let address = listener.local_addr().context("the listener has no address")?;
        let state = Arc::new(State::new(settings));
        let shutdown = CancellationToken::new();
        tokio::spawn(connection::accept(listener, state.clone(), shutdown.clone()));
        Ok(Self { address, state, _running: shutdown.drop_guard() })
    }

    /// The token endpoint: `http://127.0.0.1:PORT/token`.
    pub fn token_url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts these secrets of a client, all of them, and no others; an unknown client becomes known. Without any the
    /// client is refused.
    pub fn set_client_secrets(&self, client: &str, secrets: &[&str]) {
        self.state.model(|model| model.set_client_secrets(client, secrets));
    }

    /// The merchant authorises: an account gets a family of refresh tokens, of which this is the first. A family that it
    /// had before ends.
    pub fn authorise(&self, account: &str, client: &str) -> String {
        let now = self.state.now();
        self.state.model(|model| model.authorise(account, client, now))
    }

    /// The merchant takes the authorisation back: the account's refresh tokens and their access tokens end.
    pub fn revoke(&self, account: &str) {
        self.state.model(|model| model.revoke(account));
    }

    /// The account's next requests meet these, in order; after the last one behaviour is good again.
    pub fn script(&self, account: &str, faults: impl IntoIterator<Item = Fault>) {
        self.state.scripts(|scripts| scripts.add(Some(account), faults));
    }

    /// The next requests of whatever account meet these, unless their account has a script of its own.
    pub fn script_next(&self, faults: impl IntoIterator<Item = Fault>) {
        self.state.scripts(|scripts| scripts.add(None, faults));
    }

    /// From now on every request for which no script is left meets this; `None` ends it.
    pub fn set_standing_fault(&self, fault: Option<Fault>) {
        self.state.scripts(|scripts| scripts.standing = fault);
    }

    /// Scripted faults that no request has met; zero at the end of a test whose script was played.
    pub fn unused_faults(&self) -> usize {
        self.state.scripts(|scripts| scripts.waiting())
    }

    /// Every request so far, in the order in which the model saw them.
    pub fn ledger(&self) -> Vec<LedgerEntry> {
        self.state.ledger()
    }

    /// When the first request after this moment arrived.
    pub fn called_after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.state.called_after(moment)
    }

    /// The account's requests so far.
    pub fn calls(&self, account: &str) -> usize {
        self.count(account, |_| true)
    }

    /// How many of them the model granted, whether or not the caller learnt of it.
    pub fn grants(&self, account: &str) -> usize {
        self.count(account, |entry| matches!(entry.did, Did::Granted { .. }))
    }

    /// How many of them presented a refresh token that was spent, and ended the family.
    pub fn reuse_detections(&self, account: &str) -> usize {
        self.count(account, |entry| entry.did == Did::ReuseDetected)
    }

    /// The newest refresh token of the account that is good, if any is.
    pub fn refresh_token(&self, account: &str) -> Option<String> {
        let now = self.state.now();
        self.state.model(|model| model.refresh_token(account, now))
    }

    /// The serial number, within its account, of a refresh token that the model has made: 1 is the first of all.
    pub fn serial_of(&self, refresh_token: &str) -> Option<u64> {
        self.state.model(|model| model.serial_of(refresh_token))
    }

    /// Every access token of the account that is valid now, the oldest first.
    pub fn access_tokens(&self, account: &str) -> Vec<String> {
        let now = self.state.now();
        self.state.model(|model| model.access_tokens(account, now))
    }

    /// Whether an API behind this provider would take the access token now.
    pub fn is_valid(&self, access_token: &str) -> bool {
        let now = self.state.now();
        self.state.model(|model| model.is_valid(access_token, now))
    }

    /// Waits until so many requests have arrived in all, answered or not.
    pub async fn until_called(&self, requests: usize, deadline: Duration) -> Result<()> {
        eventually("the model provider has been called", deadline, async || {
            let arrived = self.ledger().len();
            ensure!(arrived >= requests, "{arrived} of {requests} requests have arrived");
            Ok(())
        })
        .await
    }

    /// Waits until every request that has arrived was answered, or given up by one side.
    pub async fn until_settled(&self, deadline: Duration) -> Result<()> {
        eventually("the model provider has settled every request", deadline, async || {
            let pending = self.ledger().iter().filter(|entry| entry.sent == Sent::Pending).count();
            ensure!(pending == 0, "{pending} requests are under way");
            Ok(())
        })
        .await
    }

    /// A provider definition that points here.
    pub fn definition(&self, options: &DefinitionOptions) -> String {
        options.text(&self.token_url())
    }

    fn count(&self, account: &str, is_meant: impl Fn(&LedgerEntry) -> bool) -> usize {
        let ledger = self.ledger();
        ledger.iter().filter(|entry| entry.account.as_deref() == Some(account) && is_meant(entry)).count()
    }
}
