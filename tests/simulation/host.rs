//! A process: its name, its clock, its randomness, its pauses and its death.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::adapters::embedded::clock::SeededRandomness;
use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::randomness::Randomness;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use crate::deadlines::Wait;
use crate::world::World;

/// One life of a process.
pub(crate) struct Host {
    /// Who it is.
    pub(crate) name: String,
    /// Where it lives.
    pub(crate) world: Arc<World>,
    /// How far its clock is from the true time.
    offset: TimeDelta,
    randomness: SeededRandomness,
    /// Cancelled when it dies.
    pub(crate) death: CancellationToken,
    /// Cancelled when it is asked to end.
    pub(crate) end: CancellationToken,
    stopped_until: Mutex<Instant>,
}

impl Host {
    /// A process that was just started.
    pub(crate) fn new(world: &Arc<World>, name: String) -> Arc<Self> {
        let milliseconds = i64::try_from(world.draw(6_001)).unwrap_or(0);
        Arc::new(Self {
            name,
            world: world.clone(),
            offset: TimeDelta::milliseconds(milliseconds - 3_000),
            randomness: SeededRandomness::new(world.seed()),
            death: CancellationToken::new(),
            end: CancellationToken::new(),
            stopped_until: Mutex::new(Instant::now()),
        })
    }

    /// Writes down what it does.
    pub(crate) fn trace(&self, what: std::fmt::Arguments<'_>) {
        self.world.trace(&self.name, what);
    }

    /// All of it stands still for so long, as after SIGSTOP; its monotonic clock goes on.
    pub(crate) fn stop(&self, pause: Duration) {
        self.trace(format_args!("is stopped for {pause:?}"));
        self.world.excuse(None, Wait::Stopped(pause));
        *self.stopped_until.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now() + pause;
    }

    async fn while_stopped(&self) {
        loop {
            let until = *self.stopped_until.lock().unwrap_or_else(PoisonError::into_inner);
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    /// An await: time goes by, the process may die or be stopped, and the job may stand still for minutes.
    pub(crate) async fn step(&self, place: &str) {
        self.dangerous(place).await;
        self.while_stopped().await;
        if self.world.strikes(|faults| faults.stall) {
            let pause = self.world.between(Duration::from_secs(20), Duration::from_secs(600));
            self.trace(format_args!("stands still for {pause:?} {place}"));
            self.world.excuse(None, Wait::Stopped(pause));
            sleep(pause).await;
        }
    }

    /// An await in which the process may die and not stand still.
    pub(crate) async fn dangerous(&self, place: &str) {
        sleep(self.world.between(Duration::ZERO, Duration::from_millis(8))).await;
        self.world.check_deadlines();
        if self.world.strikes(|faults| faults.death) {
            self.trace(format_args!("dies {place}"));
            self.death.cancel();
            std::future::pending::<()>().await;
        }
    }
}

#[async_trait]
impl Clock for Host {
    fn now(&self) -> DateTime<Utc> {
        self.world.now() + self.offset
    }

    async fn sleep(&self, duration: Duration) {
        sleep(duration).await;
    }
}

impl Randomness for Host {
    fn next(&self) -> u64 {
        self.randomness.next()
    }
}
