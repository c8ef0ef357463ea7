//! One target, fed with its corpus and with mutations of it.

use std::any::Any;
use std::collections::HashSet;
use std::fmt;
use std::panic::catch_unwind;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use freshet_tests::environment::{FUZZ_RUNS, FUZZ_SEED, optional};
use nix::time::{ClockId, clock_gettime};

use crate::corpus;
use crate::mutation::{Generator, mutated};

/// Runs per target where the environment does not say: about five seconds for all targets without optimization.
const RUNS: u64 = 3_000;

/// Inputs that made the code say something new are kept up to this many.
const MOST_FOUND: usize = 2_000;

/// No input may take longer. Nearly all are read in microseconds.
const LONGEST: Duration = Duration::from_secs(1);

/// Marks what must not be seen in the words of a refusal.
pub(crate) const CANARY: &str = "c4n4ry-s3cret";

/// Something that reads what comes from outside.
pub(crate) struct Target {
    /// Also its corpus's folder.
    pub(crate) name: &'static str,
    /// Words of its format.
    pub(crate) dictionary: &'static [&'static str],
    /// Further inputs to begin with.
    pub(crate) seeds: fn() -> Vec<Vec<u8>>,
    /// Reads the input. An error says which promise is broken.
    pub(crate) read: fn(&[u8]) -> Result<Reading>,
}

/// How an input was read.
pub(crate) enum Reading {
    /// Taken, in the way that these words name.
    Accepted(String),
    /// Refused with these words.
    Refused(String),
}

/// What a campaign came to.
pub(crate) struct Report {
    name: &'static str,
    runs: u64,
    seed: u64,
    corpus: usize,
    found: usize,
    accepted: u64,
    longest: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, runs, seed, corpus, found, accepted, longest } = self;
        write!(
            formatter,
            "{name}: {runs} mutations (seed {seed}) of {corpus} corpus entries and {found} found on the way; \
             {accepted} accepted, the others refused; none took longer than {longest:.1?}"
        )
    }
}

/// Feeds the target as often as the environment says.
pub(crate) fn run(target: &Target) -> Result<Report> {
    let (runs, seed) = (number(FUZZ_RUNS, RUNS)?, number(FUZZ_SEED, 1)?);
    let mut pool = corpus::load(target.name)?;
    ensure!(!pool.is_empty(), "the corpus of {} is empty", target.name);
    pool.extend((target.seeds)());
    let mut report = Report {
        name: target.name,
        runs,
        seed,
        corpus: pool.len(),
        found: 0,
        accepted: 0,
        longest: Duration::ZERO,
    };
    let mut said = HashSet::new();
    for input in &pool {
        said.insert(feed(target, input, &mut report)?);
    }
    for case in 0..runs {
        let mut generator = Generator::new(seed, case);
        let (base, other) = (generator.below(pool.len()), generator.below(pool.len()));
        let input = mutated(&mut generator, &pool[base], &pool[other], target.dictionary);
        let is_new = said.insert(feed(target, &input, &mut report)?);
        if is_new && report.found < MOST_FOUND {
            report.found += 1;
            pool.push(input);
        }
    }
    Ok(report)
}

/// Has the target read one input; answers what it said, without what it quoted.
fn feed(target: &Target, input: &[u8], report: &mut Report) -> Result<String> {
    let begun = time_of_this_thread()?;
    let mut reading = read(target, input);
    let taken = time_of_this_thread()?.saturating_sub(begun);
    if taken > LONGEST && reading.is_ok() {
        reading = Err(anyhow!("it took {taken:?}"));
    }
    report.longest = report.longest.max(taken);
    match reading {
        Ok(Reading::Accepted(how)) => {
            report.accepted += 1;
            Ok(how)
        }
        Ok(Reading::Refused(words)) => Ok(gist(&words)),
        Err(problem) => {
            let path = corpus::keep(target.name, input)?;
            Err(problem.context(format!("{}: kept as {}", target.name, path.display())))
        }
    }
}

/// How long the processor worked for this thread: a machine that does everything at once makes no input slow.
fn time_of_this_thread() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID)?.into())
}

fn read(target: &Target, input: &[u8]) -> Result<Reading> {
    match catch_unwind(|| (target.read)(input)) {
        Ok(reading) => reading,
        Err(panic) => bail!("it panicked: {}", words_of(panic.as_ref())),
    }
}

fn words_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without words")
}

/// What tells one refusal from another: its last line, without numbers and what it quotes.
fn gist(words: &str) -> String {
    let line = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    let unquoted = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
    unquoted.chars().filter(|character| !character.is_ascii_digit()).take(200).collect()
}

fn number(variable: &str, default: u64) -> Result<u64> {
    let Some(text) = optional(variable) else { return Ok(default) };
    text.parse().with_context(|| format!("{variable} is not a number"))
}

/// Fails if the words show what they must not.
pub(crate) fn ensure_discreet(words: &str) -> Result<()> {
    ensure!(!words.contains(CANARY), "a secret is shown: {words}");
    Ok(())
}
