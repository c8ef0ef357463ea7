//! Where the producer's parts are put together; the only place of it that names adapters.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use chrono::TimeDelta;
use freshet_shared::adapters::database::Database;
use freshet_shared::adapters::rabbitmq::{RabbitMq, RabbitMqSettings};
use freshet_shared::adapters::system::{SystemClock, SystemRandomness};
use freshet_shared::configuration::{Configuration, ConfigurationError, ScanSection};
use freshet_shared::domain::provider::catalogue::Providers;
use freshet_shared::migrations::is_current;
use freshet_shared::ports::randomness::Randomness;
use freshet_shared::process::shutdown_on_signal;

use crate::arguments::Command;
use crate::scan::{ScanReport, Scanner, Target, scan};
use crate::schedule::{Schedule, run};

/// The producer, ready to run.
pub struct App {
    scanner: Scanner,
    schedule: Schedule,
    database: Database,
}

impl App {
    /// Reads the configuration, opens the database and prepares the broker's session.
    ///
    /// # Errors
    /// Names the key or the service that is at fault.
    pub async fn build(configuration: &Configuration) -> anyhow::Result<Self> {
        let url = Configuration::required("database.url", configuration.database.url.as_ref())?;
        let broker = Configuration::required("rabbitmq.url", configuration.rabbitmq.url.as_ref())?;
        let providers = configuration.providers()?;
        let randomness = Arc::new(SystemRandomness);
        let settings = RabbitMqSettings {
            url: broker.clone(),
            heartbeat: configuration.rabbitmq.heartbeat,
            operation_timeout: configuration.rabbitmq.operation_timeout,
            delivery_limit: configuration.rabbitmq.delivery_limit,
            connection_name: format!("freshet-producer-{:016x}", randomness.next()),
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
        };
        Ok(Self { scanner, schedule: schedule(&configuration.scan)?, database })
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
            let building = Box::pin(App::build(&configuration));
            let Some(app) = shutdown.run_until_cancelled(building).await else {
                return Ok(ExitCode::SUCCESS);
            };
            let app = app?;
            announce(&app.scanner.providers);
            run(&app.scanner, &app.schedule, &shutdown).await;
            app.database.close().await;
            Ok(ExitCode::SUCCESS)
        }
        Command::Once { lane } => {
            let app = App::build(&configuration).await?;
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
