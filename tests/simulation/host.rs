//! A process: its name, its clock, its randomness and its death.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::adapters::embedded::clock::SeededRandomness;
use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::randomness::Randomness;
use tokio_util::sync::CancellationToken;

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
        })
    }

    /// Writes down what it does.
    pub(crate) fn trace(&self, what: std::fmt::Arguments<'_>) {
        self.world.trace(&self.name, what);
    }

    /// An await: time goes by, the process may die, and the job may stand still for minutes.
    pub(crate) async fn step(&self, place: &str) {
        self.dangerous(place).await;
        if self.world.strikes(|faults| faults.stall) {
            let pause = self.world.between(Duration::from_secs(20), Duration::from_secs(600));
            self.trace(format_args!("stands still for {pause:?} {place}"));
            tokio::time::sleep(pause).await;
        }
    }

    /// An await in which the process may die and not stand still.
    pub(crate) async fn dangerous(&self, place: &str) {
        tokio::time::sleep(self.world.between(Duration::ZERO, Duration::from_millis(8))).await;
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
        tokio::time::sleep(duration).await;
    }
}

impl Randomness for Host {
    fn next(&self) -> u64 {
        self.randomness.next()
    }
}
