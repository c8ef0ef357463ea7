//! What a run came to, as one table.

use std::time::Duration;

use crate::arguments::Arguments;
use crate::mischief::Done;
use crate::oracle::{Verdict, quantiles};

/// How many violations of a kind are named.
const NAMED: usize = 5;
/// Of a line.
const WIDTH: usize = 61;

/// Prints it.
#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
pub(crate) fn print(arguments: &Arguments, done: &Done, verdict: &Verdict, took: Duration) {
    let line = |name: &str, value: String| println!("{name:<36} {value:>24}");
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let failpoints = if cfg!(feature = "failpoints") { "with failpoints" } else { "as shipped" };
    line("build", format!("{build}, {failpoints}"));
    line("jobs", arguments.jobs.to_string());
    line("first attempts failing", format!("{} %", arguments.first_failures));
    for (name, count) in &done.counts {
        line(name, count.to_string());
    }
    line("processes that gave up", done.gave_up.to_string());
    line("took", format!("{} s", took.as_secs()));
    line(
        "recovered in",
        done.recovered_in.map_or("never".into(), |time| format!("{:.1} s", time.as_secs_f64())),
    );
    if let Some(quantiles) = quantiles(&done.resumed_in) {
        for (name, time) in ["p50", "p99", "longest"].into_iter().zip(quantiles) {
            line(&format!("broker back to work, {name}"), format!("{:.1} s", time.as_secs_f64()));
        }
    }
    println!("{}", "-".repeat(WIDTH));
    line("refreshed", verdict.refreshed.to_string());
    line("calls", verdict.calls.to_string());
    for (reason, count) in &verdict.explained {
        line(&format!("called again: {reason}"), count.to_string());
    }
    line("quarantined (the window)", verdict.quarantined.to_string());
    line("lost with Redis", verdict.uncached.to_string());
    println!("{}", "-".repeat(WIDTH));
    for (name, found) in &verdict.violations {
        line(name, found.len().to_string());
        for one in found.iter().take(NAMED) {
            println!("    {one}");
        }
    }
}
