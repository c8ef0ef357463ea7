//! Where the producer's parts are put together; the only place of it that names adapters.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use chrono::TimeDelta;
use freshet_shared::adapters::database::Database;
use freshet_shared::adapters::monitoring::Monitoring;
use freshet_shared::adapters::rabbitmq::{RabbitMq, RabbitMqSettings};
use freshet_shared::adapters::system::{SystemClock, SystemRandomness};
use freshet_shared::configuration::{Configuration, ConfigurationError, ScanSection};
use freshet_shared::domain::provider::Provider;
use freshet_shared::domain::provider::catalogue::Providers;
use freshet_shared::migrations::is_current;
use freshet_shared::ports::queue::QueueObserver;
use freshet_shared::ports::randomness::Randomness;
use freshet_shared::process::shutdown_on_signal;
use freshet_shared::telemetry::Telemetry;
use freshet_shared::telemetry::metrics::names;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::arguments::Command;
use crate::census::{Census, Taken};
use crate::depths::Depths;
use crate::leadership::{Campaign, LONGEST_RESIGNATION, Leadership, campaign};
use crate::metrics::ScanMetrics;
use crate::scan::{ScanReport, Scanner, Target, scan};
use crate::schedule::{Schedule, run};
use crate::settled::Settled;

/// The producer, ready to run.
pub struct App {
    scanner: Scanner,
    schedule: Schedule,
    database: Database,
    broker: Arc<RabbitMq>,
    census_every: Duration,
    campaign: Campaign,
}

impl App {
    /// Reads the configuration, opens the database and prepares the broker's session. One scan on demand needs no election.
    ///
    /// # Errors
    /// Names the key or the service that is at fault.
    pub async fn build(configuration: &Configuration, leadership: Arc<Leadership>) -> anyhow::Result<Self> {
        let url = Configuration::required("database.url", configuration.database.url.as_ref())?;
        let broker = Configuration::required("rabbitmq.url", configuration.rabbitmq.url.as_ref())?;
        let providers = configuration.providers()?;
        let randomness = Arc::new(SystemRandomness);
        let name = format!("freshet-producer-{:016x}", randomness.next());
        let settings = RabbitMqSettings {
            url: broker.clone(),
            heartbeat: configuration.rabbitmq.heartbeat,
            operation_timeout: configuration.rabbitmq.operation_timeout,
            delivery_limit: configuration.rabbitmq.delivery_limit,
            give_up_after: configuration.rabbitmq.give_up_after,
            connection_name: name.clone(),
        };
        let broker = RabbitMq::new(settings, &providers.pools())
            .map_err(|error| ConfigurationError::Key(format!("{}: {error}", error.key())))?;
        let database = Database::open(url, &configuration.database).await?;
        anyhow::ensure!(
            is_current(&database).await.context("the database's version cannot be read")?,
            "the database is not migrated to this version: run `freshet migrate`"
        );
        let scanner = Scanner {
            store: Arc::new(database.clone()),
            publisher: Arc::new(broker.publisher()),
            clock: Arc::new(SystemClock),
            randomness,
            windows: configuration.scan.windows(),
            claim: TimeDelta::from_std(configuration.scan.claim)?,
            page_size: configuration.scan.page_size,
            providers,
            metrics: ScanMetrics::off(),
            activity: Arc::default(),
            leadership,
            settled: Settled::default(),
        };
        let campaign =
            Campaign { store: Arc::new(database.clone()), holder: name, length: configuration.scan.lease };
        let census_every = configuration.monitoring.census_every;
        Ok(Self {
            scanner,
            schedule: schedule(&configuration.scan)?,
            database,
            broker,
            census_every,
            campaign,
        })
    }

    /// Lets itself be watched: counts, and looks at the fleet and at the queues as long as the answer is held.
    pub fn watched_by(
        &mut self,
        monitoring: &Monitoring,
        shutdown: &CancellationToken,
    ) -> Option<AbortOnDropHandle<()>> {
        let (health, metrics) = (&monitoring.health, &monitoring.metrics);
        let scanner = &mut self.scanner;
        let activity = scanner.activity.clone();
        scanner.metrics =
            Arc::new(ScanMetrics::new(metrics, scanner.providers.scanned().map(Provider::name)));
        let ready = activity.clone();
        health.working(activity.pulse.clone(), move || ready.readiness());
        let leadership = scanner.leadership.clone();
        metrics
            .observed(&names::LEADER, move |observe| observe(f64::from(u8::from(leadership.leads())), &[]));
        let broker = self.broker.clone();
        metrics.observed(&names::AMQP_SESSION, move |observe| {
            for (purpose, is_there) in broker.connections() {
                observe(f64::from(u8::from(is_there)), &[purpose]);
            }
        });
        monitoring.address()?;
        let (taken, depths) = (Taken::default(), Depths::default());
        taken.show(metrics, &scanner.windows);
        depths.show(metrics);
        let census = Census {
            store: Arc::new(self.database.clone()),
            providers: scanner.providers.clone(),
            windows: scanner.windows,
            clock: scanner.clock.clone(),
            every: self.census_every,
        };
        let queues: Arc<dyn QueueObserver> = Arc::new(self.broker.observer());
        let (clock, shutdown) = (scanner.clock.clone(), shutdown.clone());
        Some(AbortOnDropHandle::new(tokio::spawn(async move {
            tokio::join!(
                census.run(&taken, &activity, &shutdown),
                depths.run(queues.as_ref(), clock.as_ref(), &shutdown)
            );
        })))
    }

