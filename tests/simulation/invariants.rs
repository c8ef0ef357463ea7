//! What must hold at every moment, and what must hold again some time after a storm.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::adapters::embedded::queue::InProcessQueue;
use tokio::time::sleep;

use crate::depot::{CLOCKS, Depot};
use crate::fleet::Ledger;
use crate::marketplace::Marketplace;
use crate::reigns::Reigns;
use crate::shelf::Shelf;
use crate::store::Tables;
use crate::world::World;

/// After a storm every connection has been tried again by then: the longest wait after a failure or of a deferred job,
/// the stillness of a job, a claim and a scan.
const RECOVERY: TimeDelta = TimeDelta::minutes(25);
/// A row that was stored so lately may not be in the cache yet.
const WRITING: TimeDelta = TimeDelta::minutes(2);
/// A connection that waits for its merchant is looked at this often.
const RECHECK: TimeDelta = TimeDelta::minutes(20);

/// Seconds between two looks at all rows, whether or not one of them changed.
const LOOK_EVERY: u32 = 60;
/// The urgent scan finds who has no more left of a token than that.
pub(crate) const URGENT: TimeDelta = TimeDelta::minutes(10);
/// A claim that ran out holds nobody back, and the next scan finds its row: clocks differ, and a scan takes its time.
const RUN_OUT: TimeDelta = TimeDelta::seconds(75);
/// From the look that finds the cache empty to its last entry.
const FILLING: TimeDelta = TimeDelta::seconds(10);
/// The lease of who fills the cache.
const FILLERS_LEASE: TimeDelta = TimeDelta::seconds(30);

/// When a cache that was emptied has to be filled again, where a worker looks so often and nothing went wrong since then. Whoever
/// filled it may have died with its lease, also in the seconds before it was emptied once more.
fn filled_by(
    emptied_at: DateTime<Utc>,
    disturbed_at: DateTime<Utc>,
    check_every: TimeDelta,
) -> DateTime<Utc> {
    let lease = if disturbed_at > emptied_at - FILLERS_LEASE { FILLERS_LEASE } else { TimeDelta::zero() };
    disturbed_at.max(emptied_at) + lease + check_every + FILLING
}

/// A connection and its companion row.
#[derive(Default)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) access_token: Option<String>,
    pub(crate) refresh_token: Option<String>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    pub(crate) state: Option<String>,
    pub(crate) failures: Option<i32>,
    pub(crate) next_attempt_at: Option<DateTime<Utc>>,
    pub(crate) queued_until: Option<DateTime<Utc>>,
    pub(crate) attempt_sent_at: Option<DateTime<Utc>>,
    pub(crate) last_success_at: Option<DateTime<Utc>>,
}

impl Row {
    fn waits_for_its_merchant(&self) -> bool {
        matches!(self.state.as_deref(), Some("needs_reauth" | "quarantined" | "misconfigured"))
    }

    /// Whether it fails and nobody will look at it again because of that. An active one needs no next attempt where the scans
    /// of the lanes find it at once, or where a call is open: then it is a good token that somebody else stored. They find no
    /// other state, so there a next attempt or a claim it has to be.
    pub(crate) fn is_forgotten(&self, now: DateTime<Utc>) -> bool {
        if !self.waits_for_its_merchant() && self.failures.unwrap_or(0) == 0 {
            return false;
        }
        let is_planned = self.next_attempt_at.is_some();
        let is_claimed = self.queued_until.is_some_and(|until| now - until < RUN_OUT);
        let is_found = self.state.as_deref() == Some("active")
            && (self.attempt_sent_at.is_some() || self.expires_at.is_none_or(|at| at - now <= URGENT));
        !is_planned && !is_claimed && !is_found
    }
}

