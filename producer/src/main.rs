//! The `producer` binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use freshet_producer::app;
use freshet_producer::arguments::Arguments;
use freshet_shared::process;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    process::main("freshet-producer", arguments.config.as_deref(), |configuration| {
        app::execute(arguments.command, configuration)
    })
}
