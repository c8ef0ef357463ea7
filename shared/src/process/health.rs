//! What a process answers whoever probes it: whether it is alive, and whether it does its work.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use thiserror::Error;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Says whether the process does its work, and if not, why.
pub type Readiness = Box<dyn Fn() -> Result<(), &'static str> + Send + Sync>;

/// One process's health. It is alive from its start on, and ready once its work has begun and says that it is.
pub struct Health {
    work: OnceLock<Work>,
    shutdown: CancellationToken,
}

struct Work {
    pulse: Arc<Pulse>,
    readiness: Readiness,
}

/// Why a probe is not answered with success.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Ailment {
    /// The loop has not turned for longer than any of its steps may take.
    #[error("the loop is stuck: restart the process, and report this with its log")]
    Stuck,
    /// The parts are being put together.
    #[error("starting: what it waits for is in the log")]
    Starting,
    /// A signal has come.
    #[error("stopping")]
    Stopping,
    /// The work does not go on, for this reason.
    #[error("{0}")]
    Idle(&'static str),
}

impl Health {
    /// Of a process that is starting. It stops being ready in the moment in which `shutdown` is cancelled.
    pub fn starting(shutdown: CancellationToken) -> Self {
        Self { work: OnceLock::new(), shutdown }
    }

    /// From now on it is alive as long as `pulse` beats, and ready whenever `readiness` says so. Only the first one counts.
    pub fn working(
        &self,
        pulse: Arc<Pulse>,
        readiness: impl Fn() -> Result<(), &'static str> + Send + Sync + 'static,
    ) {
        // A process starts its work once.
        let _ = self.work.set(Work { pulse, readiness: Box::new(readiness) });
    }

    /// Whether the loop makes progress, or waits for a reason.
    ///
    /// # Errors
    /// If it is stuck.
    pub fn liveness(&self) -> Result<(), Ailment> {
        if self.work.get().is_none_or(|work| work.pulse.is_beating()) { Ok(()) } else { Err(Ailment::Stuck) }
    }

    /// Whether it does its work.
    ///
    /// # Errors
    /// Says why not.
    pub fn readiness(&self) -> Result<(), Ailment> {
        if self.shutdown.is_cancelled() {
            return Err(Ailment::Stopping);
        }
        let work = self.work.get().ok_or(Ailment::Starting)?;
        (work.readiness)().map_err(Ailment::Idle)
    }
}

/// The pulse of a loop: before each step it says how long that may take.
pub struct Pulse {
    begun: Instant,
    /// Milliseconds after `begun` until which the next sign has to come.
    due: AtomicU64,
}

/// There is no time by which something has to happen.
const RESTING: u64 = u64::MAX;

impl Pulse {
    /// Of a loop that waits for a reason.
    pub fn resting() -> Self {
        Self { begun: Instant::now(), due: AtomicU64::new(RESTING) }
    }

    /// The loop turns, and will say something again within this time.
    pub fn beat(&self, within: Duration) {
        let due = self.begun.elapsed().saturating_add(within).as_millis();
        self.due.store(u64::try_from(due).unwrap_or(RESTING), Ordering::Relaxed);
    }

    /// The loop waits for something that may never come: a message, or a time that lies ahead.
    pub fn rest(&self) {
        self.due.store(RESTING, Ordering::Relaxed);
    }

    /// Whether the last sign is not overdue.
    pub fn is_beating(&self) -> bool {
        self.begun.elapsed().as_millis() <= u128::from(self.due.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_loop_is_alive_as_long_as_it_keeps_to_what_it_says() {
        let health = Health::starting(CancellationToken::new());
        assert_eq!(health.liveness(), Ok(()), "a start may wait for its database");
        let pulse = Arc::new(Pulse::resting());
        health.working(pulse.clone(), || Ok(()));
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert_eq!(health.liveness(), Ok(()));
        pulse.beat(Duration::from_secs(60));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(health.liveness(), Ok(()));
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(health.liveness(), Err(Ailment::Stuck));
        pulse.rest();
        tokio::time::advance(Duration::from_secs(86_400)).await;
        assert_eq!(health.liveness(), Ok(()));
    }

    #[tokio::test]
    async fn it_is_ready_from_the_start_of_its_work_to_the_first_signal() {
        let shutdown = CancellationToken::new();
        let health = Health::starting(shutdown.clone());
        assert_eq!(health.readiness(), Err(Ailment::Starting));
        let is_consuming = Arc::new(AtomicBool::new(false));
        let seen = is_consuming.clone();
        let readiness = move || if seen.load(Ordering::Relaxed) { Ok(()) } else { Err("no session") };
        health.working(Arc::new(Pulse::resting()), readiness);
        assert_eq!(health.readiness(), Err(Ailment::Idle("no session")));
        is_consuming.store(true, Ordering::Relaxed);
        assert_eq!(health.readiness(), Ok(()));
        shutdown.cancel();
        assert_eq!(health.readiness(), Err(Ailment::Stopping));
        assert_eq!(health.liveness(), Ok(()), "it has yet to finish what it began");
    }
}
