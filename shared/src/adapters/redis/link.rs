//! The connections to Redis: made in the background, made again whenever they are lost.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fred::clients::Client;
use fred::error::{Error, ErrorKind};
use fred::interfaces::{ClientLike, EventInterface};
use fred::types::Builder;
use fred::types::config::{Config, ConnectionConfig, ReconnectPolicy, UnresponsiveConfig};
use futures_util::FutureExt;
use futures_util::future::Fuse;
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::domain::connection::ConnectionId;

use super::RedisSettings;
use super::problem::Problem;
use super::silence::{Silence, UNRESPONSIVE_AFTER};

/// How long connecting may take, and each step of the handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// More commands than this are never queued on one connection.
const BUFFERED_COMMANDS: usize = 10_000;
const FIRST_RECONNECT_MS: u32 = 50;
const LAST_RECONNECT_MS: u32 = 5_000;
/// Between two lives of fred's own connection task, which should not end.
const PAUSE_AFTER_END: Duration = Duration::from_secs(1);

/// One connection.
pub(super) struct Link {
    client: Client,
    silence: Arc<Silence>,
    /// Tells its keeper to make another one.
    given_up: Arc<Notify>,
}

impl Link {
    /// What a command over it comes to.
    pub(super) async fn ask<T, F>(&self, command: impl FnOnce(Client) -> F) -> Result<T, Error>
    where
        F: Future<Output = Result<T, Error>>,
    {
        let asked_at = Instant::now();
        let answer = command(self.client.clone()).await;
        match &answer {
            Err(error) if *error.kind() == ErrorKind::Timeout => {
                if self.silence.lasts(asked_at, Instant::now()) {
                    self.given_up.notify_one();
                }
            }
            // Neither did anything come nor was anything waited for.
            Err(error) if matches!(error.kind(), ErrorKind::Backpressure | ErrorKind::Canceled) => {}
            // Also an error comes from the server, or says that there is another connection now.
            Ok(_) | Err(_) => self.silence.broken(Instant::now()),
        }
        answer
    }
}

/// The connections.
pub(super) struct Links {
    links: Vec<Link>,
    /// Somebody has waited for a connection in vain, so the others need not.
    is_away: AtomicBool,
    /// Why connecting failed when it last did.
    trouble: watch::Receiver<Problem>,
    patience: Duration,
    /// Ends with `self`.
    _keepers: JoinSet<()>,
}

impl Links {
    pub(super) fn open(settings: &RedisSettings) -> Result<Self, Problem> {
        if settings.connections == 0 || settings.command_timeout.is_zero() {
            return Err(Problem::new("the number of connections and the command's time-out must not be 0"));
        }
        let config = config(settings)?;
        let mut links = Vec::with_capacity(settings.connections);
        let mut keepers = JoinSet::new();
        let (heard, trouble) = watch::channel(Problem::not_connected(None));
        for _ in 0..settings.connections {
            let client = Builder::from_config(config.clone())
                .with_connection_config(tune)
                .with_performance_config(|performance| {
                    performance.default_command_timeout = settings.command_timeout;
                })
                // 0 attempts: for ever.
                .set_policy(ReconnectPolicy::new_exponential(0, FIRST_RECONNECT_MS, LAST_RECONNECT_MS, 2))
                .build()?;
            let (silence, given_up) = (Arc::<Silence>::default(), Arc::<Notify>::default());
            keepers.spawn(keep(client.clone(), heard.clone(), silence.clone(), given_up.clone()));
            links.push(Link { client, silence, given_up });
        }
        let is_away = AtomicBool::new(false);
        Ok(Self { links, is_away, trouble, patience: settings.command_timeout, _keepers: keepers })
    }

    /// How many connections there are.
    pub(super) fn count(&self) -> usize {
        self.links.len()
    }

    /// Which connection carries the commands about `id`. It is always the same one, so that commands about one connection
    /// arrive in the order in which they were sent: a clearing whose answer did not come in time must not overtake the token
    /// that was written after it.
    pub(super) fn index(&self, id: ConnectionId) -> usize {
        let count = i64::try_from(self.links.len()).unwrap_or(i64::MAX);
        usize::try_from(id.0.rem_euclid(count.max(1))).unwrap_or_default()
    }

