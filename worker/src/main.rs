//! The `worker` binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use freshet_shared::configuration::Configuration;
use freshet_shared::process;
use freshet_worker::app;
use freshet_worker::arguments::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    process::install_crypto();
    let configuration = match Configuration::load(arguments.config.as_deref(), &process::environment()) {
        Ok(configuration) => configuration,
        Err(error) => return process::complain(&error.into()),
    };
    let telemetry = configuration.telemetry.clone();
    process::run("freshet-worker", &telemetry, app::execute(arguments.command, configuration))
}
