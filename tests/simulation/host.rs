//! A process: its name, its clock, its randomness, its pauses and its death.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// Connections whose messages, or claims, are in its hands, and how many of each.
    hands: Mutex<BTreeMap<i64, u32>>,
    is_producer: bool,
}

impl Host {
    /// A process that was just started.
    pub(crate) fn new(world: &Arc<World>, name: String, is_producer: bool) -> Arc<Self> {
        let milliseconds = i64::try_from(world.draw(6_001)).unwrap_or(0);
        Arc::new(Self {
            name,
            world: world.clone(),
            offset: TimeDelta::milliseconds(milliseconds - 3_000),
            randomness: SeededRandomness::new(world.seed()),
            death: CancellationToken::new(),
            end: CancellationToken::new(),
            stopped_until: Mutex::new(Instant::now()),
            hands: Mutex::default(),
            is_producer,
        })
    }

    fn hands(&self) -> MutexGuard<'_, BTreeMap<i64, u32>> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stopped_until(&self) -> MutexGuard<'_, Instant> {
        self.stopped_until.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a connection's message, or claims it.
    pub(crate) fn takes(&self, id: i64) {
        *self.hands().entry(id).or_default() += 1;
        let pause = self.stopped_until().saturating_duration_since(Instant::now());
        if pause > Duration::ZERO {
            self.world.excuse(Some(id), Wait::InStillHands(pause));
        }
    }

    /// Settles it, or publishes it.
    pub(crate) fn lets_go(&self, id: i64) {
        let mut hands = self.hands();
        if let Some(count) = hands.get_mut(&id) {
            *count -= 1;
        }
        hands.retain(|_, count| *count > 0);
    }

    /// Whether it stands still, or will not take up anything more.
    pub(crate) fn is_at_work(&self) -> bool {
        !self.death.is_cancelled() && !self.end.is_cancelled() && *self.stopped_until() <= Instant::now()
    }

    fn excuse(&self, all: Wait, in_its_hands: Wait) {
        self.world.excuse(None, all);
        self.excuse_hands(in_its_hands);
    }

    /// Something happened to all that is in its hands.
    pub(crate) fn excuse_hands(&self, wait: Wait) {
        let hands: Vec<i64> = self.hands().keys().copied().collect();
        hands.into_iter().for_each(|id| self.world.excuse(Some(id), wait));
    }

    /// Database or cache failed it in what concerns this connection, or none: with a worker that is the filling of the cache.
    pub(crate) fn was_failed(&self, id: Option<i64>, wait: Wait) {
        match id {
            None if !self.is_producer => self.world.disturbed_until(self.world.now()),
            _ => self.world.excuse(id, wait),
        }
    }

    /// It is dead, or asked to end: whoever is in its hands waits, and all do, where nobody else does what it did.
    pub(crate) fn leaves(&self, all: Option<Wait>) {
        self.world.disturbed_until(self.world.now());
        all.into_iter().for_each(|wait| self.world.excuse(None, wait));
        self.excuse_hands(Wait::GoneWithIt);
    }

    /// Writes down what it does.
    pub(crate) fn trace(&self, what: std::fmt::Arguments<'_>) {
        self.world.trace(&self.name, what);
    }

    /// All of it stands still for so long, as after SIGSTOP; its monotonic clock goes on.
    pub(crate) fn stop(&self, pause: Duration) {
        self.trace(format_args!("is stopped for {pause:?}"));
        self.excuse(self.stopped(pause), Wait::InStillHands(pause));
        *self.stopped_until() = Instant::now() + pause;
    }

    fn stopped(&self, pause: Duration) -> Wait {
        if self.is_producer { Wait::ProducerStopped(pause) } else { Wait::Stopped(pause) }
    }

    async fn while_stopped(&self) {
        loop {
            let until = *self.stopped_until();
            if until <= Instant::now() {
                return;
            }
            sleep_until(until).await;
        }
    }

    /// An await: time goes by, the process may die or be stopped, and the job of this connection may stand still for minutes.
    pub(crate) async fn step(&self, place: &str, id: Option<i64>) {
        self.dangerous(place).await;
        self.while_stopped().await;
        if self.world.strikes(|faults| faults.stall) {
            let pause = self.world.between(Duration::from_secs(20), Duration::from_secs(600));
            self.trace(format_args!("stands still for {pause:?} {place}"));
            let _still = self.stands_still(pause, id);
            sleep(pause).await;
        }
    }

    /// What a producer does it does one after the other. Of a worker's jobs each goes on by itself, as long as there are slots;
    /// and what no connection is named in concerns the cache as a whole.
    fn stands_still(&self, pause: Duration, id: Option<i64>) -> Option<Still> {
        if self.is_producer {
            self.excuse(Wait::ProducerStopped(pause), Wait::InStillHands(pause));
            return None;
        }
        let Some(id) = id else {
            self.world.disturbed_until(self.world.now() + pause);
            return None;
        };
        self.world.excuse(Some(id), Wait::InStillHands(pause));
        if self.world.begins_to_stand_still() {
            self.world.excuse(None, Wait::Stopped(pause));
        }
        Some(Still(self.world.clone()))
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

/// As long as a job stands still.
struct Still(Arc<World>);

impl Drop for Still {
    fn drop(&mut self) {
        self.0.goes_on();
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
