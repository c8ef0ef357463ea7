//! The provider: a model that knows which tokens are good and which are spent, and the network before it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::domain::provider::answer::ProviderAnswer;
use freshet_shared::domain::provider::request::ProviderRequest;
use freshet_shared::ports::provider::{CallError, ProviderCaller};
use freshet_tests::model_provider::{Client, Denied, Model, Rotation, Settings};
use serde_json::json;

use crate::deadlines::Wait;
use crate::fleet::{Ledger, client_of, connection_of};
use crate::host::Host;
use crate::world::World;

/// How long a client waits for an answer.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// A breaker opens at half of 20 calls in a minute (`breaker`); no worker sees fewer failures than all do together.
const BREAKS_AFTER: usize = 10;
/// Or when so many of a worker's calls fail in a row.
const BREAKS_AFTER_IN_A_ROW: usize = 20;

/// How a provider fails all of its callers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outage {
    /// Connections are refused.
    Unreachable,
    /// It answers 503.
    Refusing,
    /// It takes requests and never answers. Nothing is done.
    Hanging,
}

/// What a provider takes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Requests in a second.
    pub(crate) per_second: u32,
    /// Requests at once after a silence.
    pub(crate) burst: u32,
    /// Requests that are under way at the same time.
    pub(crate) concurrency: u32,
}

/// One provider.
pub(crate) struct Marketplace {
    /// Its name in the definitions.
    pub(crate) name: &'static str,
    /// What it takes, if not all.
    pub(crate) limits: Option<Limits>,
    /// How long its access tokens live.
    pub(crate) lifetime: TimeDelta,
    inner: Mutex<Inner>,
}

struct Inner {
    model: Model,
    outage: Option<Outage>,
    /// When what it takes by its rate was last taken.
    arrivals: Vec<DateTime<Utc>>,
}

impl Marketplace {
    /// A provider whose refresh tokens behave like this.
    pub(crate) fn new(
        name: &'static str,
        rotation: Rotation,
        lifetime: TimeDelta,
        limits: Option<Limits>,
    ) -> Self {
        let settings = Settings { access_token_lifetime: lifetime, ..Settings::new(rotation) };
        let inner = Inner { model: Model::new(settings), outage: None, arrivals: Vec::new() };
        Self { name, limits, lifetime, inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on it fails all, or none.
    pub(crate) fn set_outage(&self, outage: Option<Outage>) {
        self.inner().outage = outage;
    }

    /// The merchant of a connection authorises: the refresh token that counts from now on.
    pub(crate) fn authorise(&self, id: i64, now: DateTime<Utc>) -> String {
        let client = client_of(id);
        let mut inner = self.inner();
        inner.model.set_client_secrets(&client, &["secret"]);
        inner.model.authorise(&client, &client, now)
    }

    /// A token that the platform itself got for the connection.
    pub(crate) fn access_token(&self, id: i64, now: DateTime<Utc>) -> String {
        let client = Client { id: client_of(id), secret: "secret".into() };
        self.inner().model.client_credentials(&client, now).access_token
    }

    /// Whether an API behind it would take the token.
    pub(crate) fn is_valid(&self, access_token: &str, now: DateTime<Utc>) -> bool {
        self.inner().model.is_valid(access_token, now)
    }

    /// The refresh token that is good and not spent.
    pub(crate) fn refresh_token(&self, id: i64, now: DateTime<Utc>) -> Option<String> {
        self.inner().model.refresh_token(&client_of(id), now)
    }

    /// What a request comes to at the provider: status and body.
    fn act(&self, request: &Asked, ledger: &Ledger, world: &World, who: &str) -> (u16, String) {
        let now = world.now();
        let mut inner = self.inner();
        inner.keep_rate(self, world);
        let client = Client { id: client_of(request.connection), secret: "secret".into() };
        let granted = match &request.refresh_token {
            Some(token) => {
                let serial = inner.model.owner(token).map(|(_, serial)| serial);
                let granted = inner.model.refresh(&client, token, false, now);
                world.trace(who, format_args!("{} presents refresh token {serial:?}", request.connection));
                granted
            }
            None => Ok(inner.model.client_credentials(&client, now)),
        };
        match granted {
            Ok(granted) => {
                ledger.granted(&granted.access_token);
                let mut body = json!({
                    "access_token": granted.access_token,
                    "expires_in": self.lifetime.num_seconds(),
                });
                if let (Some((refresh_token, _)), Some(members)) =
                    (&granted.refresh_token, body.as_object_mut())
                {
                    members.insert("refresh_token".into(), json!(refresh_token));
                }
                (200, body.to_string())
            }
            Err(Denied::Reused) => {
                world.violated(format!(
                    "connection {} of {}: a refresh token that was spent was presented again, and the grant is revoked",
                    request.connection, self.name
                ));
                (400, json!({ "error": "invalid_grant" }).to_string())
            }
            Err(Denied::Refused(refusal)) => {
                world.trace(who, format_args!("{} is refused: {}", request.connection, refusal.code()));
                (400, json!({ "error": refusal.code() }).to_string())
            }
        }
    }
}

impl Inner {
    /// In any stretch of time the burst and one more for each part of the rate: what is beyond that, we were not allowed.
    fn keep_rate(&mut self, market: &Marketplace, world: &World) {
        let Some(Limits { per_second, burst, .. }) = market.limits else { return };
        let now = world.now();
        self.arrivals.push(now);
        self.arrivals.retain(|at| now - *at < TimeDelta::minutes(1));
        for (count, at) in self.arrivals.iter().rev().enumerate() {
            // The latencies of the network draw arrivals together.
            let stretch = (now - *at + TimeDelta::milliseconds(500)).num_milliseconds();
            let allowed = i64::from(burst) + stretch * i64::from(per_second) / 1_000 + 1;
            if i64::try_from(count + 1).unwrap_or(i64::MAX) > allowed {
                world.violated(format!(
                    "{} calls to {} in {stretch} ms, and {allowed} are allowed",
                    count + 1,
                    market.name
                ));
                self.arrivals.clear();
                return;
            }
        }
    }
}

/// What a request says of itself.
struct Asked {
    connection: i64,
    refresh_token: Option<String>,
}

impl Asked {
    fn read(request: &ProviderRequest) -> Option<Self> {
        let body = request.body.as_ref()?.expose().to_owned();
        let pairs: HashMap<&str, &str> = body.split('&').filter_map(|pair| pair.split_once('=')).collect();
        Some(Self {
            connection: connection_of(pairs.get("client_id")?)?,
            refresh_token: pairs.get("refresh_token").map(|token| (*token).to_owned()),
        })
    }
}

/// How a process calls it.
pub(crate) struct Caller {
    pub(crate) host: Arc<Host>,
    pub(crate) marketplace: Arc<Marketplace>,
    pub(crate) ledger: Arc<Ledger>,
}

impl Caller {
    /// A call for this connection comes to nothing.
    fn fails(&self, id: i64) {
        let world = &self.host.world;
        world.excuse(Some(id), Wait::CallFailed);
        let (in_a_minute, in_a_row) = self.ledger.failed(&self.host.name, world.now());
        let name = &self.host.name;
        let is_open = in_a_minute >= BREAKS_AFTER || in_a_row >= BREAKS_AFTER_IN_A_ROW;
        if is_open {
            self.ledger.may_be_broken(name);
        }
        if self.ledger.is_broken(name) {
            world.excuse(None, Wait::BreakerOpen);
        }
    }

    /// A rolling restart in the worst moment: the answer is there, the database is not, and the process has to end.
    fn the_store_leaves(&self) {
        let world = self.host.world.clone();
        self.host.trace(format_args!("loses the database with an answer in its hands, and is asked to end"));
        world.state().store_away += 1;
        world.excuse(None, Wait::Away);
        self.host.end.cancel();
        let pause = world.between(Duration::from_secs(5), Duration::from_secs(120));
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            world.state().store_away -= 1;
            world.excuse(None, Wait::DatabaseBack);
            world.trace("weather", format_args!("the database is back"));
        });
    }
}

