//! Where the commands' parts are put together.

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use chrono::TimeDelta;
use clap::Parser;
use freshet_producer::app::{announce, schedule};
use freshet_producer::scan::Scanner;
use freshet_shared::adapters::database::Database;
use freshet_shared::adapters::embedded::cache::InProcessCache;
use freshet_shared::adapters::embedded::queue::InProcessQueue;
use freshet_shared::adapters::system::{SystemClock, SystemRandomness};
use freshet_shared::configuration::{Configuration, ConfigurationError};
use freshet_shared::process::{self, shutdown_on_signal};
use freshet_worker::app::{caller, pool_settings, refresher};

use crate::arguments::{Arguments, Command, DevArguments, MigrateArguments, ProvidersCommand};
use crate::dev::fleet::Fleet;
use crate::dev::simulation::Simulation;
use crate::{dev, migrate, providers};

/// Does what the command line asks for.
///
/// # Errors
/// Names the key or the service that is at fault.
pub fn execute(arguments: Arguments, environment: &HashMap<String, String>) -> anyhow::Result<ExitCode> {
    let command = arguments.command.unwrap_or_else(|| Command::Dev(default_dev()));
    let file = match &command {
        Command::Dev(arguments) => arguments.config.as_deref(),
        Command::Migrate(arguments) => arguments.config.as_deref(),
        Command::Providers(arguments) => arguments.config.as_deref(),
    };
    let mut configuration = Configuration::load(file, environment)?;
    if matches!(&command, Command::Dev(arguments) if arguments.config.is_none()) {
        dev::simulation::quieten(&mut configuration.telemetry);
    }
    let telemetry = configuration.telemetry.clone();
    let work = async {
        match command {
            Command::Dev(arguments) => run_dev(arguments, configuration).await,
            Command::Migrate(arguments) => run_migrate(&arguments, &configuration).await,
            Command::Providers(arguments) => run_providers(arguments.command, &configuration).await,
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
    providers::execute(command, configuration, caller.as_ref(), &SystemClock).await
}

async fn run_dev(arguments: DevArguments, mut configuration: Configuration) -> anyhow::Result<ExitCode> {
    let shutdown = shutdown_on_signal().context("signals cannot be listened to")?;
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
    let opening = Box::pin(Database::open(url, &configuration.database));
    let Some(database) = shutdown.run_until_cancelled(opening).await else {
        return Ok(ExitCode::SUCCESS);
    };
    let database = database?;
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
    let scanner = Scanner {
        store: store.clone(),
        publisher: queue,
        clock: clock.clone(),
        randomness: randomness.clone(),
        providers: configuration.providers()?,
        windows: configuration.scan.windows(),
        claim: TimeDelta::from_std(configuration.scan.claim)?,
        page_size: configuration.scan.page_size,
    };
    Ok(Fleet {
        scanner,
        schedule: schedule(&configuration.scan)?,
        refresher: refresher(configuration, store.clone(), cache, caller, clock.clone(), randomness)?,
        pool: pool_settings(configuration),
        consumer,
        census: store,
        clock,
    })
}
