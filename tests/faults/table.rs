//! What a run came to, as one table.

use std::time::Duration;

use crate::arguments::Arguments;
use crate::dead_letters;
use crate::mischief::Done;
use crate::oracle::{Verdict, quantiles};
use crate::said::Delivered;

/// How many of a kind are named.
const NAMED: usize = 5;
/// Of a line.
const WIDTH: usize = 61;

/// Prints it.
#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
pub(crate) fn print(arguments: &Arguments, done: &Done, verdict: &Verdict, took: Duration) {
    let line = |name: &str, value: String| println!("{name:<36} {value:>24}");
    let build = if cfg!(debug_assertions) { "debug" } else { "optimized" };
    let failpoints = if cfg!(feature = "failpoints") { "with failpoints" } else { "as shipped" };
    line("build", format!("{build}, {failpoints}"));
    line("jobs", done.jobs.to_string());
    line("workers at once", arguments.workers.to_string());
    line("first attempts failing", format!("{} %", arguments.first_failures));
    for (name, count) in &done.counts {
        line(name, count.to_string());
    }
    if arguments.dead_letters > 0 {
        line("dead letters", arguments.dead_letters.to_string());
        line("broker kills among them", dead_letters::KILLS.to_string());
    }
    line("processes that gave up", done.gave_up.len().to_string());
    for gone in done.gave_up.iter().take(NAMED) {
        println!("    {}", gone.why);
    }
    line("took", format!("{} s", took.as_secs()));
    line(
        "recovered in",
        done.recovered_in.map_or("never".into(), |time| format!("{:.1} s", time.as_secs_f64())),
    );
    let ended_in: Vec<Duration> =
        done.ends.iter().filter_map(|end| (end.ended - end.asked).to_std().ok()).collect();
    let times = [
        ("SIGTERM to end", &ended_in),
        ("broker back to work", &done.resumed_in),
        ("broker back to every worker", &done.all_resumed_in),
    ];
    for (what, times) in times {
        for (name, time) in ["p50", "p99", "longest"].into_iter().zip(quantiles(times).into_iter().flatten())
        {
            line(&format!("{what}, {name}"), format!("{:.1} s", time.as_secs_f64()));
        }
    }
    println!("{}", "-".repeat(WIDTH));
    line("refreshed", verdict.refreshed.to_string());
    line("calls", verdict.calls.to_string());
    for (reason, count) in &verdict.explained {
        line(&format!("called again: {reason}"), count.to_string());
    }
    for (reason, count) in &verdict.came_again {
        line(&format!("ended, came again: {reason}"), count.to_string());
    }
    let windows = [
        ("answer to 'refreshed' said", &verdict.windows),
        ("written down to 'refreshed'", &verdict.whole_windows),
    ];
    for (what, times) in windows {
        for (name, time) in ["p50", "p99", "longest"].into_iter().zip(quantiles(times).into_iter().flatten())
        {
            line(&format!("{what}, {name}"), format!("{:.1} ms", time.as_secs_f64() * 1e3));
        }
    }
    let again = done.said.begun.iter().filter(|begun| begun.delivered == Delivered::Again).count();
    line("jobs begun", done.said.begun.len().to_string());
    line("of them redelivered", again.to_string());
    line("answers parked", done.said.parked.all.to_string());
    line("of them stored", done.said.parked.stored.to_string());
    line("ends without a database, excused", verdict.excused_ends.to_string());
    for (reason, count) in &verdict.quarantined {
        line(&format!("quarantined: {reason}"), count.to_string());
    }
    println!("{}", "-".repeat(WIDTH));
    for (name, found) in &verdict.violations {
        line(name, found.len().to_string());
        for one in found.iter().take(NAMED) {
            println!("    {one}");
        }
    }
}
