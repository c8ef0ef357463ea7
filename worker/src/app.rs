//! Where the worker's parts are put together; the only place of it that names adapters.

use std::num::{NonZeroU16, NonZeroU32};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chrono::TimeDelta;
use freshet_shared::adapters::database::{Database, Sealing};
use freshet_shared::adapters::embedded::events::InProcessEvents;
use freshet_shared::adapters::http::{HttpCaller, HttpSettings};
use freshet_shared::adapters::monitoring::Monitoring;
use freshet_shared::adapters::rabbitmq::{Prefetch, RabbitMq, RabbitMqConsumer, RabbitMqSettings};
use freshet_shared::adapters::redis::{RedisCache, RedisSettings};
use freshet_shared::adapters::system::{SystemClock, SystemRandomness};
use freshet_shared::configuration::{Configuration, ConfigurationError};
use freshet_shared::domain::provider::Provider;
use freshet_shared::domain::provider::catalogue::Providers;
use freshet_shared::migrations::is_current;
use freshet_shared::ports::cache::Cache;
use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::events::Events;
use freshet_shared::ports::parking::Parking;
use freshet_shared::ports::provider::ProviderCaller;
use freshet_shared::ports::randomness::Randomness;
use freshet_shared::ports::rate_limiter::RateLimiter;
use freshet_shared::ports::store::RefreshStore;
use freshet_shared::process::shutdown_on_signal;
use freshet_shared::telemetry::Telemetry;
use freshet_shared::telemetry::metrics::names;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::arguments::Command;
use crate::events::with_grace_left;
use crate::metrics::JobMetrics;
use crate::permit::{PermitSettings, Permits, Waits};
use crate::pool::{Observer, PoolReport, PoolSettings};
use crate::refresh::{DATABASE_PATIENCE, Refresher};
use crate::sizes::{self, Surroundings, open_files};
use crate::warming::Warming;
use crate::working::{Sources, work};

/// A mark outlives the calls by this much, so that it covers the commit too.
const MARK_BEYOND_CALLS: Duration = Duration::from_secs(30);

/// A statement of a refresh's that has no answer by then is asked again, or its answer parked: so that within the time in which an
/// answer is stored the database is asked twice, and a process that ends learns in time that it stands still.
const LONGEST_STATEMENT: Duration = Duration::from_secs(10);

/// The purpose of the session that brings messages.
const CONSUME: &str = "consume";

/// The worker, ready to run.
pub struct App {
    refresher: Arc<Refresher>,
    broker: Arc<RabbitMq>,
    consumer: RabbitMqConsumer,
    parked: RabbitMqConsumer,
    settings: PoolSettings,
    database: Database,
    cache: Arc<RedisCache>,
    check_cache_every: Duration,
}

impl App {
    /// Reads the configuration and opens database, cache and the broker's session.
    ///
    /// # Errors
    /// Names the key or the service that is at fault.
    pub async fn build(configuration: &Configuration) -> anyhow::Result<Self> {
        Self::build_calling(configuration, caller(configuration)?).await
    }

