//! What a run plays on: servers of its own, a model provider, and a fleet of connections.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use fred::prelude::{Builder, Client, ClientLike, Config, KeysInterface};
use freshet_shared::adapters::database::{Database, DatabaseSettings};
use freshet_shared::adapters::embedded::clock::SeededRandomness;
use freshet_shared::adapters::rabbitmq::{queue_name, queue_names};
use freshet_shared::domain::connection::ConnectionId;
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::sealing::{KeyRing, Place, SecretColumn, new_key, open};
use freshet_shared::domain::secret::Secret;
use freshet_shared::migrations;
use freshet_shared::ports::randomness::Randomness;
use freshet_tests::binaries::TestFolder;
use freshet_tests::fleet::now;
use freshet_tests::management::Management;
use freshet_tests::model_provider::{
    DefinitionOptions, Fault, Grant, ModelProvider, RetryAfter, Rotation, Settings, Successor,
};
use freshet_tests::services::{MariaDb, RabbitMq, Redis};
use freshet_tests::waiting::eventually;
use sea_orm::{ConnectionTrait, DbBackend, QueryResult, Statement};
use serde_json::Value;
use tokio::time::timeout;

use crate::arguments::{Arguments, Without};
use crate::network::Part;
use crate::said;

/// The pool of all providers that have none of their own.
pub(crate) const POOL: &str = "shared";

/// Connections whose tokens can be had again and again.
pub(crate) const REPEATABLE: &str = "repeatable";
/// Connections whose refresh token may be shown again for a while.
pub(crate) const LENIENT: &str = "lenient";
/// Connections whose refresh token must never be shown again.
pub(crate) const STRICT: &str = "strict";

/// The kinds of connections, by the remainder of their ids: at a provider each.
pub(crate) const KINDS: [&str; 3] = [REPEATABLE, LENIENT, STRICT];

/// Longer than a lease, so that whoever comes after a dead worker may ask again.
const LEEWAY: TimeDelta = TimeDelta::minutes(30);

/// A hundred thousand connections fit, and nothing waits for a checkpoint.
const DATABASE_OPTIONS: [&str; 2] = ["--innodb-buffer-pool-size=512M", "--innodb-log-file-size=512M"];

/// A server that was killed comes back sooner, also on a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(300);

/// No statement of the harness's own takes so long, unless something holds it up.
const STATEMENT: Duration = Duration::from_secs(10);

/// After so long a process gives up a statement that has no answer.
pub(crate) const STATEMENT_TIMEOUT: TimeDelta = TimeDelta::seconds(4);

/// After so long without a word the database ends a session, as the processes ask it to.
pub(crate) const LONGEST_SILENCE: TimeDelta = TimeDelta::seconds(2 * STATEMENT_TIMEOUT.num_seconds());

/// A worker that had no session with the broker for so long ends.
pub(crate) const GIVES_UP_AFTER: Duration = Duration::from_secs(300);

/// What a lease has to last beyond a call, for the commit.
const COMMIT_SECONDS: u64 = 21;

/// The stage.
pub(crate) struct Stage {
    pub(crate) mariadb: MariaDb,
    pub(crate) rabbitmq: RabbitMq,
    pub(crate) redis: Redis,
    /// All that a process speaks to.
    pub(crate) servers: Vec<(Part, SocketAddr)>,
    /// In the order of [`KINDS`].
    pub(crate) models: Vec<ModelProvider>,
    pub(crate) store: Database,
    pub(crate) management: Management,
    pub(crate) environment: HashMap<String, String>,
    /// The provider definitions, by name of their file.
    pub(crate) definitions: Vec<(String, String)>,
    pub(crate) randomness: SeededRandomness,
    keys: KeyRing,
    /// With the key file.
    _folder: TestFolder,
    /// First attempts that the provider was told to fail.
    pub(crate) failing: u64,
}

