//! What all parts of a run share: its time, its dice, its weather, and the trace of what happened.

use std::collections::BTreeSet;
use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::adapters::embedded::clock::SeededRandomness;
use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::randomness::Randomness;
use tokio::time::Instant;

use crate::deadlines::{Deadlines, Judged, Wait};
use crate::faults::Faults;
use crate::invariants::{Row, rows};
use crate::store::Tables;

/// A run's world.
pub(crate) struct World {
    begun: Instant,
    dice: SeededRandomness,
    /// What may go wrong while it storms.
    faults: Faults,
    state: Mutex<State>,
    tables: Arc<Tables>,
    deadlines: Mutex<Deadlines>,
}

/// What changes.
pub(crate) struct State {
    /// Whether things go wrong.
    pub(crate) is_stormy: bool,
    /// Since when all has been well with everything that the fleet stands on.
    pub(crate) calm_since: DateTime<Utc>,
    /// As long as it is more than 0 the database answers nobody.
    pub(crate) store_away: u32,
    /// The cache answers nobody.
    pub(crate) is_cache_away: bool,
    /// The last moment at which anything was not as it should be.
    pub(crate) disturbed_at: DateTime<Utc>,
    /// What must not have happened.
    pub(crate) violations: Vec<String>,
    /// Connections of which a call may have come to something that nobody knows, since their last token was stored.
    doubted: BTreeSet<i64>,
    /// Jobs of workers that stand still.
    still: u32,
    slots: u32,
    digest: DefaultHasher,
    lines: u64,
    is_printing: bool,
}

impl World {
    /// At noon of a day, in calm weather.
    pub(crate) fn new(seed: u64, is_printing: bool, tables: Arc<Tables>) -> Self {
        let dice = SeededRandomness::new(seed);
        let faults = Faults::of(&dice);
        let state = State {
            is_stormy: false,
            calm_since: noon(),
            store_away: 0,
            is_cache_away: false,
            disturbed_at: noon(),
            violations: Vec::new(),
            doubted: BTreeSet::new(),
            still: 0,
            slots: 1,
            digest: DefaultHasher::new(),
            lines: 0,
            is_printing,
        };
        let deadlines = Mutex::new(Deadlines::default());
        Self { begun: Instant::now(), dice, faults, state: Mutex::new(state), tables, deadlines }
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

    /// Something happened to this connection, or to all, that may keep it from its token for a while.
    pub(crate) fn excuse(&self, whom: Option<i64>, wait: Wait) {
        let now = self.now();
        self.deadlines().excuse(whom, wait, now);
        if wait.may_hide_a_call() {
            whom.into_iter().for_each(|id| self.doubts(id));
        }
        let ends_at = match wait {
            Wait::Stopped(pause) | Wait::ProducerStopped(pause) | Wait::InStillHands(pause) => {
                TimeDelta::from_std(pause).ok().and_then(|pause| now.checked_add_signed(pause))
            }
            _ => None,
        };
        if let Wait::PutOff = wait {
            return;
        }
        self.disturbed_until(ends_at.unwrap_or(now));
    }

    /// From now on a call for this connection may have come to something that nobody knows.
    pub(crate) fn doubts(&self, id: i64) {
        self.state().doubted.insert(id);
    }

    /// A token was stored: what calls before it came to does not matter any more.
    pub(crate) fn doubts_no_more(&self, id: i64) {
        self.state().doubted.remove(&id);
    }

    /// It was quarantined.
    pub(crate) fn was_quarantined(&self, id: i64) {
        if !self.state().doubted.contains(&id) {
            self.violated(format!("connection {id}: quarantined, although what its calls came to is known"));
        }
    }

    /// Something is not as it should be, and keeps nobody from a token.
    pub(crate) fn disturbed_until(&self, until: DateTime<Utc>) {
        let mut state = self.state();
        state.disturbed_at = state.disturbed_at.max(until);
    }

    /// A worker's job stands still. Whether so many do that all of a worker's slots may be taken by them.
    pub(crate) fn begins_to_stand_still(&self) -> bool {
        let mut state = self.state();
        state.still += 1;
        state.still >= state.slots
    }

    /// It goes on, or died.
    pub(crate) fn goes_on(&self) {
        let mut state = self.state();
        state.still = state.still.saturating_sub(1);
    }

    /// How many jobs of a worker may have a call under way.
    pub(crate) fn slots(&self, slots: u32) {
        self.state().slots = slots;
    }

    /// Looks at all connections, also at those that seem to be well.
    pub(crate) fn look(&self) -> Result<Vec<Row>> {
        let (rows, now) = (rows(&self.tables)?, self.now());
        self.deadlines().update(&rows, now);
        for row in rows.iter().filter(|row| row.is_forgotten(now)) {
            self.violated(format!(
                "connection {} is {} and nobody will look at it again",
                row.id,
                row.state.as_deref().unwrap_or("nothing")
            ));
        }
        Ok(rows)
    }

    /// Looks at all connections, because a statement may have changed some.
    pub(crate) fn look_after_a_change(&self) {
        if let Err(error) = self.look() {
            self.violated(format!("the rows cannot be read: {error:#}"));
        }
    }

    /// Whether a token is dead without a reason. Called at every step; the rows are read where one seems to be.
    pub(crate) fn check_deadlines(&self) {
        let (now, is_stormy) = (self.now(), self.state().is_stormy);
        let seems_broken = {
            let mut deadlines = self.deadlines();
            deadlines.judge(now, is_stormy);
            deadlines.seems_broken(now)
        };
        if !seems_broken {
            return;
        }
        if let Err(error) = self.look() {
            return self.violated(format!("the rows cannot be read: {error:#}"));
        }
        let broken = self.deadlines().broken(now);
        for what in broken {
            self.violated(what);
        }
    }

    /// How much of the time of all connections was judged.
    pub(crate) fn judged(&self) -> Judged {
        self.deadlines().judged()
    }

    /// How long a leader leads without renewing its lease, which is how long a fleet may be without one.
    pub(crate) fn lease_lasts(&self, lease: TimeDelta) {
        self.deadlines().lease_lasts(lease);
    }

    fn deadlines(&self) -> MutexGuard<'_, Deadlines> {
        self.deadlines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a storm is over already.
    pub(crate) fn has_seen_a_storm_end(&self) -> bool {
        self.state().calm_since > noon()
    }

    /// Writes down what happens.
    pub(crate) fn trace(&self, who: &str, what: fmt::Arguments<'_>) {
        let now = self.now();
        let mut state = self.state();
        state.digest.write_i64(now.timestamp_millis());
        // A hasher takes every text.
        let _ = write!(Digesting(&mut state.digest), "{who}: {what}");
        state.lines += 1;
        if state.is_printing {
            print(&format!("{} {who}: {what}", now.format("%dd %H:%M:%S%.3f")));
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

/// Hashes what is written to it.
struct Digesting<'h>(&'h mut DefaultHasher);

impl Write for Digesting<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write(text.as_bytes());
        Ok(())
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