#[async_trait]
impl ProviderCaller for Caller {
    async fn call(&self, request: &ProviderRequest) -> Result<ProviderAnswer, CallError> {
        let world = &self.host.world;
        let endpoint = || request.endpoint.clone();
        let unsendable =
            || CallError::Unsendable { endpoint: endpoint(), problem: "it is none of the simulation's" };
        let market = &self.marketplace;
        let asked = Asked::read(request).ok_or_else(unsendable)?;
        let id = asked.connection;
        let lost = |problem| {
            self.fails(id);
            world.doubts(id);
            Err(CallError::AnswerLost { endpoint: endpoint(), problem })
        };
        let answer = |status, retry_after: Option<String>, body: String| {
            if status != 200 {
                self.fails(id);
            }
            Ok(ProviderAnswer { status, retry_after, body: body.into_bytes().into() })
        };
        // A pause between the last look at the lease and the wire is the one that nobody can close; see the README.
        self.host.dangerous("before a call").await;
        let outage = market.inner().outage;
        if outage == Some(Outage::Unreachable) || world.strikes(|faults| faults.not_connected) {
            self.host.trace(format_args!("{id} finds no connection to {}", market.name));
            self.fails(id);
            return Err(CallError::NotConnected { endpoint: endpoint() });
        }
        self.ledger.called(id, world.now());
        tokio::time::sleep(world.between(Duration::from_millis(5), Duration::from_millis(150))).await;
        match outage {
            Some(Outage::Hanging) => {
                tokio::time::sleep(CALL_TIMEOUT).await;
                self.host.trace(format_args!("{id} gets no answer of {}", market.name));
                return lost("it took too long");
            }
            Some(_) => return answer(503, None, String::new()),
            None => {}
        }
        if world.strikes(|faults| faults.server_error) {
            let status = if world.draw(2) == 0 { 500 } else { 503 };
            self.host.trace(format_args!("{id} is answered {status}"));
            return answer(status, None, String::new());
        }
        if world.strikes(|faults| faults.rate_limited) {
            let seconds = world.draw(120);
            self.host.trace(format_args!("{id} is answered 429, come back in {seconds} s"));
            return answer(429, Some(seconds.to_string()), String::new());
        }
        if world.strikes(|faults| faults.refused_once) {
            self.host.trace(format_args!("{id} is refused for nothing"));
            return answer(400, None, json!({ "error": "invalid_grant" }).to_string());
        }
        let (status, body) = market.act(&asked, &self.ledger, world, &self.host.name);
        tokio::time::sleep(world.between(Duration::from_millis(5), Duration::from_millis(400))).await;
        if world.strikes(|faults| faults.answer_lost) {
            self.host.trace(format_args!("{id} loses the answer of {}", market.name));
            return lost("the connection was reset");
        }
        if world.strikes(|faults| faults.gateway) {
            self.host.trace(format_args!("{id} is answered by a gateway"));
            world.doubts(id);
            return answer(if world.draw(2) == 0 { 502 } else { 504 }, None, String::new());
        }
        if status == 200 {
            self.ledger.served(&self.host.name);
        }
        self.host.trace(format_args!("{id} is answered {status} by {}", market.name));
        if world.strikes(|faults| faults.store_leaves) {
            self.the_store_leaves();
        }
        self.host.step("after an answer", Some(id)).await;
        answer(status, None, body)
    }
}
