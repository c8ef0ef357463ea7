//! Calls to providers over HTTP, through reqwest.
//!
//! What is sent may be spent by it, so there is one attempt: only a connection that did not come about is tried
//! again. The URL may hold a secret, so it comes up in no error, span or log; the template stands for it.
//!
//! A call goes to the hosts of its request alone, over TLS, and to no address of our own networks. [`guard`] judges the
//! URL, [`resolver`] the addresses on their way to the connector.

mod address;
mod body;
mod guard;
mod outgoing;
mod resolver;
mod span;

#[cfg(test)]
mod tests;

use std::error::Error as _;
use std::iter;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::RETRY_AFTER;
use reqwest::{Certificate, Client, Response, redirect, retry};
use thiserror::Error;
use tokio::time::Instant;
use tracing::{Instrument, Span, debug};

use crate::domain::provider::answer::ProviderAnswer;
use crate::domain::provider::egress::HostPattern;
use crate::domain::provider::request::ProviderRequest;
use crate::failpoints::{Point, reached};
use crate::persistence::{Patience, persist};
use crate::ports::provider::{CallError, ProviderCaller};

use guard::{Guard, Route};
use resolver::{LookUp, Refused, Resolver, SystemLookUp};

/// For how long a connection that does not come about is tried again; a longer trouble is for the next job.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_millis(800);

/// Shorter than the 5 s after which common servers close an idle connection. A request that meets that moment is lost,
/// and nobody knows whether it was spent.
const KEEP_IDLE_CONNECTIONS: Duration = Duration::from_secs(4);

/// How providers are called.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// For finding the address, connecting and TLS. Shorter than `timeout`: whether anything was sent when the
    /// time of the call is over must never be in doubt.
    pub connect_timeout: Duration,
    /// For the whole call, the answer's last byte included.
    pub timeout: Duration,
    /// An answer with a longer body is refused.
    pub max_answer_bytes: usize,
    /// The `User-Agent` header.
    pub user_agent: String,
    /// Hosts that the operator named: they may be called without TLS, and at any address. That a host stands here does
    /// not yet let a request go to it.
    pub allow: Vec<HostPattern>,
}

/// Why no caller could be made.
#[derive(Debug, Error)]
pub enum HttpError {
    /// The time-outs contradict each other.
    #[error("the time-out for connecting must be more than 0 and shorter than the one for the whole call")]
    TimeOuts,
    /// A mistake in the program.
    #[error("no TLS provider is installed: install rustls' ring provider first thing in `main`")]
    NoTlsProvider,
    /// The `User-Agent` is not valid, or the system has no certificates.
    #[error(
        "the HTTP client cannot be made: check the user agent, and that the system's CA certificates are installed \
         (in Debian the package ca-certificates)"
    )]
    Client(#[source] reqwest::Error),
}

/// Calls providers over HTTP.
pub struct HttpCaller {
    guard: Guard,
    /// Connects to checked addresses alone.
    checked: Client,
    /// Connects to any address. A client of its own, so that no connection of this kind is ever used for the other.
    excepted: Client,
    settings: HttpSettings,
}

/// The network below; a test brings its own.
struct Network {
    look_up: Arc<dyn LookUp>,
    /// The address from which connections go out, where it is not the system's choice.
    source: Option<IpAddr>,
    /// Authorities that are trusted beside the system's.
    trusted: Vec<Certificate>,
}

impl HttpCaller {
    /// A caller; its connections are shared by all calls.
    ///
    /// # Errors
    /// When settings or system do not allow one.
    pub fn new(settings: HttpSettings) -> Result<Self, HttpError> {
        Self::on(&Network { look_up: Arc::new(SystemLookUp), source: None, trusted: Vec::new() }, settings)
    }