    /// The same, with another way of calling providers.
    ///
    /// # Errors
    /// Names the key or the service that is at fault.
    pub async fn build_calling(
        configuration: &Configuration,
        caller: Arc<dyn ProviderCaller>,
    ) -> anyhow::Result<Self> {
        let url = Configuration::required("database.url", configuration.database.url.as_ref())?;
        let broker = Configuration::required("rabbitmq.url", configuration.rabbitmq.url.as_ref())?;
        let redis = Configuration::required("redis.url", configuration.redis.url.as_ref())?;
        let providers = configuration.providers()?;
        let surroundings = Surroundings {
            kinds: Database::KINDS,
            round_trips: Database::ROUND_TRIPS,
            open_files: std::fs::read_to_string("/proc/self/limits").ok().as_deref().and_then(open_files),
        };
        for warning in sizes::check(configuration, &providers, surroundings)? {
            tracing::warn!("configuration: {warning}");
        }
        let concurrency = NonZeroU16::new(configuration.worker.concurrency)
            .ok_or_else(|| ConfigurationError::Key("worker.concurrency: must be more than 0".into()))?;
        let pools = providers.pools();
        let prefetch = Prefetch::among(concurrency, pools.len());
        let broker = RabbitMq::new(
            RabbitMqSettings {
                url: broker.clone(),
                heartbeat: configuration.rabbitmq.heartbeat,
                operation_timeout: configuration.rabbitmq.operation_timeout,
                delivery_limit: configuration.rabbitmq.delivery_limit,
                give_up_after: configuration.rabbitmq.give_up_after,
                connection_name: format!("freshet-worker-{:016x}", SystemRandomness.next()),
            },
            &pools,
        )
        .map_err(|error| ConfigurationError::Key(format!("{}: {error}", error.key())))?;
        let redis = RedisSettings {
            url: redis.clone(),
            key_prefix: configuration.redis.key_prefix.clone(),
            command_timeout: configuration.redis.command_timeout,
            connections: configuration.redis.connections,
        };
        let cache = RedisCache::connect(redis, Arc::new(SystemClock))
            .map_err(|error| ConfigurationError::Key(format!("redis.url: {error}")))?;
        let cache = Arc::new(cache);
        let sealing = sealing(configuration)?;
        if sealing.as_ref().is_none_or(|sealing| sealing.keys().primary().is_none()) {
            warn_of_unparked(&providers);
        }
        let parking = Arc::new(broker.parking(sealing.clone()));
        let database = Database::open(url, &configuration.database)
            .await?
            .answering_within(LONGEST_STATEMENT)
            .with_sealing(sealing);
        anyhow::ensure!(
            is_current(&database).await.context("the database's version cannot be read")?,
            "the database is not migrated to this version: run `freshet migrate`"
        );
        let parts = Parts {
            store: Arc::new(database.clone()),
            rate_limiter: Arc::new(cache.rate_limiter(configuration.limits.workers)),
            cache: cache.clone(),
            caller,
            events: events(configuration, &broker),
            parking,
            clock: Arc::new(SystemClock),
            randomness: Arc::new(SystemRandomness),
        };
        let refresher = refresher(configuration, parts)?;
        Ok(Self {
            refresher: Arc::new(refresher),
            consumer: broker.consumer(prefetch),
            broker: broker.clone(),
            parked: broker.parked_consumer(),
            settings: pool_settings(configuration),
            database,
            cache,
            check_cache_every: configuration.redis.check_every,
        })
    }

    /// Lets itself be watched; the observer counts what jobs come to.
    pub fn watched_by(&self, monitoring: &Monitoring) -> Observer {
        let (health, metrics) = (&monitoring.health, &monitoring.metrics);
        let (activity, consuming) = (self.settings.activity.clone(), self.consumer.consuming());
        let is_consuming = consuming.clone();
        health.working(activity.pulse.clone(), move || {
            if *is_consuming.borrow() { Ok(()) } else { Err("not consuming: no session with RabbitMQ") }
        });
        let concurrency = self.settings.concurrency as f64;
        metrics.observed(&names::IN_FLIGHT, move |observe| observe(activity.in_flight() as f64, &[]));
        metrics.observed(&names::CONCURRENCY, move |observe| observe(concurrency, &[]));
        let broker = self.broker.clone();
        metrics.observed(&names::AMQP_SESSION, move |observe| {
            let others = broker.connections().into_iter().filter(|(purpose, _)| *purpose != CONSUME);
            // Not the connection alone: a session consumes.
            for (purpose, is_there) in others.chain([(CONSUME, *consuming.borrow())]) {
                observe(f64::from(u8::from(is_there)), &[purpose]);
            }
        });
        let refresher = self.refresher.clone();
        metrics.observed(&names::BREAKER_OPEN, move |observe| {
            for provider in refresher.providers.scanned() {
                let is_open = refresher.permits.is_open(provider.name());
                observe(f64::from(u8::from(is_open)), &[provider.name()]);
            }
        });
        let scanned = || self.refresher.providers.scanned().map(Provider::name);
        self.refresher.permits.count_waits(Waits::new(metrics, scanned()));
        let jobs = JobMetrics::new(metrics, scanned());
        Arc::new(move |report| jobs.note(report))
    }

