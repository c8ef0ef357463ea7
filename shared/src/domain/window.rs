//! When a connection is due.

use chrono::{DateTime, TimeDelta, Utc};

use super::connection::{ConnectionId, LoadedConnection};
use super::lane::Lane;

/// How long before its expiry a token is renewed, per lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshWindows {
    /// The early lane's: 30 minutes by contract.
    pub early: TimeDelta,
    /// The urgent lane's: 10 minutes by contract.
    pub urgent: TimeDelta,
    /// No connection is refreshed again sooner, unless its token would die.
    pub shortest_interval: TimeDelta,
}

/// Two expiries that lie no further apart are one: the platform's column may hold whole seconds.
pub const SAME_EXPIRY: TimeDelta = TimeDelta::seconds(1);

/// When a token is to be renewed, and what is known of the token for which that was planned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// When.
    pub refresh_at: DateTime<Utc>,
    /// The expiry of the token; `None` on a row that an earlier version wrote.
    pub noted_expiry: Option<DateTime<Utc>>,
    /// How long that one lives.
    pub lifetime: Option<TimeDelta>,
}

impl Plan {
    /// Whether it was made for the token that expires at `expires_at`. A merchant's reconnect moves the expiry and leaves the
    /// plan behind; then only the window counts.
    pub fn is_for(&self, expires_at: DateTime<Utc>) -> bool {
        let lead = expires_at - self.refresh_at;
        let is_noted = match self.noted_expiry {
            Some(noted) => (expires_at - noted).abs() <= SAME_EXPIRY,
            // What was planned for further before the expiry than the token lives was planned for another one.
            None => self.lifetime.is_some_and(|lifetime| lead <= lifetime),
        };
        lead > TimeDelta::zero() && is_noted
    }
}

/// The connection's own share of a span: always the same one, and all shares alike often (the finalizer of splitmix64).
pub(super) fn share(id: ConnectionId, span: TimeDelta) -> TimeDelta {
    const PARTS: u64 = 1 << 10;
    let mut mixed = id.0.cast_unsigned().wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    let part = i32::try_from((mixed ^ (mixed >> 31)) % PARTS).unwrap_or(0);
    // In milliseconds, so that no span overflows.
    TimeDelta::milliseconds(span.num_milliseconds() / 1_024 * i64::from(part))
}

impl RefreshWindows {
    /// The window of a lane.
    pub fn of(&self, lane: Lane) -> TimeDelta {
        match lane {
            Lane::Urgent => self.urgent,
            Lane::Early => self.early,
        }
    }

    /// From when on a new token is due, stored with it as `refresh_at`; `None` where nobody knows how long it lives, and
    /// no refresh token has to be kept alive.
    ///
    /// The lead fits the life: a third of it where it is shorter than twice the early window, so that two thirds are used;
    /// the early window up to a day; a tenth of it, a week at most, beyond, because a marketplace may be away for longer
    /// than a window. Each connection has its own share of a twelfth of the life beside that, always the same one, so that a
    /// fleet that was onboarded together spreads out. A refresh token that dies unused is used when two thirds of its time
    /// are over.
    pub fn refresh_at(
        &self,
        id: ConnectionId,
        token: Option<(DateTime<Utc>, TimeDelta)>,
        dies_unused_at: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
    ) -> Option<DateTime<Utc>> {
        let planned = token.map(|(expires_at, lifetime)| {
            let due = expires_at - self.lead(id, lifetime);
            // A provider that hands out the same token until it dies would be asked all the time. But no token is let die.
            due.max((now + self.shortest_interval).min(expires_at - lifetime / 4))
        });
        let kept_alive =
            dies_unused_at.map(|dies_at| (now + (dies_at - now) * 2 / 3).max(now + self.shortest_interval));
        planned.into_iter().chain(kept_alive).min()
    }

    fn lead(&self, id: ConnectionId, lifetime: TimeDelta) -> TimeDelta {
        let own = share(id, lifetime / 12);
        if lifetime < self.early * 2 {
            lifetime / 3 - own
        } else if lifetime < TimeDelta::days(1) {
            self.early + own
        } else {
            (lifetime / 10).min(TimeDelta::weeks(1)).max(self.early) + own.min(TimeDelta::days(1))
        }
    }

