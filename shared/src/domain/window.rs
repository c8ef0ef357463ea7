//! When a connection is due.

use chrono::{DateTime, TimeDelta, Utc};

use super::connection::LoadedConnection;
use super::lane::Lane;

/// How long before its expiry a token is renewed, per lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RefreshWindows {
    /// The early lane's: 30 minutes by contract.
    pub early: TimeDelta,
    /// The urgent lane's: 10 minutes by contract.
    pub urgent: TimeDelta,
}

impl RefreshWindows {
    /// The window of a lane.
    pub fn of(&self, lane: Lane) -> TimeDelta {
        match lane {
            Lane::Urgent => self.urgent,
            Lane::Early => self.early,
        }
    }

    /// From when on a new token is due, stored with it as `refresh_at`; `None` where the windows alone say it.
    ///
    /// A token that lives at least twice the early window is due inside that window, exactly. One that lives
    /// shorter would be due as soon as it is stored; it is due when two thirds of its life have passed.
    pub fn refresh_at(&self, expires_at: DateTime<Utc>, lifetime: TimeDelta) -> Option<DateTime<Utc>> {
        (lifetime < self.early * 2).then(|| expires_at - lifetime / 3)
    }

    /// Whether a worker should leave the connection's token as it is, because somebody renewed it since the
    /// message was published.
    pub fn is_fresh(&self, connection: &LoadedConnection, now: DateTime<Utc>) -> bool {
        let Some(expires_at) = connection.expires_at else { return false };
        if connection.access_token.as_ref().is_none_or(super::secret::Secret::is_empty) {
            return false;
        }
        // A merchant's reconnect moves the expiry and leaves `refresh_at` behind; then only the window counts.
        let due_from = match connection.refresh_at {
            Some(refresh_at) if refresh_at < expires_at => refresh_at.max(expires_at - self.early),
            _ => expires_at - self.early,
        };
        // The producer's clock may run ahead of this one; what is nearly due is due.
        now < due_from - self.early / 10
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
    use super::*;
    use crate::domain::connection::{ConnectionId, ConnectionState, Generation};
    use crate::domain::secret::Secret;

    const WINDOWS: RefreshWindows =
        RefreshWindows { early: TimeDelta::minutes(30), urgent: TimeDelta::minutes(10) };

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::minutes(minutes)
    }

    fn connection(expires_at: Option<DateTime<Utc>>, refresh_at: Option<DateTime<Utc>>) -> LoadedConnection {
        LoadedConnection {
            id: ConnectionId(1),
            is_active: true,
            access_token: Some(Secret::new("token")),
            expires_at,
            input_fields: None,
            generation: Generation::FIRST,
            state: ConnectionState::Active,
            refresh_at,
            next_attempt_at: None,
            leased_until: None,
            failures: 0,
            is_paused: false,
        }
    }

    #[test]
    fn an_hour_token_is_due_half_an_hour_before_its_end_and_a_short_one_after_two_thirds() {
        assert_eq!(WINDOWS.refresh_at(at(60), TimeDelta::minutes(60)), None, "the window says it");
        assert_eq!(WINDOWS.refresh_at(at(15), TimeDelta::minutes(15)), Some(at(10)));
    }

    #[test]
    fn a_token_is_fresh_only_well_outside_its_window() {
        assert!(WINDOWS.is_fresh(&connection(Some(at(60)), None), at(0)));
        assert!(!WINDOWS.is_fresh(&connection(Some(at(60)), None), at(28)));
        assert!(!WINDOWS.is_fresh(&connection(Some(at(60)), None), at(90)));
        assert!(!WINDOWS.is_fresh(&connection(None, None), at(0)));
        let mut empty = connection(Some(at(60)), None);
        empty.access_token = None;
        assert!(!WINDOWS.is_fresh(&empty, at(0)));
    }

    #[test]
    fn a_short_token_follows_its_own_plan() {
        assert!(WINDOWS.is_fresh(&connection(Some(at(15)), Some(at(10))), at(1)));
        assert!(!WINDOWS.is_fresh(&connection(Some(at(15)), Some(at(10))), at(10)));
    }

    #[test]
    fn a_reconnect_that_leaves_an_old_plan_behind_is_judged_by_its_expiry() {
        assert!(WINDOWS.is_fresh(&connection(Some(at(120)), Some(at(10))), at(20)));
        assert!(!WINDOWS.is_fresh(&connection(Some(at(20)), Some(at(40))), at(0)));
    }

    #[test]
    fn a_retry_goes_where_its_scan_would_find_it() {
        assert_eq!(WINDOWS.lane_for(Some(at(20)), at(0)), Lane::Early);
        assert_eq!(WINDOWS.lane_for(Some(at(10)), at(0)), Lane::Urgent);
        assert_eq!(WINDOWS.lane_for(Some(at(-5)), at(0)), Lane::Urgent);
        assert_eq!(WINDOWS.lane_for(None, at(0)), Lane::Urgent);
    }
}
