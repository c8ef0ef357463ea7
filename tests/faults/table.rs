//! What a run came to, as one table.

use std::time::Duration;

use crate::arguments::Arguments;
use crate::mischief::Done;
use crate::oracle::Verdict;

/// How many violations of a kind are named.
const NAMED: usize = 5;

/// Prints it.
#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
pub(crate) fn print(arguments: &Arguments, done: &Done, verdict: &Verdict, took: Duration) {
    let line = |name: &str, value: String| println!("{name:<28} {value:>12}");
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
    println!("{}", "-".repeat(41));
    line("refreshed", verdict.refreshed.to_string());
    line("calls", verdict.calls.to_string());
    line("called again after a failure", verdict.after_failure.to_string());
    line("called again after a kill", verdict.after_disturbance.to_string());
    line("quarantined (the window)", verdict.quarantined.to_string());
    line("lost with Redis", verdict.uncached.to_string());
    println!("{}", "-".repeat(41));
    for (name, found) in &verdict.violations {
        line(name, found.len().to_string());
        for one in found.iter().take(NAMED) {
            println!("    {one}");
        }
    }
}