/// All of them, in the order of their ids.
pub(crate) fn rows(tables: &Tables) -> Result<Vec<Row>> {
    const QUERY: &str = "SELECT k.id, k.accessToken, k.refreshToken, k.accessTokenExpiryAt, r.state, r.failures, \
        r.next_attempt_at, r.queued_until, r.attempt_sent_at, r.last_success_at \
        FROM ie_appinstall_connection k LEFT JOIN token_refresh r ON r.connection_id = k.id ORDER BY k.id";
    let read = |row: &sea_orm::QueryResult| {
        Ok(Row {
            id: row.try_get("", "id")?,
            access_token: row.try_get("", "accessToken")?,
            refresh_token: row.try_get("", "refreshToken")?,
            expires_at: row.try_get("", "accessTokenExpiryAt")?,
            state: row.try_get("", "state")?,
            failures: row.try_get("", "failures")?,
            next_attempt_at: row.try_get("", "next_attempt_at")?,
            queued_until: row.try_get("", "queued_until")?,
            attempt_sent_at: row.try_get("", "attempt_sent_at")?,
            last_success_at: row.try_get("", "last_success_at")?,
        })
    };
    tables.query(QUERY)?.iter().map(read).collect()
}

/// What is looked at.
pub(crate) struct Invariants {
    pub(crate) world: Arc<World>,
    pub(crate) marketplace: Arc<Marketplace>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) queue: Arc<InProcessQueue>,
    pub(crate) depot: Arc<Depot>,
    pub(crate) reigns: Arc<Reigns>,
    /// How often a worker looks whether the cache lost everything.
    pub(crate) check_every: TimeDelta,
}

impl Invariants {
    /// Looks every second at what costs nothing, and at every connection less often. Never returns but by an error.
    pub(crate) async fn keep_looking(&self) -> Result<()> {
        loop {
            for _ in 0..LOOK_EVERY {
                sleep(Duration::from_secs(1)).await;
                self.world.check_deadlines();
                self.reigns.check();
                self.check_cache()?;
            }
            self.check()?;
        }
    }

    /// Looks at every connection.
    pub(crate) fn check(&self) -> Result<()> {
        let now = self.world.now();
        let (is_stormy, calm_since, disturbed_at) = {
            let state = self.world.state();
            (state.is_stormy, state.calm_since, state.disturbed_at)
        };
        let is_recovered = !is_stormy && now - calm_since > RECOVERY;
        for row in self.world.look()? {
            if is_recovered {
                self.is_well(&row, now);
            }
        }
        let parked = self.depot.depth();
        if is_recovered && now - disturbed_at > WRITING && parked > 0 {
            self.world.violated(format!("{parked} parked answers wait although nothing is in the way"));
        }
        Ok(())
    }

    /// A cache that was emptied holds every good token again as soon as a worker has looked and written, without a call to
    /// the provider: this looks at those connections for which nobody called since, or was about to.
    fn check_cache(&self) -> Result<()> {
        let (now, disturbed_at) = (self.world.now(), self.world.state().disturbed_at);
        let Some(emptied_at) = self.shelf.emptied_at() else { return Ok(()) };
        if now < filled_by(emptied_at, disturbed_at, self.check_every) {
            return Ok(());
        }
        let mut compared = 0;
        for row in self.world.look()? {
            let is_good = row.expires_at.is_some_and(|at| at > now);
            // A reconnect by the platform is not written to the cache before the next refresh; and what a refresh writes has
            // a repair of its own.
            let is_since = |at: Option<DateTime<Utc>>| at.is_some_and(|at| at >= emptied_at);
            let touched = [
                self.ledger.reconnected_at(row.id),
                self.ledger.last_call(row.id),
                self.shelf.cleared_at(row.id),
            ];
            let is_untouched = !touched.into_iter().any(is_since);
            if !is_good || !is_untouched {
                continue;
            }
            compared += 1;
            if self.cached(row.id).is_none() {
                self.world.violated(format!(
                    "connection {}: the cache was emptied at {} and does not hold its token again",
                    row.id,
                    emptied_at.format("%dd %H:%M:%S")
                ));
            }
        }
        self.shelf.is_filled(compared);
        Ok(())
    }

    fn cached(&self, id: i64) -> Option<String> {
        self.shelf.cache().get(&format!("connectionAccessToken_{id}"))
    }

    /// After the end of all processes: whatever they had in their hands is back in the queue, or settled.
    pub(crate) fn check_end(&self) {
        let depth = self.queue.depth();
        if depth.unacknowledged > 0 {
            self.world
                .violated(format!("{} messages are in nobody's hands and not settled", depth.unacknowledged));
        }
    }

