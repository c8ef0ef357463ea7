//! `private-services -- COMMAND ARGS…`: runs a command beside MariaDB, RabbitMQ and Redis servers of its own.
#![forbid(unsafe_code)]
#![expect(clippy::print_stderr, reason = "a command-line tool; stdout belongs to the command it runs")]

use std::env;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Result;
use freshet_tests::command::{self, Signals};
use freshet_tests::environment;
use freshet_tests::services::PrivateServices;

/// One thread, because servers end with the thread that started them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match run().await {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("private-services: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run() -> Result<u8> {
    let mut arguments: Vec<OsString> = env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "--") {
        arguments.remove(0);
    }
    let mut signals = Signals::listen()?;
    let started = Instant::now();
    let services = tokio::select! {
        services = PrivateServices::start_missing(|name| environment::optional(name).is_some()) => services?,
        signal = signals.received() => return Ok(128 + u8::try_from(signal as i32)?),
    };
    let variables = services.variables();
    if !variables.is_empty() {
        let names: Vec<&str> = variables.iter().map(|(name, _)| *name).collect();
        eprintln!("private-services: started for {} in {:.1?}", names.join(", "), started.elapsed());
    }
    command::run(&arguments, &variables, &mut signals).await
}
