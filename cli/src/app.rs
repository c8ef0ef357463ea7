//! Where the commands' parts are put together.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use chrono::TimeDelta;
use clap::Parser;
use freshet_producer::app::{announce, schedule};
use freshet_producer::leadership::Leadership;
use freshet_producer::metrics::ScanMetrics;
use freshet_producer::scan::Scanner;
use freshet_producer::settled::Settled;
use freshet_shared::adapters::database::Database;
use freshet_shared::adapters::embedded::cache::InProcessCache;
use freshet_shared::adapters::embedded::events::InProcessEvents;
use freshet_shared::adapters::embedded::parking::InProcessParking;
use freshet_shared::adapters::embedded::queue::InProcessQueue;
use freshet_shared::adapters::embedded::rate_limiter::InProcessRateLimiter;
use freshet_shared::adapters::system::{SystemClock, SystemRandomness};
use freshet_shared::configuration::{Configuration, ConfigurationError};
use freshet_shared::domain::connection::ConnectionId;
use freshet_shared::process::{self, shutdown_on_signal};
use freshet_worker::app::{Parts, caller, pool_settings, refresher, sealing};

use crate::arguments::{
    Arguments, Command, DevArguments, MigrateArguments, ProvidersCommand, RotateArguments, SecretsCommand,
};
use crate::dev::fleet::Fleet;
use crate::dev::simulation::Simulation;
use crate::secrets::rotation::Rotation;
use crate::{check, dev, migrate, providers, secrets};

/// Does what the command line asks for.
///
/// # Errors
/// Names the key or the service that is at fault.
pub fn execute(arguments: Arguments, environment: &HashMap<String, String>) -> anyhow::Result<ExitCode> {
    let command = arguments.command.unwrap_or_else(|| Command::Dev(default_dev()));
    let file = match &command {
        Command::Dev(arguments) => arguments.config.as_deref(),
        Command::Check(arguments) => arguments.config.as_deref(),
        Command::Migrate(arguments) => arguments.config.as_deref(),
        Command::Providers(arguments) => arguments.config.as_deref(),
        Command::Secrets(SecretsCommand::Rotate(arguments)) => arguments.config.as_deref(),
        Command::Secrets(SecretsCommand::GenerateKey(arguments)) => {
            // Made before there is anything to configure.
            return Ok(secrets::generate_key(arguments, &SystemClock, &SystemRandomness));
        }
    };
    let mut configuration = Configuration::load(file, environment)?;
    if matches!(&command, Command::Dev(arguments) if arguments.config.is_none()) {
        dev::simulation::quieten(&mut configuration.telemetry);
    }
    let telemetry = configuration.telemetry.clone();
    let work = async {
        match command {
            Command::Dev(arguments) => run_dev(arguments, configuration).await,
            Command::Check(arguments) => Ok(check::execute(&arguments, &configuration)?),
            Command::Migrate(arguments) => run_migrate(&arguments, &configuration).await,
            Command::Providers(arguments) => run_providers(arguments.command, &configuration).await,
            Command::Secrets(SecretsCommand::Rotate(arguments)) => {
                run_rotate(&arguments, &configuration).await
            }
            Command::Secrets(SecretsCommand::GenerateKey(_)) => Ok(ExitCode::SUCCESS),
        }
    };
    Ok(process::run("freshet", &telemetry, work))
}

fn default_dev() -> DevArguments {
    match Arguments::parse_from(["freshet", "dev"]).command {
        Some(Command::Dev(arguments)) => arguments,
        // `dev` parses as `dev`.
        _ => unreachable!(),
    }
}

async fn run_migrate(
    arguments: &MigrateArguments,
    configuration: &Configuration,
) -> anyhow::Result<ExitCode> {
    let url = Configuration::required("database.url", configuration.database.url.as_ref())?;
    let database = Database::open(url, &configuration.database).await?;
    let code = migrate::migrate(&database, arguments.platform_tables).await;
    database.close().await;
    code
}

async fn run_providers(command: ProvidersCommand, configuration: &Configuration) -> anyhow::Result<ExitCode> {
    let caller = caller(configuration)?;
    providers::execute(command, configuration, caller.as_ref(), &SystemClock, &SystemRandomness).await
}