    /// The connection that carries the commands about a provider, always the same one.
    pub(super) async fn of_provider(&self, name: &str) -> Result<&Link, Problem> {
        let sum = name.bytes().fold(0, |sum: usize, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        self.at(sum.checked_rem(self.links.len()).unwrap_or_default()).await
    }

    /// How long a connection is waited for, and then an answer.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// The connection, once it is there.
    ///
    /// When Redis has just gone, or the process has just begun, this waits a while; as long as Redis stays away,
    /// it does not, so that an outage of the cache does not slow every refresh down.
    pub(super) async fn at(&self, index: usize) -> Result<&Link, Problem> {
        let link = self.links.get(index).ok_or_else(|| Problem::not_connected(None))?;
        let client = &link.client;
        if !client.is_connected() {
            if self.is_away.load(Ordering::Relaxed) {
                return Err(self.trouble.borrow().clone());
            }
            // What it says does not matter: it may have missed the moment.
            let _ = tokio::time::timeout(self.patience, client.wait_for_connect()).await;
            if !client.is_connected() {
                self.is_away.store(true, Ordering::Relaxed);
                return Err(self.trouble.borrow().clone());
            }
        }
        self.is_away.store(false, Ordering::Relaxed);
        Ok(link)
    }

    pub(super) async fn close(&self) {
        for link in &self.links {
            // Whether Redis hears of it or not: we are going.
            let _ = link.client.quit().await;
        }
    }
}

/// fred's task ends where it should go on, for example when its buffer is so full that it cannot queue its own wish
/// to reconnect. So it is started again, until somebody closes the connection.
async fn keep(client: Client, heard: watch::Sender<Problem>, silence: Arc<Silence>, given_up: Arc<Notify>) {
    let mut errors = client.error_rx();
    let mut life = AbortOnDropHandle::new(client.connect());
    let mut again = pin!(Fuse::terminated());
    loop {
        let end = tokio::select! {
            end = &mut life => end,
            Ok((error, _)) = errors.recv() => {
                heard.send_replace(Problem::not_connected(Some(error)));
                continue;
            }
            () = given_up.notified() => {
                tracing::warn!(
                    "a connection to Redis says nothing, {UNRESPONSIVE_AFTER:?} and more after a command: another one is made"
                );
                let client = client.clone();
                // What it says does not matter: whoever asks hears whether there is a connection.
                again.set(async move { drop(client.force_reconnection().await) }.fuse());
                continue;
            }
            () = &mut again => {
                silence.broken(Instant::now());
                continue;
            }
        };
        match end {
            Ok(Ok(())) => return,
            Ok(Err(error)) if error.is_canceled() => return,
            Ok(Err(_)) | Err(_) => tokio::time::sleep(PAUSE_AFTER_END).await,
        }
        life = AbortOnDropHandle::new(client.connect());
    }
}

fn config(settings: &RedisSettings) -> Result<Config, Problem> {
    let url = settings.url.expose();
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    // fred takes any other for plain Redis.
    if !matches!(scheme, "redis" | "rediss" | "redis-sentinel" | "rediss-sentinel") {
        return Err(Problem::new(
            "its URL begins with none of redis://, rediss://, redis-sentinel:// and rediss-sentinel:// \
             (Redis Cluster is not supported)",
        ));
    }
    // The error is not passed on: it may hold parts of the URL.
    let mut config = Config::from_url(url).map_err(|_| {
        Problem::new("its URL is not understood: check it; rediss:// also needs the system's CA certificates")
    })?;
    // Otherwise the first attempt would be the last.
    config.fail_fast = false;
    Ok(config)
}

fn tune(connection: &mut ConnectionConfig) {
    connection.connection_timeout = CONNECT_TIMEOUT;
    connection.internal_command_timeout = CONNECT_TIMEOUT;
    connection.max_command_buffer_len = BUFFERED_COMMANDS;
    // A command that may have been carried out is not sent again behind our back.
    connection.max_command_attempts = 1;
    connection.reconnect_on_auth_error = true;
    connection.unresponsive =
        UnresponsiveConfig { max_timeout: Some(UNRESPONSIVE_AFTER), interval: Duration::from_secs(1) };
}
