//! Where an urgent scan begins. What expired long ago and waits for its merchant only grows; a scan that walked over it each
//! time would cost what waits, not what is due.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::ports::store::{Expired, ScanStore, StoreError};

/// What others write is rarely older than this, so a token that died since is looked at by each scan.
const RECENT: TimeDelta = TimeDelta::hours(1);
/// Pages' worth of those behind the beginning that each scan looks at again, in turn: somebody may have made an old connection
/// active, given it a channel, or taken the whole database back to a backup.
const LOOKED_BACK_AT: u32 = 5;

/// What this process knows of the connections that are settled: those that wait for a person, and those that wait for a next
/// attempt, which the scan for next attempts finds. Of no consequence where it is lost: while nothing is known, a scan walks over
/// all.
#[derive(Debug, Default)]
pub struct Settled(Mutex<HashMap<String, Known>>);

/// Of one integration type.
#[derive(Debug, Clone, Copy)]
struct Known {
    /// All that expired before this were settled when they were looked at.
    until: DateTime<Utc>,
    /// Where looking at them again goes on; `None`: at the first one.
    looks_on_from: Option<DateTime<Utc>>,
}

impl Settled {
    /// Where the scan of an integration type begins: all that expired before are settled. `None` while nothing is known.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn until(
        &self,
        store: &dyn ScanStore,
        integration_type: &str,
        page_size: u32,
        now: DateTime<Utc>,
    ) -> Result<Option<DateTime<Utc>>, StoreError> {
        let recent = now - RECENT;
        // A clock that was set back makes what is known say too much.
        let known = self.known(integration_type).filter(|known| known.until <= recent);
        let known = match known {
            Some(known) => look_back(store, integration_type, page_size, known).await?,
            None => None,
        };
        let ahead = Expired { from: known.map(|known| known.until), until: recent };
        let until = store.first_unsettled(integration_type, ahead).await?.unwrap_or(recent);
        let looks_on_from = known.and_then(|known| known.looks_on_from);
        self.note(integration_type, Known { until, looks_on_from });
        Ok(known.map(|_| until))
    }

    fn known(&self, integration_type: &str) -> Option<Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(integration_type).copied()
    }

    fn note(&self, integration_type: &str, known: Known) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(integration_type.to_owned(), known);
    }
}

/// Looks at the next ones of those that were settled; `None` if one of them is not any more. It is seldom alone, so then nothing
/// is known.
async fn look_back(
    store: &dyn ScanStore,
    integration_type: &str,
    page_size: u32,
    known: Known,
) -> Result<Option<Known>, StoreError> {
    let Known { until, looks_on_from } = known;
    let all = Expired { from: looks_on_from, until };
    let end = store.end_of_first(all, page_size.saturating_mul(LOOKED_BACK_AT)).await?;
    let part = Expired { until: end.unwrap_or(until), ..all };
    let stirs = store.first_unsettled(integration_type, part).await?.is_some();
    Ok((!stirs).then_some(Known { until, looks_on_from: end }))
}
