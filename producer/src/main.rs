//! The `producer` binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use freshet_producer::app;
use freshet_producer::arguments::Arguments;
use freshet_shared::configuration::Configuration;
use freshet_shared::process;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    process::install_crypto();
    let configuration = match Configuration::load(arguments.config.as_deref(), &process::environment()) {
        Ok(configuration) => configuration,
        Err(error) => return process::complain(&error.into()),
    };
    let telemetry = configuration.telemetry.clone();
    process::run("freshet-producer", &telemetry, app::execute(arguments.command, configuration))
}
