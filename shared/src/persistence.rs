//! Trying again until something that we connect to answers.
//!
//! The one module that names the `backoff` crate, so that it can be exchanged in one place. Only for what may be
//! repeated without harm: connecting, declaring, asking. A call that may have spent something is never tried again
//! here; its next attempt stands on the connection's row.

use std::time::{Duration, Instant};

use backoff::Clock;
use backoff::backoff::Backoff;
use backoff::exponential::{ExponentialBackoff, ExponentialBackoffBuilder};

use crate::ports::randomness::Randomness;

/// How patiently something is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// About how long the first pause is; each one after it is about twice as long.
    pub first: Duration,
    /// No pause is longer.
    pub longest: Duration,
    /// No attempt begins later than this; `None` never gives up. It does not cut an attempt short.
    pub total: Option<Duration>,
}

impl Patience {
    /// Never gives up.
    pub const fn endless(first: Duration, longest: Duration) -> Self {
        Self { first, longest, total: None }
    }

    /// Gives up when `total` has passed.
    pub const fn within(first: Duration, longest: Duration, total: Duration) -> Self {
        Self { first, longest, total: Some(total) }
    }

    fn schedule(self, chance: f64) -> ExponentialBackoff<RuntimeClock> {
        let mut schedule = ExponentialBackoffBuilder::<RuntimeClock>::new()
            .with_initial_interval(self.first.min(self.longest))
            .with_max_interval(self.longest)
            .with_multiplier(2.0)
            .with_randomization_factor(chance)
            // The crate's own default would give up after 15 minutes.
            .with_max_elapsed_time(self.total)
            .build();
        // The builder starts with std's clock.
        schedule.reset();
        schedule
    }
}

/// How much of a pause is chance, so that a fleet which lost its broker does not come back as one.
const CHANCE: f64 = 0.5;

/// Repeats `operation` until it succeeds, fails for good, or the patience is at its end; then its last error is
/// returned. `on_retry` hears of every failure that is followed by a pause, and how long that is.
///
/// # Errors
/// The operation's last one.
pub async fn persist<T, E, F>(
    patience: Patience,
    operation: impl FnMut() -> F,
    is_transient: impl Fn(&E) -> bool,
    on_retry: impl Fn(&E, Duration),
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    repeat(patience, patience.schedule(CHANCE), |pause| pause, operation, is_transient, on_retry).await
}

/// The same with a chance that the caller brings, so that it can be the same one again.
///
/// # Errors
/// The operation's last one.
pub async fn persist_by<T, E, F>(
    patience: Patience,
    randomness: &dyn Randomness,
    operation: impl FnMut() -> F,
    is_transient: impl Fn(&E) -> bool,
    on_retry: impl Fn(&E, Duration),
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    let jittered = |pause: Duration| {
        // In thousandths, of which a number of 64 bits is a multiple to within nothing that matters.
        let share = u32::try_from(randomness.next() % 1_001).unwrap_or(0);
        pause / 2 + pause.mul_f64(f64::from(share) / 1_000.0)
    };
    repeat(patience, patience.schedule(0.0), jittered, operation, is_transient, on_retry).await
}

