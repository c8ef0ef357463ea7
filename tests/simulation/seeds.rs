//! Many seeds, on all processors, and what to say about them.

use std::fmt;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::arguments::Arguments;
use crate::deadlines::Judged;
use crate::run::{Report, run};
use crate::store::Tables;

/// Runs what was asked for, and says what came of it. Ends at the first violation.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the report is what was asked for")]
pub(crate) fn simulate(arguments: &Arguments) -> ExitCode {
    let begun = Instant::now();
    if let Some(without) = arguments.without {
        without.obey();
    }
    let result = match arguments.seed {
        Some(seed) => one(seed, arguments),
        None => many(arguments),
    };
    match result {
        Ok(Summary { failing: None, totals }) => {
            println!("{totals} in {:.1?}: no violation", begun.elapsed());
            ExitCode::SUCCESS
        }
        Ok(Summary { failing: Some((seed, report)), .. }) => {
            println!("seed {seed}: {} violations", report.violations.len());
            for violation in report.violations.iter().take(10) {
                println!("  {violation}");
            }
            println!("replay it with: {}", arguments.replay(seed));
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("simulate: {error:#}");
            ExitCode::from(2)
        }
    }
}

struct Summary {
    totals: Totals,
    failing: Option<(u64, Report)>,
}

/// What all runs came to.
#[derive(Debug, Clone, Copy, Default)]
struct Totals {
    seeds: u64,
    simulated: Duration,
    calls: u64,
    stored: u64,
    parked: u64,
    taken_over: u64,
    filled: u64,
    cached_again: u64,
    judged: Judged,
}

impl Totals {
    fn add(&mut self, length: Duration, report: &Report) {
        self.seeds += 1;
        self.simulated += length;
        self.calls += report.calls;
        self.stored += report.stored;
        self.parked += report.parked;
        self.taken_over += report.taken_over;
        self.filled += report.filled;
        self.cached_again += report.cached_again;
        self.judged.add(report.judged);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{} seeds, {} virtual hours, {} calls, {} tokens stored, {} parked answers taken up, {} leaders followed \
             by another, an emptied cache filled {} times with {} tokens, no excuse in {},",
            self.seeds,
            self.simulated.as_secs() / 3_600,
            self.calls,
            self.stored,
            self.parked,
            self.taken_over,
            self.filled,
            self.cached_again,
            self.judged
        )
    }
}

fn one(seed: u64, arguments: &Arguments) -> Result<Summary> {
    let length = arguments.length(seed);
    let report = run(seed, length, true, &Arc::new(Tables::create()?))?;
    let mut totals = Totals::default();
    totals.add(length, &report);
    let failing = (!report.violations.is_empty()).then_some((seed, report));
    Ok(Summary { totals, failing })
}

/// Says every so many seeds how far it is.
const SAY_EVERY: u64 = 500;

#[expect(clippy::print_stderr, reason = "whoever waits for long wants to know")]
fn many(arguments: &Arguments) -> Result<Summary> {
    let (next, end) = (AtomicU64::new(arguments.from), arguments.from.saturating_add(arguments.seeds));
    let (is_over, totals) = (AtomicBool::new(false), Mutex::new(Totals::default()));
    let (failing, begun) = (Mutex::new(None::<(u64, Report)>), Instant::now());
    let work = || -> Result<()> {
        let tables = Arc::new(Tables::create()?);
        while !is_over.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                break;
            }
            let length = arguments.length(seed);
            let report = run(seed, length, false, &tables)?;
            let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
            totals.add(length, &report);
            if totals.seeds.is_multiple_of(SAY_EVERY) {
                eprintln!("{totals} after {:.0?}", begun.elapsed());
            }
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
    Ok(Summary {
        totals: totals.into_inner().unwrap_or_else(PoisonError::into_inner),
        failing: failing.into_inner().unwrap_or_else(PoisonError::into_inner),
    })
}
