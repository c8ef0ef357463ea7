//! `freshet check`: what follows from a configuration, and whether so many processes may run with it. Asks nobody.

mod report;
#[cfg(test)]
mod tests;

use std::process::ExitCode;

use freshet_shared::adapters::rabbitmq::queue_names;
use freshet_shared::configuration::{Configuration, ConfigurationError};
use freshet_shared::domain::limits::share;

pub use report::{CheckReport, Connections, ProviderShare, Stop};

use crate::arguments::{FleetCheckArguments, ReportForm};

/// Prints what follows from the configuration; exit code 1 if so many processes are too many.
///
/// # Errors
/// Names the key or the definition that is at fault.
#[expect(clippy::print_stdout, reason = "the report is what was asked for")]
pub fn execute(
    arguments: &FleetCheckArguments,
    configuration: &Configuration,
) -> Result<ExitCode, ConfigurationError> {
    let report = check(arguments, configuration)?;
    match arguments.report {
        ReportForm::Text => print!("{report}"),
        ReportForm::Json => println!("{}", serde_json::json!(report)),
    }
    Ok(ExitCode::from(u8::from(!report.problems.is_empty())))
}

/// What follows from the configuration, for as many processes as the arguments say, or as `limits` allows.
///
/// # Errors
/// Names the definition or the setting that is at fault.
pub fn check(
    arguments: &FleetCheckArguments,
    configuration: &Configuration,
) -> Result<CheckReport, ConfigurationError> {
    let providers = configuration.providers()?;
    let limits = &configuration.limits;
    let workers = arguments.workers.unwrap_or(limits.workers);
    let producers = arguments.producers.unwrap_or(limits.producers);
    let shares = providers.iter().filter(|provider| provider.integration_type.is_some()).map(|provider| {
        let asked = provider.limits();
        ProviderShare {
            provider: provider.name().to_owned(),
            rate: asked.rate.map(|rate| rate.to_string()),
            concurrency: asked.concurrency,
            concurrency_of_each: asked.concurrency.map(|whole| share(whole, limits.workers)),
        }
    });
    let mut report = CheckReport {
        queues: queue_names(&providers.pools()),
        workers,
        producers,
        connections: Connections::of(workers, producers, configuration),
        concurrency: configuration.worker.concurrency,
        providers: shares.collect(),
        longest_stop: Stop {
            producer_s: freshet_producer::app::longest_stop(configuration).as_secs_f64().ceil(),
            worker_s: freshet_worker::app::longest_stop(configuration).as_secs_f64().ceil(),
        },
        problems: Vec::new(),
    };
    report.find_problems(limits);
    Ok(report)
}