async fn run_rotate(arguments: &RotateArguments, configuration: &Configuration) -> anyhow::Result<ExitCode> {
    let shutdown = shutdown_on_signal().context("signals cannot be listened to")?;
    let url = Configuration::required("database.url", configuration.database.url.as_ref())?;
    let keys = configuration.key_ring()?.ok_or_else(|| {
        ConfigurationError::Key("encryption.key_file: is not set; it names the keys to seal with".into())
    })?;
    let goal = secrets::goal(arguments, &keys)?;
    let secret_members = secrets::secret_members(&configuration.providers()?);
    let opening = Box::pin(Database::open(url, &configuration.database));
    let Some(database) = shutdown.run_until_cancelled(opening).await else {
        return Ok(ExitCode::FAILURE);
    };
    let database = database?;
    let rotation = Rotation {
        store: &database,
        keys: &keys,
        randomness: &SystemRandomness,
        secret_members,
        goal,
        batch: arguments.batch,
        after: arguments.after.map(ConnectionId),
        dry_run: arguments.dry_run,
    };
    let code = secrets::rotate(&rotation, &shutdown).await;
    database.close().await;
    Ok(code)
}

async fn run_dev(arguments: DevArguments, mut configuration: Configuration) -> anyhow::Result<ExitCode> {
    let shutdown = shutdown_on_signal().context("signals cannot be listened to")?;
    // This process is all the workers that there are.
    configuration.limits.workers = NonZeroU32::MIN;
    let simulation = match &arguments.config {
        Some(_) => None,
        None => Some(Simulation::start(&arguments, &mut configuration).await?),
    };
    let url = Configuration::required("database.url", configuration.database.url.as_ref())?;
    if !url.expose().starts_with("sqlite:") {
        let problem =
            "database.url: `freshet dev` runs on an SQLite file; for MySQL run `producer` and `worker`";
        return Err(ConfigurationError::Key(problem.into()).into());
    }
    let sealing = sealing(&configuration)?;
    let opening = Box::pin(Database::open(url, &configuration.database));
    let Some(database) = shutdown.run_until_cancelled(opening).await else {
        return Ok(ExitCode::SUCCESS);
    };
    let database = database?.with_sealing(sealing);
    if simulation.is_some() {
        freshet_shared::migrations::platform::create_missing(&database).await?;
    }
    freshet_shared::migrations::migrate(&database).await?;
    if simulation.is_some() {
        dev::simulation::found_fleet(&database, &arguments, &SystemClock).await?;
    }
    let fleet = fleet(&configuration, &database)?;
    announce(&fleet.scanner.providers);
    let code = dev::run(fleet, &arguments, shutdown).await;
    if let Some(simulation) = simulation {
        simulation.stop().await;
    }
    database.close().await;
    code
}

/// Producer and worker on embedded parts.
fn fleet(configuration: &Configuration, database: &Database) -> anyhow::Result<Fleet> {
    let clock = Arc::new(SystemClock);
    let randomness = Arc::new(SystemRandomness);
    let queue = InProcessQueue::new();
    let consumer = Box::new(queue.consumer());
    let cache = Arc::new(InProcessCache::new(clock.clone()));
    let store = Arc::new(database.clone());
    let caller = caller(configuration)?;
    // Nobody outside of this process could hear them.
    let events = Arc::new(InProcessEvents::keeping(0));
    let scanner = Scanner {
        store: store.clone(),
        publisher: queue,
        clock: clock.clone(),
        randomness: randomness.clone(),
        providers: configuration.providers()?,
        windows: configuration.scan.windows(),
        claim: TimeDelta::from_std(configuration.scan.claim)?,
        page_size: configuration.scan.page_size,
        metrics: ScanMetrics::off(),
        activity: Arc::default(),
        leadership: Leadership::without_election(),
        settled: Settled::default(),
    };
    let parts = Parts {
        store: store.clone(),
        cache,
        caller,
        events,
        parking: Arc::new(InProcessParking::default()),
        rate_limiter: Arc::new(InProcessRateLimiter::new(clock.clone())),
        clock: clock.clone(),
        randomness,
    };
    Ok(Fleet {
        scanner,
        schedule: schedule(&configuration.scan)?,
        refresher: refresher(configuration, parts)?,
        pool: pool_settings(configuration),
        consumer,
        census: store,
        clock,
    })
}