impl Stage {
    /// Starts everything, and no process of the product yet.
    pub(crate) async fn set(arguments: &Arguments) -> Result<Self> {
        freshet_shared::process::install_crypto();
        let options = DATABASE_OPTIONS.map(str::to_owned);
        let (mariadb, rabbitmq, redis) =
            tokio::try_join!(MariaDb::start_with(&options), RabbitMq::start(), Redis::start())?;
        let mut servers = vec![
            (Part::Database, address_in(&mariadb.url())?),
            (Part::Broker, address_in(&rabbitmq.url())?),
            (Part::Cache, address_in(&redis.url())?),
        ];
        let store = found_database(&mariadb).await?;
        let mut definitions = Vec::new();
        let mut models = Vec::new();
        let lenient = Rotation::Leeway { window: LEEWAY, again: Successor::New };
        for (name, rotation) in KINDS.into_iter().zip([Rotation::None, lenient, Rotation::Strict]) {
            // Long enough not to come due again.
            let settings =
                Settings { access_token_lifetime: TimeDelta::hours(12), ..Settings::new(rotation) };
            let model = ModelProvider::start(settings).await?;
            let grant = match rotation {
                Rotation::None => Grant::ClientCredentials,
                rotation => Grant::RefreshToken(rotation),
            };
            let mut options = DefinitionOptions::new(name, grant);
            options.integration_type = Some(name.to_owned());
            definitions.push((format!("{name}.toml"), model.definition(&options)));
            if arguments.latency > 0 {
                model.set_standing_fault(Some(Fault::none().after(Duration::from_millis(arguments.latency))));
            }
            servers.push((Part::Provider, model.address()));
            models.push(model);
        }
        let randomness = SeededRandomness::new(arguments.seed);
        let key = new_key(&mut || randomness.next());
        let keys = format!("primary = \"1\"\n[keys]\n1 = \"{}\"\n", key.expose());
        let folder = TestFolder::create()?;
        let key_file = folder.write("keys.toml", &keys)?;
        let mut environment: HashMap<String, String> = [
            ("FRESHET_DATABASE__URL", format!("{}/chaos", mariadb.url())),
            ("FRESHET_RABBITMQ__URL", format!("{}/%2f", rabbitmq.url())),
            ("FRESHET_REDIS__URL", redis.url()),
            ("FRESHET_EGRESS__ALLOW", "127.0.0.1".into()),
            // So that an answer can be parked whose worker has to end while there is no database.
            ("FRESHET_ENCRYPTION__KEY_FILE", key_file.display().to_string()),
            ("FRESHET_REDIS__CONNECTIONS", "2".into()),
            ("FRESHET_REDIS__COMMAND_TIMEOUT", "1s".into()),
            ("FRESHET_DATABASE__MAX_CONNECTIONS", "6".into()),
            ("FRESHET_DATABASE__STATEMENT_TIMEOUT", format!("{}s", STATEMENT_TIMEOUT.num_seconds())),
            ("FRESHET_RABBITMQ__OPERATION_TIMEOUT", "3s".into()),
            ("FRESHET_RABBITMQ__HEARTBEAT", "2s".into()),
            ("FRESHET_RABBITMQ__GIVE_UP_AFTER", format!("{}s", GIVES_UP_AFTER.as_secs())),
            ("FRESHET_WORKER__CONCURRENCY", "32".into()),
            ("FRESHET_SCAN__EARLY", "* * * * * *".into()),
            ("FRESHET_SCAN__URGENT", "* * * * * *".into()),
            ("FRESHET_SCAN__RETRY_EVERY", "1s".into()),
            ("FRESHET_SCAN__CLAIM", "15s".into()),
            ("FRESHET_CALL__CONNECT_TIMEOUT", "1s".into()),
            ("FRESHET_CALL__TIMEOUT", format!("{}s", arguments.call_seconds)),
            ("FRESHET_CALL__LEASE", format!("{}s", arguments.call_seconds + COMMIT_SECONDS)),
            ("FRESHET_RETRY__SHORTEST", "500ms".into()),
            ("FRESHET_RETRY__LONGEST", "5s".into()),
            ("FRESHET_RETRY__RECHECK", "60s".into()),
            ("FRESHET_TELEMETRY__FILTER", said::FILTER.into()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        if let Some(without) = arguments.without {
            do_without(without, &mut environment)?;
        }
        Ok(Self {
            management: Management::new(&rabbitmq.management_url())?,
            mariadb,
            rabbitmq,
            redis,
            servers,
            models,
            store,
            environment,
            randomness,
            keys: KeyRing::parse("keys.toml", &Secret::new(keys))?,
            _folder: folder,
            failing: 0,
            definitions,
        })
    }

    /// Until a kill of the broker leaves the queues as they are.
    pub(crate) async fn queues_are_on_disk(&self) -> Result<()> {
        self.rabbitmq.writes_down(&queue_names(&[POOL.to_owned()])).await
    }

    /// A token as it is, from a row in which it stands sealed.
    pub(crate) fn opened(
        &self,
        id: i64,
        column: SecretColumn,
        text: Option<String>,
    ) -> Result<Option<String>> {
        let place = Place::of(column, ConnectionId(id));
        let opened = text.map(|text| open(Some(&self.keys), &place, Secret::new(text)));
        Ok(opened.transpose()?.map(|token| token.expose().to_owned()))
    }

    /// A number below `end`.
    pub(crate) fn draw(&self, end: u64) -> u64 {
        self.randomness.next().checked_rem(end).unwrap_or(0)
    }

    /// One of these.
    pub(crate) fn one_of<T: Clone>(&self, choices: &[T]) -> Result<T> {
        let drawn = usize::try_from(self.draw(choices.len() as u64))?;
        choices.get(drawn).cloned().context("nothing is left to choose from")
    }

    /// Writes connections that are due, each with one channel; some of their first attempts fail.
    pub(crate) async fn add(&mut self, ids: std::ops::Range<i64>, first_failures: u64) -> Result<()> {
        let expires_at: DateTime<Utc> = now() + TimeDelta::minutes(5);
        let (mut connections, mut channels) = (Vec::new(), Vec::new());
        for id in ids {
            let (kind, name) = kind_of(id);
            let account = account_of(id);
            let fault = (self.draw(100) < first_failures).then(|| self.fault(name));
            let Some(model) = self.models.get(kind) else { continue };
            model.set_client_secrets(&account, &["secret"]);
            let refresh_token = model.authorise(&account, &account);
            if let Some(fault) = fault {
                model.script(&account, [fault]);
                self.failing += 1;
            }
            connections.push(format!(
                "({id}, 'active', 'old-{id}', '{refresh_token}', '{}', '{{\"client_id\":\"{account}\",\"client_secret\":\"secret\"}}')",
                expires_at.format("%Y-%m-%d %H:%M:%S")
            ));
            channels.push(format!("({id}, {id}, '{name}')"));
        }
        let connections = format!(
            "INSERT INTO ie_appinstall_connection (id, isActive, accessToken, refreshToken, accessTokenExpiryAt, inputFields) VALUES {}",
            connections.join(", ")
        );
        let channels = format!(
            "INSERT INTO channels (id, connectionId, integrationType) VALUES {}",
            channels.join(", ")
        );
        // A server that was just killed is on its way back.
        for statement in [connections, channels] {
            self.execute_again(&statement).await?;
        }
        Ok(())
    }

    /// A strict token is spent by an answer that is lost, which is for good; the others' are repeated.
    fn fault(&self, name: &str) -> Fault {
        let unspent = [Fault::status(503), Fault::status(500), Fault::rate_limited(RetryAfter::Seconds(1))];
        let spent = [
            Fault::lost(),
            Fault::reset(),
            Fault::hang(),
            Fault::short_body(),
            Fault::status(502).spending(),
        ];
        let faults: Vec<Fault> = match name {
            STRICT => unspent.into(),
            _ => unspent.into_iter().chain(spent).collect(),
        };
        self.one_of(&faults).unwrap_or_else(|_| Fault::none())
    }

    /// Runs a statement of the harness's own, again while the server is away.
    async fn execute_again(&self, statement: &str) -> Result<()> {
        eventually("the database takes rows", PATIENCE, async || {
            match timeout(STATEMENT, self.store.connection().execute_unprepared(statement)).await {
                Ok(Ok(_)) => Ok(()),
                // The reply to the first try was lost.
                Ok(Err(error)) if error.to_string().contains("Duplicate entry") => Ok(()),
                Ok(Err(error)) => Err(error.into()),
                Err(_) => {
                    Err(anyhow!("no answer in {STATEMENT:?}; it does: {}", self.database_activity().await))
                }
            }
        })
        .await
        .with_context(|| self.mariadb.log_tail())
    }

    /// What the database is at, for a person who looks for what holds it up.
    async fn database_activity(&self) -> String {
        const ACTIVITY: &str = "SELECT CONCAT_WS(' ', p.id, p.command, p.time, p.state, t.trx_state, t.trx_started, LEFT(p.info, 90)) \
            FROM information_schema.processlist p LEFT JOIN information_schema.innodb_trx t \
            ON t.trx_mysql_thread_id = p.id WHERE p.command <> 'Sleep' OR t.trx_id IS NOT NULL";
        let statement = Statement::from_string(DbBackend::MySql, ACTIVITY);
        match timeout(STATEMENT, self.store.connection().query_all_raw(statement)).await {
            Err(_) => "not even this can be asked".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Ok(Ok(rows)) => {
                let lines = rows.iter().filter_map(|row| row.try_get_by_index::<String>(0).ok());
                lines.collect::<Vec<_>>().join("; ")
            }
        }
    }

    /// Rows of the database. A connection that a kill of the server has broken fails once.
    pub(crate) async fn query(&self, query: &str) -> Result<Vec<QueryResult>> {
        eventually("the database answers", PATIENCE, async || {
            let statement = Statement::from_string(DbBackend::MySql, query);
            Ok(self.store.connection().query_all_raw(statement).await?)
        })
        .await
    }

    /// One number of the database.
    pub(crate) async fn number(&self, query: &str) -> Result<i64> {
        let rows = self.query(query).await?;
        Ok(rows.first().context("the query has no row")?.try_get_by_index(0)?)
    }

    /// Whether no queue holds a message, as the broker's statistics say. One that has none yet, as for a while after its start,
    /// does not say so.
    pub(crate) async fn is_drained(&self) -> bool {
        self.messages().await.is_ok_and(|queues| queues.values().all(|counts| *counts == [0; 3]))
    }

    /// A connection to the cache. Made when it is needed: one from before a kill would wait for ever.
    pub(crate) async fn cache(&self) -> Result<Client> {
        let client = Builder::from_config(Config::from_url(&self.redis.url())?).build()?;
        client.init().await?;
        Ok(client)
    }

    /// Whether the cache says that nothing is missing in it.
    pub(crate) async fn is_cache_warm(&self) -> Result<bool> {
        Ok(self.cache().await?.exists::<i64, _>("freshet:warm").await? == 1)
    }

    /// Where the broker listens, without a proxy before it.
    pub(crate) fn broker_address(&self) -> Result<SocketAddr> {
        address_in(&self.rabbitmq.url())
    }

    /// When the provider was called first after this moment.
    pub(crate) fn called_after(&self, moment: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.models.iter().filter_map(|model| model.called_after(moment)).min()
    }

    /// Messages in all queues: all of them, those that wait, and those in somebody's hands. Fails where the broker does not know
    /// that of each of the product's queues.
    pub(crate) async fn messages(&self) -> Result<Messages> {
        counted(&self.management.get("api/queues").await?)
    }

    /// How many workers consume from the urgent lane.
    pub(crate) async fn consumers(&self) -> Result<usize> {
        let consumers = self.management.get("api/consumers").await?;
        let consumers = consumers.as_array().context("the list of consumers is not a list")?;
        let urgent = queue_name(POOL, Lane::Urgent);
        let of_urgent = |consumer: &&Value| {
            consumer.pointer("/queue/name").and_then(Value::as_str) == Some(urgent.as_str())
        };
        Ok(consumers.iter().filter(of_urgent).count())
    }
}

/// By queue: all messages, those that wait, and those in somebody's hands.
pub(crate) type Messages = BTreeMap<String, [i64; 3]>;

/// From the broker's list of its queues.
fn counted(queues: &Value) -> Result<Messages> {
    let queues = queues.as_array().context("the list of queues is not a list")?;
    let mut counted = Messages::new();
    for queue in queues {
        let name = queue.get("name").and_then(Value::as_str).context("a queue has no name")?;
        // A queue without a leader has no statistics, and neither has one of a broker that has just started.
        let number = |field: &str| {
            queue
                .get(field)
                .and_then(Value::as_i64)
                .with_context(|| format!("{name} has no count of {field}"))
        };
        let counts = [number("messages")?, number("messages_ready")?, number("messages_unacknowledged")?];
        counted.insert(name.to_owned(), counts);
    }
    for name in queue_names(&[POOL.to_owned()]) {
        ensure!(counted.contains_key(&name), "there is no queue {name}");
    }
    Ok(counted)
}

/// The kind of a connection: its place among [`KINDS`], and its name.
pub(crate) fn kind_of(id: i64) -> (usize, &'static str) {
    let kind = usize::try_from(id.rem_euclid(KINDS.len() as i64)).unwrap_or(0);
    (kind, KINDS.get(kind).copied().unwrap_or(""))
}

/// The account of a connection.
pub(crate) fn account_of(id: i64) -> String {
    format!("account-{id}")
}

#[cfg(feature = "failpoints")]
fn do_without(without: Without, environment: &mut HashMap<String, String>) -> Result<()> {
    let variable = freshet_shared::failpoints::WITHOUT_VARIABLE;
    environment.insert(variable.into(), without.guard().as_str().into());
    // We declare queues, too.
    freshet_shared::failpoints::turn_off(without.guard());
    Ok(())
}

#[cfg(not(feature = "failpoints"))]
fn do_without(without: Without, _: &mut HashMap<String, String>) -> Result<()> {
    anyhow::bail!("{without:?}: these binaries are built without places to fail, and keep every guard")
}

async fn found_database(server: &MariaDb) -> Result<Database> {
    let connect = async |url: String| {
        let acquire_timeout = Duration::from_secs(10);
        Database::connect(DatabaseSettings { url: Secret::new(url), max_connections: 4, acquire_timeout })
            .await
    };
    let administrator = connect(format!("{}/mysql", server.url())).await?;
    administrator.connection().execute_unprepared("CREATE DATABASE chaos CHARACTER SET utf8mb4").await?;
    administrator.close().await;
    let store = connect(format!("{}/chaos", server.url())).await?;
    migrations::platform::create_missing(&store).await?;
    migrations::migrate(&store).await?;
    Ok(store)
}

fn address_in(url: &str) -> Result<SocketAddr> {
    let rest = url.split_once("://").context("no URL")?.1;
    let authority = rest.split('/').next().unwrap_or(rest);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    host.parse().with_context(|| format!("no address: {host}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// All queues of the product, each with these counts.
    fn queues(counts: [i64; 3]) -> Vec<Value> {
        let [all, ready, held] = counts;
        let queue = |name: String| json!({"name": name, "messages": all, "messages_ready": ready, "messages_unacknowledged": held});
        queue_names(&[POOL.to_owned()]).into_iter().map(queue).collect()
    }

    #[test]
    fn messages_are_known_only_where_each_queue_is_there_with_its_counts() {
        let found = counted(&queues([3, 2, 1]).into()).unwrap();
        assert_eq!(found.len(), queue_names(&[POOL.to_owned()]).len());
        assert!(found.values().all(|counts| *counts == [3, 2, 1]));
        let refused = |queues: Value| counted(&queues).unwrap_err().to_string();
        assert!(refused(json!({"error": "not now"})).contains("not a list"));
        assert!(refused(json!([])).contains("there is no queue"));
        for place in 0..queues([0; 3]).len() {
            let mut missing = queues([0; 3]);
            missing.remove(place);
            assert!(refused(missing.into()).contains("there is no queue"));
            for field in ["messages", "messages_ready", "messages_unacknowledged"] {
                let mut without = queues([0; 3]);
                without[place].as_object_mut().unwrap().remove(field);
                assert!(refused(without.into()).contains(&format!("has no count of {field}")));
            }
        }
    }
}
