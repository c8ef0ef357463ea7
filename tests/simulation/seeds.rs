//! Many seeds, on all processors, and what to say about them.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use anyhow::Result;
use freshet_shared::failpoints::turn_off;

use crate::arguments::Arguments;
use crate::run::{Report, run};
use crate::store::Tables;

/// Runs what was asked for, and says what came of it. Ends at the first violation.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the report is what was asked for")]
pub(crate) fn simulate(arguments: &Arguments) -> ExitCode {
    let begun = Instant::now();
    if let Some(without) = arguments.without {
        turn_off(without.into());
    }
    let result = match arguments.seed {
        Some(seed) => one(seed, arguments),
        None => many(arguments),
    };
    match result {
        Ok(Summary { seeds, failing: None, calls, stored }) => {
            let hours = seeds * u64::from(arguments.hours);
            println!(
                "{seeds} seeds, {hours} virtual hours in {:.1?}: {calls} calls, {stored} tokens stored, no violation",
                begun.elapsed()
            );
            ExitCode::SUCCESS
        }
        Ok(Summary { failing: Some((seed, report)), .. }) => {
            println!("seed {seed}: {} violations", report.violations.len());
            for violation in report.violations.iter().take(10) {
                println!("  {violation}");
            }
            println!("replay it with: tests/simulate --seed {seed} --hours {}", arguments.hours);
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("simulate: {error:#}");
            ExitCode::from(2)
        }
    }
}

struct Summary {
    seeds: u64,
    failing: Option<(u64, Report)>,
    calls: u64,
    stored: u64,
}

fn one(seed: u64, arguments: &Arguments) -> Result<Summary> {
    let report = run(seed, arguments.hours, true, &Arc::new(Tables::create()?))?;
    let (calls, stored) = (report.calls, report.stored);
    let failing = (!report.violations.is_empty()).then_some((seed, report));
    Ok(Summary { seeds: 1, failing, calls, stored })
}

fn many(arguments: &Arguments) -> Result<Summary> {
    let (next, end) = (AtomicU64::new(arguments.from), arguments.from.saturating_add(arguments.seeds));
    let (is_over, totals) = (AtomicBool::new(false), Mutex::new((0, 0, 0)));
    let failing = Mutex::new(None::<(u64, Report)>);
    let work = || -> Result<()> {
        let tables = Arc::new(Tables::create()?);
        while !is_over.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                break;
            }
            let report = run(seed, arguments.hours, false, &tables)?;
            let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
            *totals = (totals.0 + 1, totals.1 + report.calls, totals.2 + report.stored);
            drop(totals);
            if !report.violations.is_empty() {
                is_over.store(true, Ordering::Relaxed);
                let mut failing = failing.lock().unwrap_or_else(PoisonError::into_inner);
                // The first of them, whichever thread was faster.
                if failing.as_ref().is_none_or(|(before, _)| seed < *before) {
                    *failing = Some((seed, report));
                }
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..arguments.jobs()).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            thread.join().map_err(|_| anyhow::anyhow!("a run panicked"))??;
        }
        anyhow::Ok(())
    })?;
    let (seeds, calls, stored) = totals.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Summary {
        seeds,
        failing: failing.into_inner().unwrap_or_else(PoisonError::into_inner),
        calls,
        stored,
    })
}
