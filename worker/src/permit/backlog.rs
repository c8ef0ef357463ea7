//! Turns for deferred jobs, one behind the other.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::domain::limits::Turns;

/// The queue of the jobs that this worker has deferred.
#[derive(Debug, Default)]
pub(super) struct Backlog(Turns);

impl Backlog {
    /// A turn at `earliest` or behind those that were given before, `spacing` long, at any moment in it.
    ///
    /// Where the queue is longer than `longest`, the turn is anywhere between: whatever was planned for later would be
    /// wrong by then, and a connection that has become urgent in the meantime could not be taken sooner.
    pub(super) fn plan(
        &mut self,
        earliest: DateTime<Utc>,
        spacing: Duration,
        longest: TimeDelta,
        random: u64,
    ) -> DateTime<Utc> {
        let spacing = TimeDelta::from_std(spacing).unwrap_or(longest).min(longest);
        match self.0.next(earliest, spacing, longest) {
            Some(begin) => begin + random_part(spacing, random),
            None => earliest + random_part(longest, random),
        }
    }
}

/// A part of `span`, uniform as `random` is.
pub(super) fn random_part(span: TimeDelta, random: u64) -> TimeDelta {
    let microseconds = u128::from(span.num_microseconds().unwrap_or(i64::MAX).unsigned_abs());
    let part = (u128::from(random) * microseconds) >> u64::BITS;
    TimeDelta::microseconds(i64::try_from(part).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: TimeDelta = TimeDelta::minutes(5);

    fn now() -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
    }

    #[test]
    fn a_part_is_never_more_than_the_whole() {
        let second = TimeDelta::seconds(1);
        assert_eq!(random_part(second, 0), TimeDelta::zero());
        assert_eq!(random_part(second, u64::MAX / 2 + 1), second / 2);
        assert_eq!(random_part(second, u64::MAX), TimeDelta::microseconds(999_999));
        assert_eq!(random_part(TimeDelta::MAX, u64::MAX), TimeDelta::microseconds(i64::MAX - 1));
    }

    #[test]
    fn each_has_its_own_turn_and_the_queue_passes_with_time() {
        let mut backlog = Backlog::default();
        let spacing = Duration::from_secs(2);
        let mut plan = |earliest: i64, random| {
            let planned = backlog.plan(now() + TimeDelta::seconds(earliest), spacing, LONGEST, random);
            (planned - now()).num_milliseconds()
        };
        assert_eq!(plan(1, 0), 1_000);
        assert_eq!(plan(1, u64::MAX / 2 + 1), 4_000, "in the middle of the second turn");
        assert_eq!(plan(1, u64::MAX), 6_999, "at the end of the third");
        assert_eq!(plan(60, 0), 60_000, "the queue is over");
    }

    #[test]
    fn a_queue_that_is_too_long_is_spread_and_does_not_grow() {
        let mut backlog = Backlog::default();
        let spacing = Duration::from_secs(60);
        let mut plan = |random| backlog.plan(now(), spacing, LONGEST, random) - now();
        for minute in 0..5 {
            assert_eq!(plan(0), TimeDelta::minutes(minute));
        }
        assert_eq!(plan(0), TimeDelta::zero());
        assert_eq!(plan(u64::MAX / 2 + 1), LONGEST / 2);
        assert!(plan(u64::MAX) < LONGEST);
        let after = now() + LONGEST;
        assert_eq!(backlog.plan(after, spacing, LONGEST, 0), after);
    }

    #[test]
    fn turns_longer_than_the_longest_spread_are_cut_to_it() {
        let mut backlog = Backlog::default();
        for spacing in [Duration::from_secs(3_600), Duration::MAX] {
            assert!(backlog.plan(now(), spacing, LONGEST, u64::MAX) < now() + LONGEST);
        }
    }
}