async fn repeat<T, E, F>(
    patience: Patience,
    mut schedule: ExponentialBackoff<RuntimeClock>,
    jittered: impl Fn(Duration) -> Duration,
    mut operation: impl FnMut() -> F,
    is_transient: impl Fn(&E) -> bool,
    on_retry: impl Fn(&E, Duration),
) -> Result<T, E>
where
    F: Future<Output = Result<T, E>>,
{
    loop {
        let error = match operation().await {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let pause = if is_transient(&error) { schedule.next_backoff() } else { None };
        let Some(pause) = pause else {
            return Err(error);
        };
        // The crate's bound holds before its jitter is added.
        let pause = jittered(pause).min(patience.longest);
        on_retry(&error, pause);
        tokio::time::sleep(pause).await;
    }
}

/// The runtime's clock, which a test can pause.
#[derive(Debug, Default, Clone, Copy)]
struct RuntimeClock;

impl Clock for RuntimeClock {
    fn now(&self) -> Instant {
        tokio::time::Instant::now().into_std()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;
    use crate::adapters::embedded::clock::SeededRandomness;

    const PATIENCE: Patience = Patience::endless(Duration::from_millis(100), Duration::from_secs(5));

    #[tokio::test(start_paused = true)]
    async fn it_goes_on_until_it_succeeds() {
        let attempts = Cell::new(0);
        let operation = || {
            attempts.set(attempts.get() + 1);
            let answer = if attempts.get() < 50 { Err("away") } else { Ok("there") };
            async move { answer }
        };
        assert_eq!(persist(PATIENCE, operation, |_| true, |_, _| ()).await, Ok("there"));
        assert_eq!(attempts.get(), 50);
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_from_about_the_first_to_the_longest_and_not_beyond() {
        let pauses = RefCell::new(Vec::new());
        let operation = || {
            let answer = if pauses.borrow().len() < 30 { Err("away") } else { Ok(()) };
            async move { answer }
        };
        let note = |_: &&str, pause| pauses.borrow_mut().push(pause);
        assert_eq!(persist(PATIENCE, operation, |_| true, note).await, Ok(()));
        let pauses = pauses.into_inner();
        assert!(pauses[0] >= PATIENCE.first / 2 && pauses[0] <= PATIENCE.first * 3 / 2, "{pauses:?}");
        assert!(
            pauses.iter().all(|pause| *pause >= PATIENCE.first / 2 && *pause <= PATIENCE.longest),
            "{pauses:?}"
        );
        assert!(pauses[10..].iter().all(|pause| *pause >= PATIENCE.longest / 2), "{pauses:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn with_the_same_chance_the_pauses_are_the_same() {
        let pauses = async |seed| {
            let (pauses, chance) = (RefCell::new(Vec::new()), SeededRandomness::new(seed));
            let operation = || {
                let answer = if pauses.borrow().len() < 12 { Err("away") } else { Ok(()) };
                async move { answer }
            };
            let note = |_: &&str, pause| pauses.borrow_mut().push(pause);
            persist_by(PATIENCE, &chance, operation, |_| true, note).await.unwrap();
            pauses.into_inner()
        };
        let (first, second, other) = (pauses(1).await, pauses(1).await, pauses(2).await);
        assert_eq!(first, second);
        assert_ne!(first, other);
        assert!(first[0] >= PATIENCE.first / 2 && first[0] <= PATIENCE.first * 3 / 2, "{first:?}");
        assert!(first.iter().all(|pause| *pause <= PATIENCE.longest), "{first:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_final_is_not_tried_again() {
        let attempts = Cell::new(0);
        let operation = || {
            attempts.set(attempts.get() + 1);
            async { Err::<(), _>("wrong password") }
        };
        assert_eq!(persist(PATIENCE, operation, |_| false, |_, _| ()).await, Err("wrong password"));
        assert_eq!(attempts.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_by_the_runtimes_clock() {
        let patience = Patience { total: Some(Duration::from_secs(60)), ..PATIENCE };
        let started = tokio::time::Instant::now();
        let operation = || async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Err::<(), _>("away")
        };
        assert_eq!(persist(patience, operation, |_| true, |_, _| ()).await, Err("away"));
        let elapsed = started.elapsed();
        assert!(elapsed > Duration::from_secs(50) && elapsed <= Duration::from_secs(61), "{elapsed:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_total_there_is_no_end() {
        let started = tokio::time::Instant::now();
        let operation = || async { Err::<(), _>("away") };
        let hour = Duration::from_secs(3_600);
        let endless = persist(PATIENCE, operation, |_| true, |_, _| ());
        assert!(tokio::time::timeout(hour, endless).await.is_err());
        assert!(started.elapsed() >= hour);
    }
}
