//! `simulate`: a fleet of producers and workers for days of virtual time, in one process and on one thread, with faults
//! that follow from a seed.
//!
//! The code that runs is the product's: its scans, its pool, its refreshes, its statements on SQLite. What is ours here
//! stands where a process ends, and may fail in every way that the real thing may: the store, the queue, the cache, the
//! provider, the clock. The same seed gives the same run, so a violation that was found once can be looked at again.
#![forbid(unsafe_code)]

mod arguments;
mod deadlines;
mod depot;
mod faults;
mod fleet;
mod host;
mod invariants;
mod marketplace;
mod merchants;
mod plan;
mod processes;
mod reigns;
mod run;
mod seeds;
mod shelf;
mod store;
#[cfg(test)]
mod tests;
mod weather;
mod wire;
mod world;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = arguments::Arguments::parse();
    match &arguments.command {
        Some(arguments::Command::Plan(plan)) => plan::plan(plan),
        None => seeds::simulate(&arguments),
    }
}
