//! What must hold at every moment, and what must hold again some time after a storm.

use std::sync::Arc;

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::adapters::embedded::queue::InProcessQueue;

use crate::fleet::Ledger;
use crate::marketplace::Marketplace;
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

/// A connection and its companion row.
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
    pub(crate) tables: Arc<Tables>,
    pub(crate) marketplace: Arc<Marketplace>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) queue: Arc<InProcessQueue>,
}

impl Invariants {
    /// Looks at every connection.
    pub(crate) fn check(&self) -> Result<()> {
        let now = self.world.now();
        let (is_stormy, calm_since) = {
            let state = self.world.state();
            (state.is_stormy, state.calm_since)
        };
        let is_recovered = !is_stormy && now - calm_since > RECOVERY;
        for row in rows(&self.tables)? {
            self.has_a_way_on(&row);
            if is_recovered {
                self.is_well(&row, now);
            }
        }
        Ok(())
    }

    /// After the end of all processes: whatever they had in their hands is back in the queue, or settled.
    pub(crate) fn check_end(&self) {
        let depth = self.queue.depth();
        if depth.unacknowledged > 0 {
            self.world
                .violated(format!("{} messages are in nobody's hands and not settled", depth.unacknowledged));
        }
    }

    /// Whoever fails has a next attempt, is queued, or is found by its expiry.
    fn has_a_way_on(&self, row: &Row) {
        let is_failing = row.failures.unwrap_or(0) > 0 && row.state.as_deref() != Some("active");
        let is_found = row.next_attempt_at.is_some() || row.queued_until.is_some();
        if (row.waits_for_its_merchant() || is_failing) && !is_found {
            self.world.violated(format!(
                "connection {} is {} and nobody will look at it again",
                row.id,
                row.state.as_deref().unwrap_or("nothing")
            ));
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
        if row.expires_at.is_none_or(|expires_at| expires_at <= now)
            && is_long_since(reconnected_at, RECOVERY)
        {
            fails("its token has expired although its provider answers");
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
        let cached = self.shelf.cache().get(&format!("connectionAccessToken_{}", row.id));
        // A reconnect by the platform is not written to the cache before the next refresh.
        let is_settled = !is_under_way
            && is_long_since(row.last_success_at, WRITING)
            && is_long_since(reconnected_at, market.lifetime);
        if is_settled && cached.as_deref().is_some_and(|cached| cached != token) {
            fails("the cache holds another token than the database");
        }
    }
}
