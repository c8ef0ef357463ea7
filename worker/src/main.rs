//! The `worker` binary.
#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::Parser;
use freshet_shared::process;
use freshet_worker::app;
use freshet_worker::arguments::Arguments;
use mimalloc::MiMalloc;

/// A quarter less processor time per refresh than the system's (`tests/bench --section throughput`).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    process::main("freshet-worker", arguments.config.as_deref(), |configuration| {
        app::execute(arguments.command, configuration)
    })
}
