//! What a worker may send while Redis is away: its share of each rate, kept in the process.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;

use crate::domain::limits::{Gcra, Rate, Taken, Turns};
use crate::ports::rate_limiter::Turn;

/// The shares of one worker.
pub(super) struct LocalShare {
    workers: NonZeroU32,
    started: Instant,
    limits: Mutex<HashMap<String, Limit>>,
}

/// One provider's.
struct Limit {
    rate: Rate,
    granted: Gcra,
    /// When the last that was granted goes out.
    last: Option<DateTime<Utc>>,
    turns: Turns,
}

impl LocalShare {
    pub(super) fn new(workers: NonZeroU32) -> Self {
        Self { workers, started: Instant::now(), limits: Mutex::default() }
    }

    /// An outage begins: what was saved up before was the shared rate's, and has perhaps been granted by Redis a moment
    /// ago, for any time that it may be granted for.
    pub(super) fn begin(&self) {
        self.limits().clear();
    }

    pub(super) fn take(&self, provider: &str, rate: &Rate, patience: Duration) -> Taken {
        let share = rate.share(self.workers);
        self.with(provider, rate, |limit, now| {
            let taken = limit.granted.take(&share, now, patience);
            if let Taken::Granted(wait) = taken {
                limit.last = TimeDelta::from_std(wait).ok().and_then(|wait| now.checked_add_signed(wait));
            }
            taken
        })
    }

    /// How long it is until all that was granted here has gone out; `None` if it has.
    pub(super) fn outstanding(&self, provider: &str) -> Option<Duration> {
        let last = self.limits().get(provider)?.last?;
        (last - self.now()).to_std().ok().filter(|wait| !wait.is_zero())
    }

    /// As far apart as the requests of the share.
    pub(super) fn turn(
        &self,
        provider: &str,
        rate: &Rate,
        earliest: Duration,
        longest: Duration,
    ) -> Option<Turn> {
        let lasts = rate.share(self.workers).interval();
        self.with(provider, rate, |limit, now| Turn::next(&mut limit.turns, now, earliest, lasts, longest))
    }

    /// By the runtime's clock, which never goes back. What it counts from does not matter.
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::from_std(self.started.elapsed()).unwrap_or_default()
    }

    /// Begins with nothing saved up.
    fn with<T>(&self, provider: &str, rate: &Rate, act: impl FnOnce(&mut Limit, DateTime<Utc>) -> T) -> T {
        let now = self.now();
        let mut limits = self.limits();
        let begun = || Limit {
            rate: *rate,
            granted: Gcra::spent(&rate.share(self.workers), now),
            last: None,
            turns: Turns::default(),
        };
        let limit = limits.entry(provider.to_owned()).or_insert_with(begun);
        if limit.rate != *rate {
            *limit = begun();
        }
        act(limit, now)
    }

    /// What is kept here is whole between any two calls, so a panic elsewhere leaves it usable.
    fn limits(&self) -> MutexGuard<'_, HashMap<String, Limit>> {
        self.limits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: Duration = Duration::ZERO;

    fn share_of(workers: u32) -> LocalShare {
        LocalShare::new(NonZeroU32::new(workers).unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_sends_its_part_of_the_rate_and_begins_with_nothing_saved_up() {
        let share = share_of(4);
        let rate = Rate::new(10, Duration::from_secs(1), 8).unwrap();
        let interval = Duration::from_millis(400);
        // Redis may have granted what goes out until then.
        assert_eq!(share.take("fynd", &rate, NOW), Taken::Refused(Gcra::AHEAD + interval));
        tokio::time::advance(Gcra::AHEAD).await;
        let mut granted = 0;
        for _ in 0..25 {
            tokio::time::advance(interval).await;
            while share.take("fynd", &rate, NOW) == Taken::Granted(NOW) {
                granted += 1;
            }
        }
        assert_eq!(granted, 25, "in 10 s, of 100 that all four may send");
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(share.take("fynd", &rate, NOW), Taken::Granted(NOW));
        assert_eq!(share.take("fynd", &rate, NOW), Taken::Granted(NOW));
        assert_eq!(share.take("fynd", &rate, NOW), Taken::Refused(interval), "a share of the burst too");
        tokio::time::advance(Duration::from_secs(60)).await;
        share.begin();
        assert_eq!(
            share.take("fynd", &rate, NOW),
            Taken::Refused(Gcra::AHEAD + interval),
            "the next outage begins with nothing again"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_promised_is_outstanding_until_it_has_gone_out() {
        let share = share_of(4);
        let rate = Rate::new(10, Duration::from_secs(1), 1).unwrap();
        let interval = Duration::from_millis(400);
        assert_eq!(share.take("fynd", &rate, Gcra::AHEAD), Taken::Refused(Gcra::AHEAD + interval));
        assert_eq!(share.outstanding("fynd"), None);
        tokio::time::advance(Gcra::AHEAD).await;
        for wait in [interval, 2 * interval] {
            assert_eq!(share.take("fynd", &rate, Gcra::AHEAD), Taken::Granted(wait));
            assert_eq!(share.outstanding("fynd"), Some(wait));
        }
        assert_eq!(share.take("fynd", &rate, Gcra::AHEAD), Taken::Refused(3 * interval));
        assert_eq!((share.outstanding("fynd"), share.outstanding("very")), (Some(2 * interval), None));
        tokio::time::advance(2 * interval).await;
        assert_eq!(share.outstanding("fynd"), None);
    }

    #[tokio::test(start_paused = true)]
    async fn turns_are_as_far_apart_as_the_requests_of_a_share_and_an_outage_begins_with_none() {
        let share = share_of(4);
        let rate = Rate::new(10, Duration::from_secs(1), 8).unwrap();
        let turn = || {
            let turn = share.turn("fynd", &rate, Duration::from_millis(50), Duration::from_secs(1));
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
        assert_eq!(share.take("very", &rate, NOW), Taken::Refused(Gcra::AHEAD + rate.interval()));
        tokio::time::advance(Duration::from_secs(60)).await;
        for expected in
            [Taken::Granted(NOW), Taken::Granted(NOW), Taken::Granted(NOW), Taken::Refused(rate.interval())]
        {
            assert_eq!(share.take("very", &rate, NOW), expected);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_and_the_fastest_rate_have_a_share() {
        let month = Duration::from_secs(31 * 24 * 3_600);
        for (requests, per, burst) in [(1, month, 1), (31, month, 31), (1_000_000, Duration::from_secs(1), 1)]
        {
            let rate = Rate::new(requests, per, burst).unwrap();
            let wait = rate.interval() * 1_000 + Gcra::AHEAD;
            assert_eq!(share_of(1_000).take("fynd", &rate, NOW), Taken::Refused(wait), "{rate:?}");
        }
    }
}