    /// Works until `shutdown`, and closes what was opened.
    ///
    /// # Errors
    /// If consuming cannot go on.
    pub async fn run(self, observer: Observer, shutdown: CancellationToken) -> anyhow::Result<PoolReport> {
        let (events, grace) = (Arc::clone(&self.refresher.events), self.settings.grace);
        let sources = Sources { refreshes: Box::new(self.consumer), parked: Box::new(self.parked) };
        let warming =
            Warming { leases: Arc::new(self.database.clone()), check_every: self.check_cache_every };
        let working = Box::pin(work(&self.refresher, sources, &warming, self.settings, observer, &shutdown));
        let (report, grace_left) = with_grace_left(working, grace, &shutdown).await;
        let ends = Instant::now() + grace_left;
        events.flush(grace_left).await;
        // A database that stands still keeps nobody beyond the grace period: what it did not take is parked, or comes again.
        let (_, ()) = tokio::join!(timeout_at(ends, self.database.close()), self.cache.close());
        Ok(report?)
    }
}

/// Encryption at rest, where it is turned on.
///
/// # Errors
/// Names the key file and what is wrong with it.
pub fn sealing(configuration: &Configuration) -> Result<Option<Arc<Sealing>>, ConfigurationError> {
    let keys = configuration.key_ring()?;
    Ok(keys.map(|keys| Arc::new(Sealing::new(keys, Arc::new(SystemRandomness)))))
}

/// Without a key nothing can be parked, and only providers whose refresh tokens rotate need it.
fn warn_of_unparked(providers: &Providers) {
    for provider in providers.scanned().filter(|provider| provider.rotation().spends()) {
        tracing::warn!(
            provider = provider.name(),
            "its refresh tokens rotate, and encryption.key_file has no primary key: an answer that cannot be read, or \
             that the database does not take before this process ends, is lost, and its connection quarantined"
        );
    }
}

/// Calls to providers over HTTP.
///
/// # Errors
/// Names the key that is at fault; or if no client can be built, for example where there are no CA certificates.
pub fn caller(configuration: &Configuration) -> anyhow::Result<Arc<dyn ProviderCaller>> {
    let settings = HttpSettings {
        connect_timeout: configuration.call.connect_timeout,
        timeout: configuration.call.timeout,
        max_answer_bytes: configuration.call.max_answer_bytes,
        allow: configuration.egress.hosts()?,
        user_agent: concat!("freshet/", env!("CARGO_PKG_VERSION")).to_owned(),
    };
    Ok(Arc::new(HttpCaller::new(settings)?))
}

/// To RabbitMQ, or to nobody where they are not wanted.
fn events(configuration: &Configuration, broker: &Arc<RabbitMq>) -> Arc<dyn Events> {
    if configuration.events.enabled {
        Arc::new(broker.events())
    } else {
        Arc::new(InProcessEvents::keeping(0))
    }
}

/// What goes to the outside, each real or embedded.
pub struct Parts {
    /// MySQL, or SQLite.
    pub store: Arc<dyn RefreshStore>,
    /// The cache.
    pub cache: Arc<dyn Cache>,
    /// Calls to providers.
    pub caller: Arc<dyn ProviderCaller>,
    /// Whoever listens.
    pub events: Arc<dyn Events>,
    /// Where answers wait that cannot be stored before the process ends.
    pub parking: Arc<dyn Parking>,
    /// The providers' rates.
    pub rate_limiter: Arc<dyn RateLimiter>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub randomness: Arc<dyn Randomness>,
}

/// What a refresh works with, from the configuration and the given parts.
///
/// # Errors
/// Names the key that is at fault.
pub fn refresher(configuration: &Configuration, parts: Parts) -> anyhow::Result<Refresher> {
    let Parts { store, cache, caller, events, parking, rate_limiter, clock, randomness } = parts;
    Ok(Refresher {
        holder: format!("worker-{:016x}", randomness.next()),
        details_limit: configuration.call.timeout,
        // The channels' limit, the channel's call that was begun just before it, and two calls for the token: one may be
        // repeated, with another secret or inside a leeway.
        in_flight: configuration.call.timeout * 4 + MARK_BEYOND_CALLS,
        lease: lease(configuration)?,
        providers: configuration.providers_with_secrets()?,
        windows: configuration.scan.windows(),
        retry: configuration.retry.policy()?,
        permits: permits(configuration, rate_limiter, clock.clone(), randomness.clone())?,
        store,
        cache,
        caller,
        events,
        parking,
        clock,
        randomness,
        last_call: CancellationToken::new(),
    })
}