    fn on(network: &Network, settings: HttpSettings) -> Result<Self, HttpError> {
        if settings.connect_timeout.is_zero() || settings.connect_timeout >= settings.timeout {
            return Err(HttpError::TimeOuts);
        }
        // reqwest would panic.
        if rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err(HttpError::NoTlsProvider);
        }
        Ok(Self {
            guard: Guard { allow: settings.allow.clone() },
            checked: client(network, &settings, true)?,
            excepted: client(network, &settings, false)?,
            settings,
        })
    }

    async fn send(&self, request: &ProviderRequest) -> Result<ProviderAnswer, CallError> {
        let deadline = Instant::now() + self.settings.timeout;
        // Every attempt begins early enough to have all its time for connecting before the call's time is over.
        let patience =
            CONNECT_PATIENCE.min(self.settings.timeout.saturating_sub(self.settings.connect_timeout));
        let mut before: (u32, Option<Span>) = (0, None);
        persist(
            Patience::within(FIRST_PAUSE, LONGEST_PAUSE, patience),
            || {
                let (tries, last) = &mut before;
                let span = span::of(request, *tries, last.as_ref());
                *tries += 1;
                *last = Some(span.clone());
                async move {
                    let outcome = self.attempt(request, deadline).instrument(span.clone()).await;
                    span::record_outcome(&span, &outcome);
                    outcome
                }
            },
            |error| matches!(error, CallError::NotConnected { .. }),
            |error, pause| debug!(%error, ?pause, "trying to connect again"),
        )
        .await
    }

    async fn attempt(
        &self,
        request: &ProviderRequest,
        deadline: Instant,
    ) -> Result<ProviderAnswer, CallError> {
        let response = self.execute(request, deadline).await?;
        let status = response.status().as_u16();
        let retry_after =
            response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::to_owned);
        reached(Point::DuringCall).await;
        let body = body::read(response, self.settings.max_answer_bytes, &request.endpoint).await?;
        Ok(ProviderAnswer { status, retry_after, body })
    }

    async fn execute(&self, request: &ProviderRequest, deadline: Instant) -> Result<Response, CallError> {
        let mut outgoing = outgoing::build(request)?;
        let blocked = |problem| CallError::Blocked { endpoint: request.endpoint.clone(), problem };
        let client = match self.guard.route(outgoing.url(), &request.egress).map_err(blocked)? {
            Route::Checked => &self.checked,
            Route::Excepted => &self.excepted,
        };
        // Not before: a host that is not the provider's may be anything that somebody has entered.
        span::record_server(outgoing.url());
        *outgoing.timeout_mut() = Some(deadline.saturating_duration_since(Instant::now()));
        client.execute(outgoing).await.map_err(|error| {
            if let Some(problem) = refused(&error) {
                blocked(problem)
            } else if error.is_connect() {
                CallError::NotConnected { endpoint: request.endpoint.clone() }
            } else if error.is_builder() {
                CallError::Unsendable { endpoint: request.endpoint.clone(), problem: "it is not valid HTTP" }
            } else {
                lost(&error, &request.endpoint, "the connection ended before the answer came")
            }
        })
    }
}

#[async_trait]
impl ProviderCaller for HttpCaller {
    async fn call(&self, request: &ProviderRequest) -> Result<ProviderAnswer, CallError> {
        self.send(request).await
    }
}

fn client(network: &Network, settings: &HttpSettings, is_checking: bool) -> Result<Client, HttpError> {
    Client::builder()
        .user_agent(settings.user_agent.as_str())
        .connect_timeout(settings.connect_timeout)
        .pool_idle_timeout(KEEP_IDLE_CONNECTIONS)
        // One connection of HTTP/2 carries all calls to a host. Should it be dead, without a word from the network, each call
        // would wait for its whole time, and the next ones too. So calls that wait ask whether somebody is there.
        .http2_keep_alive_interval(settings.connect_timeout)
        .http2_keep_alive_timeout(settings.connect_timeout)
        .tls_certs_merge(network.trusted.iter().cloned())
        .dns_resolver(Resolver { look_up: network.look_up.clone(), is_checking })
        .local_address(network.source)
        .https_only(is_checking)
        // A redirect would take the secret to a host that the definition does not allow.
        .redirect(redirect::Policy::none())
        // By default it sends again what a server says to have refused unread.
        .retry(retry::never())
        // A proxy out of the environment would see what is sent without TLS, and would choose addresses itself, past
        // our egress rules. Who wants one has to say so to us, not to the environment.
        .no_proxy()
        .referer(false)
        .build()
        .map_err(|error| HttpError::Client(error.without_url()))
}

/// What the resolver said, where it refused every address.
fn refused(error: &reqwest::Error) -> Option<&'static str> {
    iter::successors(error.source(), |error| (*error).source())
        .find_map(|source| source.downcast_ref::<Refused>())
        .map(|refused| refused.0)
}

/// Takes nothing of the error but its kind: its text names the URL, and its sources may.
fn lost(error: &reqwest::Error, endpoint: &str, otherwise: &'static str) -> CallError {
    let problem = if error.is_timeout() { "the time for the call was over" } else { otherwise };
    CallError::AnswerLost { endpoint: endpoint.to_owned(), problem }
}
