//! Refresh tokens that this fleet has not stored itself: of a connection that was onboarded before it, or reconnected.

use chrono::{DateTime, TimeDelta, Utc};

use super::connection::ConnectionId;
use super::window::share;

/// Connections that are found together are used over this time, and not at once.
const SPREAD: TimeDelta = TimeDelta::days(1);

/// What a provider's definition says of its refresh tokens' end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watch {
    /// How long one lives that is not used: the inactivity window or the fixed life, the shorter of the two. `None` where only
    /// an answer says it.
    pub life: Option<TimeDelta>,
    /// Whether an answer says it.
    pub is_said_by_answer: bool,
    /// Whether using one makes it, or the one that comes in its place, live longer.
    pub is_renewed_by_use: bool,
}

/// What is noted for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watched {
    /// When its refresh token is to be used, where its access token's window does not come before.
    pub refresh_at: Option<DateTime<Utc>>,
    /// When its refresh token dies at the latest, as far as anybody can tell.
    pub ends_at: Option<DateTime<Utc>>,
}

impl Watch {
    /// What is to be noted for a connection whose access token was generated at `generated_at`, as far as the platform says,
    /// and is renewed by itself from `window_from` on. The refresh token was issued or used then at the latest: it may be older
    /// where using it does not replace it.
    pub fn of(
        &self,
        id: ConnectionId,
        generated_at: Option<DateTime<Utc>>,
        window_from: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Watched {
        let known = generated_at.filter(|at| *at <= now).zip(self.life);
        let ends_at = known.and_then(|(at, life)| at.checked_add_signed(life));
        let refresh_at = match (known, ends_at) {
            (Some((at, life)), Some(ends_at)) if self.is_renewed_by_use => {
                let left = (ends_at - now).max(TimeDelta::zero());
                let soonest = now + share(id, SPREAD.min(left / 2));
                Some((at + life * 2 / 3).max(soonest))
            }
            (Some(_), Some(_)) => None,
            // Nobody knows when it dies. One use renews it, or its answer says it.
            _ if self.is_renewed_by_use || self.is_said_by_answer => Some(now + share(id, SPREAD)),
            _ => None,
        };
        Watched { refresh_at: refresh_at.filter(|at| *at < window_from), ends_at }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: ConnectionId = ConnectionId(1);

    fn day(days: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(days)
    }

    fn inactivity(days: i64) -> Watch {
        Watch { life: Some(TimeDelta::days(days)), is_said_by_answer: false, is_renewed_by_use: true }
    }

    #[test]
    fn a_refresh_token_that_dies_unused_is_used_in_time() {
        let of = |generated, window, now| inactivity(30).of(ID, Some(day(generated)), day(window), day(now));
        let watched = of(0, 60, 10);
        assert_eq!((watched.refresh_at, watched.ends_at), (Some(day(20)), Some(day(30))));
        let late = of(0, 60, 28);
        assert!(late.refresh_at.is_some_and(|at| at >= day(28) && at <= day(29)), "{late:?}");
        let over = of(0, 60, 40);
        assert_eq!((over.refresh_at, over.ends_at), (Some(day(40)), Some(day(30))), "one use finds out");
        assert_eq!(of(0, 15, 10).refresh_at, None, "its access token is renewed before");
    }

    #[test]
    fn where_nobody_knows_when_it_was_issued_it_is_used_soon_and_not_all_at_once() {
        let plans: Vec<_> = (0..200)
            .map(|id| inactivity(30).of(ConnectionId(id), None, day(60), day(10)).refresh_at.unwrap())
            .collect();
        assert!(plans.iter().all(|at| *at >= day(10) && *at <= day(11)));
        assert!(*plans.iter().max().unwrap() - *plans.iter().min().unwrap() > TimeDelta::hours(20));
        let ahead = inactivity(30).of(ID, Some(day(12)), day(60), day(10));
        assert_eq!(ahead.ends_at, None, "nothing was generated in the future");
    }

    #[test]
    fn what_only_a_merchant_can_renew_is_noted_and_what_only_an_answer_says_is_asked_for() {
        let fixed = Watch { is_renewed_by_use: false, ..inactivity(90) };
        let watched = fixed.of(ID, Some(day(0)), day(60), day(10));
        assert_eq!((watched.refresh_at, watched.ends_at), (None, Some(day(90))));
        assert_eq!(fixed.of(ID, None, day(60), day(10)), Watched { refresh_at: None, ends_at: None });
        let said = Watch { life: None, is_said_by_answer: true, is_renewed_by_use: false };
        let watched = said.of(ID, Some(day(0)), day(60), day(10));
        assert!(watched.refresh_at.is_some_and(|at| at <= day(11)) && watched.ends_at.is_none());
    }
}
