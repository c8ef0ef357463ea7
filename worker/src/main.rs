//! The `worker` binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use freshet_shared::process;
use freshet_worker::app;
use freshet_worker::arguments::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    process::main("freshet-worker", arguments.config.as_deref(), |configuration| {
        app::execute(arguments.command, configuration)
    })
}
