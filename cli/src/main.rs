//! The `freshet` binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use freshet_cli::app;
use freshet_cli::arguments::Arguments;
use freshet_shared::process;

fn main() -> ExitCode {
    process::prepare();
    let arguments = Arguments::parse();
    app::execute(arguments, &process::environment()).unwrap_or_else(|error| process::complain(&error))
}
