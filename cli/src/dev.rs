//! `freshet dev`: producer, worker, queue and cache in one process, with live progress.

pub mod fleet;
mod progress;
mod report;
mod seed;
pub mod simulation;
mod tally;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::arguments::DevArguments;
use fleet::Fleet;
use progress::Progress;
use report::Report;
use tally::Tally;

/// Of a simulated fleet, where the command line does not say.
const SIMULATED_DURATION: Duration = Duration::from_secs(60);
/// How often the fleet is counted for the progress display.
const COUNT_EVERY: Duration = Duration::from_millis(500);

/// Runs the fleet for the asked time, or until `shutdown`, and prints the report.
///
/// # Errors
/// If the database or the in-process queue fails.
pub async fn run(
    fleet: Fleet,
    arguments: &DevArguments,
    shutdown: CancellationToken,
) -> anyhow::Result<ExitCode> {
    let is_simulated = arguments.config.is_none();
    let duration = arguments.duration.or(is_simulated.then_some(SIMULATED_DURATION));
    let begun = tokio::time::Instant::now();
    let started_at = fleet.clock.now();
    let tally = Arc::new(Tally::new(started_at)?);
    let Fleet { scanner, schedule, refresher, pool, consumer, census, clock } = fleet;
    let counter = fleet::Counter::new(census, scanner.providers.clone(), scanner.windows, clock);

    let observer: freshet_worker::pool::Observer = {
        let tally = tally.clone();
        Arc::new(move |report| tally.note(report))
    };
    let producing = {
        let shutdown = shutdown.clone();
        tokio::spawn(async move { freshet_producer::schedule::run(&scanner, &schedule, &shutdown).await })
    };
    let working = tokio::spawn(freshet_worker::pool::run(
        Arc::new(refresher),
        consumer,
        pool,
        observer,
        shutdown.clone(),
    ));

    let mut progress = Progress::start();
    let mut every = tokio::time::interval(COUNT_EVERY);
    let ended_at = loop {
        tokio::select! {
            _ = every.tick() => {}
            () = shutdown.cancelled() => {}
        }
        let census = counter.count().await?;
        progress.show(&census, &tally, counter.now());
        let is_over = duration.is_some_and(|duration| begun.elapsed() >= duration);
        if is_over || shutdown.is_cancelled() || working.is_finished() {
            break counter.now();
        }
    };
    shutdown.cancel();
    producing.await?;
    let pool = working.await??;
    progress.finish();
    // Counted anew: tokens may have died, and been renewed, since the last count began.
    let last = counter.count().await?;
    // A token that dies while the process ends is the next process's to refresh.
    let expired_here = counter.expired_between(started_at, ended_at).await?;
    let report = Report::new(&last, &tally, &pool, expired_here, begun.elapsed(), is_simulated);
    report.print(arguments.report);
    Ok(report.exit_code())
}