    /// Scans once.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn once(&self, target: Target) -> anyhow::Result<ScanReport> {
        Ok(scan(&self.scanner, target).await?)
    }
}

/// The schedule that the configuration asks for.
///
/// # Errors
/// Names the key that is at fault.
pub fn schedule(section: &ScanSection) -> anyhow::Result<Schedule> {
    let (early, urgent) = section.crons()?;
    Ok(Schedule {
        early,
        urgent,
        retry_every: TimeDelta::from_std(section.retry_every)?,
        history: TimeDelta::from_std(section.history)?,
        grant_warning: TimeDelta::from_std(section.grant_warning)?,
    })
}

/// How long after SIGTERM the page that is being scanned and published is done, the lease given up, and the last spans are sent.
pub fn longest_stop(configuration: &Configuration) -> Duration {
    longest_page(configuration).saturating_add(LONGEST_RESIGNATION).saturating_add(Telemetry::LONGEST_FLUSH)
}

/// How long the page in hand may take after SIGTERM: a connection, two statements and the confirms. A scan ends with that page.
fn longest_page(configuration: &Configuration) -> Duration {
    let statements = configuration.database.acquire_timeout.saturating_mul(2);
    // To connect, and for the confirms.
    let broker = configuration.rabbitmq.operation_timeout.saturating_mul(2);
    statements.saturating_add(broker)
}

/// Scans until `shutdown`, and the page in hand for so long after it: a database that stands still would keep the process for
/// longer than whoever ends it waits.
async fn scan_until(app: &App, longest_page: Duration, shutdown: &CancellationToken) {
    let is_late = async {
        shutdown.cancelled().await;
        sleep(longest_page).await;
    };
    tokio::select! {
        biased;
        () = run(&app.scanner, &app.schedule, shutdown) => {}
        () = is_late => tracing::warn!(
            after = ?longest_page,
            "the page in hand is given up: the database or the broker does not answer; what it claimed is found again when its \
             claims have run out"
        ),
    }
}

/// Says which providers are scanned, and what is missing for the others.
pub fn announce(providers: &Providers) {
    for provider in providers.iter() {
        match &provider.integration_type {
            Some(integration_type) => {
                tracing::info!(provider = provider.name(), integration_type, "connections are scanned");
            }
            None => tracing::warn!(
                provider = provider.name(),
                "not scanned: set providers.{}.integration_type to its value in channels.integrationType",
                provider.name()
            ),
        }
    }
}

/// Does what the command line asks for.
///
/// # Errors
/// Names the key or the service that is at fault.
pub async fn execute(command: Command, configuration: Configuration) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run => {
            // Listened to before the start, which may wait for the database: as the first process of a container we
            // would not hear a signal otherwise.
            let shutdown = shutdown_on_signal()?;
            let monitoring =
                Monitoring::start(&configuration.monitoring, "freshet-producer", &shutdown).await?;
            let building = Box::pin(App::build(&configuration, Leadership::to_be_won()));
            let Some(app) = shutdown.run_until_cancelled(building).await else {
                return Ok(ExitCode::SUCCESS);
            };
            let mut app = app?;
            let watching = app.watched_by(&monitoring, &shutdown);
            announce(&app.scanner.providers);
            // The lease is held until the last scan has ended.
            let over = CancellationToken::new();
            let scanning = async {
                scan_until(&app, longest_page(&configuration), &shutdown).await;
                over.cancel();
                Instant::now()
            };
            let (ended, ()) = tokio::join!(scanning, campaign(&app.scanner.leadership, &app.campaign, &over));
            // Nobody reads any more what it counts.
            drop(watching);
            // The lease and the connections are given up together: a database that stands still takes neither.
            let _ = timeout_at(ended + LONGEST_RESIGNATION, app.database.close()).await;
            Ok(ExitCode::SUCCESS)
        }
        Command::Once { lane } => {
            let app = App::build(&configuration, Leadership::without_election()).await?;
            announce(&app.scanner.providers);
            let report = app.once(lane.into()).await?;
            app.database.close().await;
            print(&report);
            Ok(ExitCode::from(u8::from(report.unpublished > 0)))
        }
    }
}

#[expect(clippy::print_stdout, reason = "the report is what was asked for")]
fn print(report: &ScanReport) {
    println!("{report}");
}