    /// Whether a worker should leave the connection's token as it is, because somebody renewed it since the
    /// message was published.
    pub fn is_fresh(&self, connection: &LoadedConnection, now: DateTime<Utc>) -> bool {
        let Some(expires_at) = connection.expires_at else { return false };
        if connection.access_token.as_ref().is_none_or(super::secret::Secret::is_empty) {
            return false;
        }
        let due_from = match connection.plan() {
            Some(plan) if plan.is_for(expires_at) => plan.refresh_at,
            _ => expires_at - self.early,
        };
        // The producer's clock may run ahead of this one; what is nearly due is due.
        let tolerance = connection.lifetime.map_or(self.early, |lifetime| self.early.min(lifetime)) / 10;
        now < due_from - tolerance
    }

    /// The lane in which a retry goes: the one whose scan would find it.
    pub fn lane_for(&self, expires_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> Lane {
        match expires_at {
            Some(expires_at) if expires_at - now > self.urgent => Lane::Early,
            _ => Lane::Urgent,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::connection::loaded_connection;

    const WINDOWS: RefreshWindows = RefreshWindows {
        early: TimeDelta::minutes(30),
        urgent: TimeDelta::minutes(10),
        shortest_interval: TimeDelta::minutes(1),
    };

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
    }

    fn connection(
        expires_at: Option<DateTime<Utc>>,
        refresh_at: Option<DateTime<Utc>>,
        lifetime: i64,
    ) -> LoadedConnection {
        let lifetime = Some(TimeDelta::minutes(lifetime));
        LoadedConnection { expires_at, refresh_at, lifetime, ..loaded_connection(1) }
    }

    /// When a token that was granted at 0 is due, for the connections that come soonest and latest.
    fn due(lifetime: TimeDelta) -> (TimeDelta, TimeDelta) {
        let token = Some((DateTime::UNIX_EPOCH + lifetime, lifetime));
        let due = |id| WINDOWS.refresh_at(ConnectionId(id), token, None, at(0)).unwrap() - at(0);
        ((0..500).map(due).min().unwrap(), (0..500).map(due).max().unwrap())
    }

    #[test]
    fn each_life_has_a_sensible_time_and_each_connection_its_own() {
        let minutes = TimeDelta::minutes;
        let cases = [
            (
                "10 minutes",
                minutes(10),
                minutes(6) + TimeDelta::seconds(39),
                minutes(7) + TimeDelta::seconds(31),
            ),
            ("1 hour", minutes(60), minutes(25), minutes(30)),
            ("6 hours", minutes(360), minutes(300), minutes(330)),
            ("60 days", TimeDelta::days(60), TimeDelta::days(53), TimeDelta::days(54)),
            ("1 year", TimeDelta::days(365), TimeDelta::days(357), TimeDelta::days(358)),
        ];
        for (name, lifetime, earliest, latest) in cases {
            let (first, last) = due(lifetime);
            assert!(first >= earliest && last <= latest, "{name}: {first} to {last}");
            assert!(last - first > (latest - earliest) * 8 / 10, "{name} is spread: {first} to {last}");
            assert_eq!(due(lifetime), (first, last), "{name}: each connection always has the same share");
        }
    }

    #[test]
    fn the_interval_has_a_floor_but_no_token_is_let_die_for_it() {
        let in_seconds = |seconds| {
            let lifetime = TimeDelta::seconds(seconds);
            let token = Some((at(0) + lifetime, lifetime));
            WINDOWS.refresh_at(ConnectionId(1), token, None, at(0)).unwrap() - at(0)
        };
        assert_eq!(in_seconds(84), TimeDelta::minutes(1));
        assert_eq!(in_seconds(10), TimeDelta::milliseconds(7_500));
    }

    #[test]
    fn a_refresh_token_that_dies_unused_is_used_in_time() {
        let day = |days| at(0) + TimeDelta::days(days);
        let plan = |token, dies_at| WINDOWS.refresh_at(ConnectionId(1), token, dies_at, at(0));
        let token = Some((day(60), TimeDelta::days(60)));
        assert_eq!(plan(token, Some(day(30))), Some(day(20)));
        assert_eq!(plan(None, Some(day(30))), Some(day(20)));
        assert_eq!(plan(token, Some(day(360))), plan(token, None));
        assert_eq!(plan(None, None), None);
    }

    #[test]
    fn a_token_is_fresh_only_well_outside_its_window() {
        assert!(WINDOWS.is_fresh(&connection(Some(at(60)), None, 60), at(0)));
        assert!(!WINDOWS.is_fresh(&connection(Some(at(60)), None, 60), at(28)));
        assert!(!WINDOWS.is_fresh(&connection(Some(at(60)), None, 60), at(90)));
        assert!(!WINDOWS.is_fresh(&connection(None, None, 60), at(0)));
        let mut empty = connection(Some(at(60)), None, 60);
        empty.access_token = None;
        assert!(!WINDOWS.is_fresh(&empty, at(0)));
    }

    #[test]
    fn a_token_follows_its_own_plan() {
        assert!(WINDOWS.is_fresh(&connection(Some(at(15)), Some(at(10)), 15), at(1)));
        assert!(!WINDOWS.is_fresh(&connection(Some(at(15)), Some(at(10)), 15), at(10)));
        assert!(!WINDOWS.is_fresh(&connection(Some(at(600)), Some(at(500)), 600), at(500)));
    }

    #[test]
    fn a_reconnect_that_leaves_an_old_plan_behind_is_judged_by_its_expiry() {
        assert!(WINDOWS.is_fresh(&connection(Some(at(120)), Some(at(10)), 60), at(20)));
        assert!(!WINDOWS.is_fresh(&connection(Some(at(20)), Some(at(40)), 60), at(0)));
    }

    #[test]
    fn a_plan_counts_for_the_expiry_that_it_was_made_for_and_for_no_other() {
        let seconds = |seconds| at(0) + TimeDelta::seconds(seconds);
        let lifetime = Some(TimeDelta::days(60));
        let plan = |noted_expiry| Plan { refresh_at: seconds(100), noted_expiry, lifetime };
        let made_for = |noted, expiry| plan(Some(seconds(noted))).is_for(seconds(expiry));
        assert!(made_for(5_000_000, 5_000_000));
        assert!(made_for(5_000_000, 5_000_001), "a column of whole seconds");
        assert!(!made_for(5_000_000, 5_000_002));
        // A token of minutes that somebody else stored, whose expiry lies seconds behind the plan for 60 days.
        assert!(!made_for(5_000_000, 103));
        assert!(plan(None).is_for(seconds(103)), "written by an earlier version: nobody can tell");
        let mut shorter = connection(Some(seconds(103)), Some(seconds(100)), 86_400);
        shorter.noted_expiry = Some(seconds(5_000_000));
        assert!(!WINDOWS.is_fresh(&shorter, at(0)), "judged by its window");
    }

    #[test]
    fn a_retry_goes_where_its_scan_would_find_it() {
        assert_eq!(WINDOWS.lane_for(Some(at(20)), at(0)), Lane::Early);
        assert_eq!(WINDOWS.lane_for(Some(at(10)), at(0)), Lane::Urgent);
        assert_eq!(WINDOWS.lane_for(Some(at(-5)), at(0)), Lane::Urgent);
        assert_eq!(WINDOWS.lane_for(None, at(0)), Lane::Urgent);
    }

    proptest! {
        #[test]
        fn no_plan_comes_after_the_tokens_death(id: i64, seconds in 1_i64..315_360_000) {
            let lifetime = TimeDelta::seconds(seconds);
            let expires_at = at(0) + lifetime;
            let refresh_at = WINDOWS.refresh_at(ConnectionId(id), Some((expires_at, lifetime)), None, at(0)).unwrap();
            prop_assert!(refresh_at > at(0) && refresh_at < expires_at);
            let lifetime = Some(lifetime);
            for noted_expiry in [None, Some(expires_at)] {
                let plan = Plan { refresh_at, noted_expiry, lifetime };
                prop_assert!(plan.is_for(expires_at));
            }
        }
    }
}
