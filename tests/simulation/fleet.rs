//! The fleet of a run: which connections there are, at which provider, and what the ledger knows of each.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::domain::connection::{ConnectionId, Generation};
use freshet_shared::domain::provider::catalogue::Providers;
use freshet_tests::model_provider::{ClientAuthentication, DefinitionOptions, Grant, Rotation, Successor};

use crate::marketplace::{Limits, Marketplace};
use crate::world::World;

/// Connections of a run.
const CONNECTIONS: i64 = 8;
/// How long a spent refresh token of the lenient provider still serves.
const LEEWAY_S: i64 = 60;

/// What calls to a run's provider spend. A run has one provider, because each costs every scan two statements.
const ROTATIONS: [(&str, Rotation); 3] = [
    ("repeatable", Rotation::None),
    ("lenient", Rotation::Leeway { window: TimeDelta::seconds(LEEWAY_S), again: Successor::New }),
    ("strict", Rotation::Strict),
];

/// The run's provider, with a life of tokens of its own, and the product's definition of it.
pub(crate) fn marketplace(world: &World) -> Result<(Marketplace, Providers)> {
    let pick = |number: usize| usize::try_from(world.draw(number as u64)).unwrap_or(0);
    let (name, rotation) =
        ROTATIONS.get(pick(ROTATIONS.len())).copied().unwrap_or(("repeatable", Rotation::None));
    let lives = [20, 20, 40, 60, 60, 120];
    let lifetime = TimeDelta::minutes(lives.get(pick(lives.len())).copied().unwrap_or(60));
    let grant = match rotation {
        Rotation::None => Grant::ClientCredentials,
        rotation => Grant::RefreshToken(rotation),
    };
    let mut options = DefinitionOptions::new(name, grant);
    options.integration_type = Some(name.to_owned());
    options.authentication = ClientAuthentication::Body;
    let mut limits = None;
    if grant == Grant::ClientCredentials {
        let some = Limits { per_second: 1, burst: 3, concurrency: 4 };
        let Limits { per_second, burst, concurrency } = some;
        options.more = format!(
            "[limits]\nrate = {{ requests = {per_second}, per = \"1s\", burst = {burst} }}\nconcurrency = {concurrency}\n"
        );
        limits = Some(some);
    }
    let text = options.text(&format!("https://{name}.example/token"));
    let providers = Providers::only([("simulated.toml", text.as_str())], &BTreeMap::new())?;
    Ok((Marketplace::new(name, rotation, lifetime, limits), providers))
}

/// Every connection's id.
pub(crate) fn connections() -> impl Iterator<Item = i64> {
    1..=CONNECTIONS
}

/// The client that a connection calls as; it is its account too.
pub(crate) fn client_of(id: i64) -> String {
    format!("client-{id}")
}

/// The reverse of [`client_of`].
pub(crate) fn connection_of(client: &str) -> Option<i64> {
    client.strip_prefix("client-")?.parse().ok()
}

/// What was granted, stored and handed out, by connection.
#[derive(Default)]
pub(crate) struct Ledger(Mutex<Entries>);

#[derive(Default)]
struct Entries {
    /// Access tokens in the order in which they were made.
    serials: HashMap<String, u64>,
    stored: HashMap<(i64, i64), u64>,
    calls: HashMap<i64, Vec<DateTime<Utc>>>,
    written_down: HashMap<i64, DateTime<Utc>>,
    reconnected: HashMap<i64, DateTime<Utc>>,
    refreshed: u64,
    failed: Vec<DateTime<Utc>>,
    /// By process.
    failed_in_a_row: HashMap<String, usize>,
    /// Processes whose breaker may be open.
    broken: HashSet<String>,
}

impl Ledger {
    fn entries(&self) -> MutexGuard<'_, Entries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A provider made a token.
    pub(crate) fn granted(&self, access_token: &str) {
        let mut entries = self.entries();
        let serial = entries.serials.len() as u64 + 1;
        entries.serials.insert(access_token.to_owned(), serial);
    }

    /// Which token it is, in the order of their making.
    pub(crate) fn serial_of(&self, access_token: &str) -> Option<u64> {
        self.entries().serials.get(access_token).copied()
    }

    /// A call was sent.
    pub(crate) fn called(&self, connection: i64, at: DateTime<Utc>) {
        self.entries().calls.entry(connection).or_default().push(at);
    }

    /// A call of a process came to nothing. Answers how many of all did in the last minute, and of its own in a row.
    pub(crate) fn failed(&self, process: &str, at: DateTime<Utc>) -> (usize, usize) {
        let mut entries = self.entries();
        entries.failed.push(at);
        entries.failed.retain(|before| at - *before <= TimeDelta::seconds(60));
        let in_a_row = entries.failed_in_a_row.entry(process.to_owned()).or_default();
        *in_a_row += 1;
        let in_a_row = *in_a_row;
        (entries.failed.len(), in_a_row)
    }

    /// One was served.
    pub(crate) fn served(&self, process: &str) {
        let mut entries = self.entries();
        entries.failed_in_a_row.remove(process);
        entries.broken.remove(process);
    }

    /// A process's breaker may be open from now on, until it is served.
    pub(crate) fn may_be_broken(&self, process: &str) {
        self.entries().broken.insert(process.to_owned());
    }

    /// Whether it may be: then what fails is its probe, and opens it anew.
    pub(crate) fn is_broken(&self, process: &str) -> bool {
        self.entries().broken.contains(process)
    }

    /// A call was written down. Whoever died with it may have sent it.
    pub(crate) fn written_down(&self, connection: i64, at: DateTime<Utc>) {
        self.entries().written_down.insert(connection, at);
    }

    /// When a call was last sent for a connection, or written down.
    pub(crate) fn last_call(&self, connection: i64) -> Option<DateTime<Utc>> {
        let entries = self.entries();
        let sent = entries.calls.get(&connection).and_then(|calls| calls.last()).copied();
        sent.max(entries.written_down.get(&connection).copied())
    }

    /// A token was stored as a generation: the same may be said twice, another one never.
    pub(crate) fn stored(&self, world: &World, id: ConnectionId, generation: Generation, access_token: &str) {
        world.doubts_no_more(id.0);
        let serial = self.serial_of(access_token).unwrap_or(0);
        let mut entries = self.entries();
        entries.refreshed += 1;
        let before = entries.stored.insert((id.0, generation.0), serial);
        drop(entries);
        if let Some(before) = before.filter(|before| *before != serial) {
            world.violated(format!(
                "connection {id}: generation {generation} was stored twice, with token {before} and token {serial}"
            ));
        }
    }

    /// The merchant authorised again.
    pub(crate) fn reconnected(&self, id: i64, at: DateTime<Utc>) {
        self.entries().reconnected.insert(id, at);
    }

    /// When the merchant last did.
    pub(crate) fn reconnected_at(&self, id: i64) -> Option<DateTime<Utc>> {
        self.entries().reconnected.get(&id).copied()
    }

    /// Calls and stored tokens, all connections together.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let entries = self.entries();
        (entries.calls.values().map(|calls| calls.len() as u64).sum(), entries.refreshed)
    }
}