/// The lease on a connection. One that ended while its call or commit may still be under way would let another worker
/// present a refresh token that is being spent.
///
/// # Errors
/// If it is not longer than these.
fn lease(configuration: &Configuration) -> Result<TimeDelta, ConfigurationError> {
    let call = &configuration.call;
    let needed = call.timeout + DATABASE_PATIENCE.total.unwrap_or_default();
    let lease = TimeDelta::from_std(call.lease).ok().filter(|_| call.lease > needed);
    lease.ok_or_else(|| {
        let needed = needed.as_secs_f64();
        ConfigurationError::Key(format!(
            "call.lease: must be longer than {needed} s: call.timeout, and the 20 s in which its answer is stored"
        ))
    })
}

/// Leave to call providers, from the configuration and the given parts.
///
/// # Errors
/// Names the key that is at fault.
fn permits(
    configuration: &Configuration,
    rate_limiter: Arc<dyn RateLimiter>,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
) -> Result<Permits, ConfigurationError> {
    let longest = configuration.retry.longest;
    let settings = PermitSettings {
        workers: configuration.limits.workers,
        waiting: NonZeroU32::new(configuration.worker.concurrency.div_ceil(2).into())
            .unwrap_or(NonZeroU32::MIN),
        breaker: configuration.breaker.policy(longest)?,
        // `retry.policy` has refused what does not fit.
        longest_spread: TimeDelta::from_std(longest).unwrap_or(TimeDelta::MAX),
        longest_call: configuration.call.timeout,
    };
    Ok(Permits::new(rate_limiter, clock, randomness, settings))
}

/// The longest time from SIGTERM to the end of the process: what its jobs may take, then each Redis connection's goodbye, and
/// the last spans. Whoever kills the process later than this cuts nothing off.
pub fn longest_stop(configuration: &Configuration) -> Duration {
    let connections = u32::try_from(configuration.redis.connections).unwrap_or(u32::MAX);
    configuration
        .worker
        .shutdown_grace
        .saturating_add(configuration.redis.command_timeout.saturating_mul(connections))
        .saturating_add(Telemetry::LONGEST_FLUSH)
}

/// How the pool runs, from the configuration.
pub fn pool_settings(configuration: &Configuration) -> PoolSettings {
    PoolSettings {
        concurrency: configuration.worker.concurrency.into(),
        grace: configuration.worker.shutdown_grace,
        activity: Arc::default(),
    }
}

/// Does what the command line asks for.
///
/// # Errors
/// Names the key or the service that is at fault.
pub async fn execute(command: Command, configuration: Configuration) -> anyhow::Result<ExitCode> {
    let Command::Run = command;
    // Listened to before the start, which may wait for the database: as the first process of a container we would not
    // hear a signal otherwise.
    let shutdown = shutdown_on_signal()?;
    let monitoring = Monitoring::start(&configuration.monitoring, "freshet-worker", &shutdown).await?;
    let building = Box::pin(App::build(&configuration));
    let Some(app) = shutdown.run_until_cancelled(building).await else {
        return Ok(ExitCode::SUCCESS);
    };
    let app = app?;
    let observer = app.watched_by(&monitoring);
    let report = app.run(observer, shutdown).await?;
    tracing::info!(handled = report.handled, abandoned = report.abandoned, "worker stopped");
    Ok(ExitCode::from(u8::from(report.abandoned > 0)))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn a_lease_that_ends_during_call_or_commit_is_refused_at_start() {
        let with = |timeout: &str, of: &str| {
            let variables = [("FRESHET_CALL__TIMEOUT", timeout), ("FRESHET_CALL__LEASE", of)];
            let variables: HashMap<String, String> =
                variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let configuration =
                Configuration::load(None, &variables).unwrap_or_else(|error| panic!("{error}"));
            lease(&configuration).map_err(|error| error.to_string())
        };
        assert_eq!(with("15s", "90s"), Ok(TimeDelta::seconds(90)), "the default");
        assert_eq!(with("15s", "36s"), Ok(TimeDelta::seconds(36)));
        for (timeout, of) in [("15s", "35s"), ("15s", "0s"), ("2m", "90s")] {
            let error = with(timeout, of).unwrap_err();
            assert!(error.contains("call.lease: must be longer than"), "{error}");
        }
    }
}
