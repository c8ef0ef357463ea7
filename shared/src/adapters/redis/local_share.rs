//! What a worker may send while Redis is away: its share of each rate, kept by governor in the process.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use tokio::time::Instant;

use crate::domain::limits::{Rate, Taken, Turns};
use crate::ports::rate_limiter::{Queue, Refused, Turn};

/// The shares of one worker.
pub(super) struct LocalShare {
    workers: NonZeroU32,
    started: Instant,
    limits: Mutex<HashMap<String, Limit>>,
    turns: Mutex<HashMap<(String, Refused), Turns>>,
}

struct Limit {
    rate: Rate,
    limiter: RateLimiter<NotKeyed, InMemoryState, SinceStart, NoOpMiddleware<Nanos>>,
}

/// Time by the runtime's clock, which never goes back.
struct SinceStart(Instant);

impl Clock for SinceStart {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.elapsed().into()
    }
}

impl LocalShare {
    pub(super) fn new(workers: NonZeroU32) -> Self {
        Self { workers, started: Instant::now(), limits: Mutex::default(), turns: Mutex::default() }
    }

    /// An outage begins: what was saved up before was the shared rate's, and has perhaps been granted by Redis a moment
    /// ago.
    pub(super) fn begin(&self) {
        lock(&self.limits).clear();
        lock(&self.turns).clear();
    }

    pub(super) fn take(&self, provider: &str, rate: &Rate) -> Taken {
        let line = lock(&self.turns).get(&(provider.to_owned(), Refused::Waits)).copied();
        let wait = line.zip(self.now()).and_then(|(line, now)| Turn::wait_behind(&line, now));
        wait.map_or_else(|| self.take_in_turn(provider, rate), Taken::Wait)
    }

    pub(super) fn take_in_turn(&self, provider: &str, rate: &Rate) -> Taken {
        let mut limits = lock(&self.limits);
        if limits.get(provider).is_none_or(|limit| limit.rate != *rate) {
            let Some(limiter) = empty(&rate.share(self.workers)) else {
                return Taken::Wait(rate.interval());
            };
            limits.insert(provider.to_owned(), Limit { rate: *rate, limiter });
        }
        let Some(Limit { limiter, .. }) = limits.get(provider) else { return Taken::Wait(rate.interval()) };
        match limiter.check() {
            Ok(()) => Taken::Granted,
            Err(until) => Taken::Wait(until.wait_time_from(limiter.clock().now())),
        }
    }

    /// By the runtime's clock, from when this was made.
    fn now(&self) -> Option<DateTime<Utc>> {
        DateTime::UNIX_EPOCH.checked_add_signed(TimeDelta::from_std(self.started.elapsed()).ok()?)
    }

    /// As far apart as the requests of the share.
    pub(super) fn turn(
        &self,
        queue: Queue<'_>,
        rate: &Rate,
        earliest: Duration,
        longest: Duration,
    ) -> Option<Turn> {
        let now = self.now()?;
        let lasts = rate.share(self.workers).interval();
        let queue = (queue.provider.to_owned(), queue.refused);
        Turn::next(lock(&self.turns).entry(queue).or_default(), now, earliest, lasts, longest)
    }
}

/// What is kept here is whole between any two calls, so a panic elsewhere leaves it usable.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A limiter with nothing saved up.
fn empty(share: &Rate) -> Option<RateLimiter<NotKeyed, InMemoryState, SinceStart, NoOpMiddleware<Nanos>>> {
    // `None` where the interval is 0, which no rate's is.
    let quota = Quota::with_period(share.interval())?.allow_burst(share.burst());
    let limiter = RateLimiter::direct_with_clock(quota, SinceStart(Instant::now()));
    // The whole burst is never more than the burst, so this takes it.
    let _ = limiter.check_n(share.burst());
    Some(limiter)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn share_of(workers: u32) -> LocalShare {
        LocalShare::new(NonZeroU32::new(workers).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_sends_its_part_of_the_rate_and_begins_with_nothing_saved_up() {
        let share = share_of(4);
        let rate = Rate::new(10, Duration::from_secs(1), 8).unwrap();
        let interval = Duration::from_millis(400);
        assert_eq!(share.take("fynd", &rate), Taken::Wait(interval));
        let mut granted = 0;
        for _ in 0..25 {
            tokio::time::advance(interval).await;
            while share.take("fynd", &rate) == Taken::Granted {
                granted += 1;
            }
        }
        assert_eq!(granted, 25, "in 10 s, of 100 that all four may send");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(share.take("fynd", &rate), Taken::Granted);
        assert_eq!(share.take("fynd", &rate), Taken::Granted);
        assert_eq!(share.take("fynd", &rate), Taken::Wait(interval), "a share of the burst too");
        tokio::time::advance(Duration::from_secs(60)).await;
        share.begin();
        assert_eq!(
            share.take("fynd", &rate),
            Taken::Wait(interval),
            "the next outage begins with nothing again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn turns_are_as_far_apart_as_the_requests_of_a_share_and_an_outage_begins_with_none() {
        let share = share_of(4);
        let rate = Rate::new(10, Duration::from_secs(1), 8).unwrap();
        let turn = || {
            let queue = Queue { provider: "fynd", refused: Refused::Waits };
            let turn = share.turn(queue, &rate, Duration::from_millis(50), Duration::from_secs(1));
            turn.map(|turn| (turn.begins_in.as_millis(), turn.lasts.as_millis()))
        };
        assert_eq!([turn(), turn(), turn()], [Some((50, 400)), Some((450, 400)), None]);
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(turn(), Some((350, 400)));
        share.begin();
        assert_eq!(turn(), Some((50, 400)));
    }

    #[tokio::test(start_paused = true)]
    async fn the_only_worker_has_the_whole_rate_and_never_more() {
        let share = share_of(1);
        let rate = Rate::new(10, Duration::from_secs(1), 3).unwrap();
        assert_eq!(share.take("very", &rate), Taken::Wait(rate.interval()));
        tokio::time::advance(Duration::from_secs(60)).await;
        for expected in [Taken::Granted, Taken::Granted, Taken::Granted, Taken::Wait(rate.interval())] {
            assert_eq!(share.take("very", &rate), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_and_the_fastest_rate_have_a_share() {
        let month = Duration::from_secs(31 * 24 * 3_600);
        for (requests, per, burst) in [(1, month, 1), (31, month, 31), (1_000_000, Duration::from_secs(1), 1)]
        {
            let rate = Rate::new(requests, per, burst).unwrap();
            let wait = rate.interval() * 1_000;
            assert_eq!(share_of(1_000).take("fynd", &rate), Taken::Wait(wait), "{rate:?}");
        }
    }
}
