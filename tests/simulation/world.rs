//! What all parts of a run share: its time, its dice, its weather, and the trace of what happened.

use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::adapters::embedded::clock::SeededRandomness;
use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::randomness::Randomness;
use tokio::time::Instant;

use crate::faults::Faults;

/// A run's world.
pub(crate) struct World {
    begun: Instant,
    dice: SeededRandomness,
    /// What may go wrong while it storms.
    faults: Faults,
    state: Mutex<State>,
}

/// What changes.
pub(crate) struct State {
    /// Whether things go wrong.
    pub(crate) is_stormy: bool,
    /// Since when all has been well with everything that the fleet stands on.
    pub(crate) calm_since: DateTime<Utc>,
    /// The database answers nobody.
    pub(crate) is_store_away: bool,
    /// The cache answers nobody.
    pub(crate) is_cache_away: bool,
    /// What must not have happened.
    pub(crate) violations: Vec<String>,
    digest: DefaultHasher,
    lines: u64,
    is_printing: bool,
}

impl World {
    /// At noon of a day, in calm weather.
    pub(crate) fn new(seed: u64, is_printing: bool) -> Self {
        let dice = SeededRandomness::new(seed);
        let faults = Faults::of(&dice);
        let state = State {
            is_stormy: false,
            calm_since: noon(),
            is_store_away: false,
            is_cache_away: false,
            violations: Vec::new(),
            digest: DefaultHasher::new(),
            lines: 0,
            is_printing,
        };
        Self { begun: Instant::now(), dice, faults, state: Mutex::new(state) }
    }

    /// The true time; every process has a clock of its own.
    pub(crate) fn now(&self) -> DateTime<Utc> {
        noon() + TimeDelta::from_std(self.begun.elapsed()).unwrap_or(TimeDelta::MAX)
    }

    /// Everything that changes.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A number below `end`.
    pub(crate) fn draw(&self, end: u64) -> u64 {
        self.dice.next().checked_rem(end).unwrap_or(0)
    }

    /// A number of the run's.
    pub(crate) fn seed(&self) -> u64 {
        self.dice.next()
    }

    /// A time between two.
    pub(crate) fn between(&self, shortest: Duration, longest: Duration) -> Duration {
        let span = u64::try_from(longest.saturating_sub(shortest).as_millis()).unwrap_or(u64::MAX);
        shortest + Duration::from_millis(self.draw(span.saturating_add(1)))
    }

    /// Whether a fault strikes now. Only while it storms.
    pub(crate) fn strikes(&self, chance: impl Fn(&Faults) -> u32) -> bool {
        let chance = u64::from(chance(&self.faults));
        chance > 0 && self.state().is_stormy && self.draw(1_000_000) < chance
    }

    /// Writes down what happens.
    pub(crate) fn trace(&self, who: &str, what: fmt::Arguments<'_>) {
        let now = self.now();
        let mut state = self.state();
        let line = format!("{} {who}: {what}", now.format("%dd %H:%M:%S%.3f"));
        state.digest.write(line.as_bytes());
        state.lines += 1;
        if state.is_printing {
            print(&line);
        }
    }

    /// Writes down what must not have happened.
    pub(crate) fn violated(&self, what: String) {
        self.trace("VIOLATION", format_args!("{what}"));
        self.state().violations.push(format!("{} {what}", self.now().format("%dd %H:%M:%S%.3f")));
    }

    /// What tells this run from every other: a number made of all that happened, and how much that was.
    pub(crate) fn digest(&self) -> (u64, u64) {
        let state = self.state();
        (state.digest.finish(), state.lines)
    }
}

/// The true time, for whoever is no process: the servers.
#[async_trait]
impl Clock for World {
    fn now(&self) -> DateTime<Utc> {
        Self::now(self)
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

fn noon() -> DateTime<Utc> {
    // In range by far.
    DateTime::from_timestamp(1_795_262_400, 0).unwrap_or_default()
}

#[expect(clippy::print_stdout, reason = "the trace is what was asked for")]
fn print(line: &str) {
    println!("{line}");
}