    fn is_well(&self, row: &Row, now: DateTime<Utc>) {
        let market = &self.marketplace;
        let fails =
            |what: &str| self.world.violated(format!("connection {} of {}: {what}", row.id, market.name));
        let is_long_since = |at: Option<DateTime<Utc>>, span| at.is_none_or(|at| now - at > span);
        let reconnected_at = self.ledger.reconnected_at(row.id);
        if row.waits_for_its_merchant() {
            // Nobody has called since, so nothing can have gone wrong with the new grant.
            let is_unused = |at: &DateTime<Utc>| self.ledger.last_call(row.id).is_none_or(|call| call < *at);
            if reconnected_at.filter(is_unused).is_some_and(|at| now - at > RECHECK) {
                fails("the merchant has authorised again, and it still waits for that");
            }
            return;
        }
        let token = row.access_token.as_deref().unwrap_or_default();
        if row.expires_at.is_some_and(|at| at > now) && !market.is_valid(token, now) {
            fails("its token is not the provider's");
        }
        let is_under_way = row.queued_until.is_some() || row.attempt_sent_at.is_some();
        let newest = market.refresh_token(row.id, now);
        if market.name == "strict" && !is_under_way && row.refresh_token != newest {
            fails("its refresh token is not the one that counts");
        }
        let cached = self.cached(row.id);
        // A reconnect by the platform is not written to the cache before the next refresh.
        let is_settled = !is_under_way
            && is_long_since(row.last_success_at, WRITING)
            && is_long_since(reconnected_at, market.lifetime);
        if is_settled && cached.as_deref().is_some_and(|cached| cached != token) {
            fails("the cache holds another token than the database");
        }
        // What a cache that lost everything lacks is looked at in its own time.
        let is_expected = row.last_success_at.is_some()
            && self.shelf.emptied_at().is_none()
            && row.expires_at.is_some_and(|at| at - now > CLOCKS);
        if is_settled && is_expected && cached.is_none() {
            fails("the cache does not hold its token, and nobody mends that");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    /// In time 0 it has failed twice, and its token is good for an hour: no scan finds it.
    fn failing(state: &str) -> Row {
        let (state, expires_at) = (Some(state.into()), Some(at(3_600)));
        Row { id: 1, state, failures: Some(2), expires_at, ..Row::default() }
    }

    #[test]
    fn an_emptied_cache_has_to_be_filled_a_look_later_unless_a_dead_fillers_lease_may_stand() {
        let by =
            |emptied_at, disturbed_at| filled_by(at(emptied_at), at(disturbed_at), TimeDelta::seconds(15));
        assert_eq!(by(1_000, 500), at(1_025));
        assert_eq!(by(1_000, 970), at(1_025));
        assert_eq!(by(1_000, 971), at(1_055));
        assert_eq!(by(1_000, 1_010), at(1_065));
    }

    #[test]
    fn whoever_fails_in_any_state_is_forgotten_without_a_next_attempt_or_a_claim() {
        for state in ["active", "needs_reauth", "quarantined", "misconfigured", "unmonitored"] {
            assert!(failing(state).is_forgotten(at(0)), "{state}");
            assert!(!Row { next_attempt_at: Some(at(60)), ..failing(state) }.is_forgotten(at(0)), "{state}");
            let claimed = Row { queued_until: Some(at(300)), ..failing(state) };
            assert!(!claimed.is_forgotten(at(300)), "{state}");
            assert!(claimed.is_forgotten(at(300) + RUN_OUT), "{state}");
        }
    }

    #[test]
    fn only_who_is_active_is_found_by_its_expiry_or_after_an_open_call() {
        let open = |state| Row { attempt_sent_at: Some(at(0)), ..failing(state) };
        assert!(!open("active").is_forgotten(at(0)));
        assert!(open("quarantined").is_forgotten(at(0)));
        assert!(failing("active").is_forgotten(at(2_999)));
        assert!(!failing("active").is_forgotten(at(3_000)));
        assert!(!Row { expires_at: None, ..failing("active") }.is_forgotten(at(0)));
        assert!(failing("needs_reauth").is_forgotten(at(3_000)));
    }

    #[test]
    fn who_does_not_fail_needs_no_next_attempt_unless_it_waits_for_its_merchant() {
        let well = |state| Row { failures: Some(0), ..failing(state) };
        assert!(!well("active").is_forgotten(at(0)));
        assert!(!Row { id: 1, ..Row::default() }.is_forgotten(at(0)));
        assert!(well("quarantined").is_forgotten(at(0)));
    }
}
