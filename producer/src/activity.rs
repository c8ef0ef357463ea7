//! What the producer says of itself to whoever watches it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use freshet_shared::process::health::Pulse;

/// One step of a scan, a page with its publishes or a look at the history, never takes longer.
const LONGEST_STEP: Duration = Duration::from_secs(300);
/// A sleeper that is woken late is not stuck.
const LATE: Duration = Duration::from_secs(60);

/// What the producer is at.
pub struct Activity {
    /// The pulse of its loop.
    pub pulse: Arc<Pulse>,
    is_leader: AtomicBool,
    is_failing: AtomicBool,
}

impl Default for Activity {
    /// Of a producer that is alone.
    fn default() -> Self {
        Self {
            pulse: Arc::new(Pulse::resting()),
            is_leader: AtomicBool::new(true),
            is_failing: AtomicBool::new(false),
        }
    }
}

impl Activity {
    /// A step of a scan begins.
    pub fn steps(&self) {
        self.pulse.beat(LONGEST_STEP);
    }

    /// It sleeps for this long.
    pub fn sleeps(&self, duration: Duration) {
        self.pulse.beat(duration.saturating_add(LATE));
    }

    /// Whether the database answered when it was last asked.
    pub fn answered(&self, answered: bool) {
        self.is_failing.store(!answered, Ordering::Relaxed);
    }

    /// Whether it is the one that scans, or stands by.
    pub fn leads(&self, is_leader: bool) {
        self.is_leader.store(is_leader, Ordering::Relaxed);
    }

    /// Whether it is the one that scans.
    pub fn is_leader(&self) -> bool {
        self.is_leader.load(Ordering::Relaxed)
    }

    /// Whether it scans or stands by.
    ///
    /// # Errors
    /// Says why not.
    pub fn readiness(&self) -> Result<(), &'static str> {
        if self.is_failing.load(Ordering::Relaxed) {
            return Err("not scanning: the database did not answer");
        }
        Ok(())
    }
}
