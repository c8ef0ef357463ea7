//! Refresh tokens that die soon: only the merchant can give another one, and needs days for it.

use chrono::{DateTime, Utc};
use freshet_shared::domain::connection::ConnectionId;
use freshet_shared::domain::provider::Provider;
use freshet_shared::domain::watch::Watch;
use freshet_shared::ports::store::{IdPage, StoreError, Unwatched, WatchNote};

use crate::scan::Scanner;

/// Connections that one provider's warning names at most: those that have the least time.
const NAMED: u32 = 100;

/// Refresh tokens of one provider that die soon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndingGrants {
    /// The provider.
    pub provider: String,
    /// The connections, those whose time is up first in front; a hundred at most.
    pub connections: Vec<i64>,
    /// When the first one dies.
    pub first_at: DateTime<Utc>,
}

/// Finds, for each provider, the connections whose refresh token dies between `now` and `before`; where using it renews it,
/// only those for which no refresh is planned in time.
///
/// # Errors
/// If the database does not answer.
pub async fn ending_grants(
    scanner: &Scanner,
    now: DateTime<Utc>,
    before: DateTime<Utc>,
) -> Result<Vec<EndingGrants>, StoreError> {
    let mut ending = Vec::new();
    for provider in scanner.providers.iter() {
        let Some(integration_type) = &provider.integration_type else { continue };
        let grants = scanner
            .store
            .ending_grants(integration_type, provider.is_kept_alive_by_use(), now, before, NAMED)
            .await?;
        let Some(first) = grants.first() else { continue };
        ending.push(EndingGrants {
            provider: provider.name().to_owned(),
            connections: grants.iter().map(|grant| grant.connection_id.0).collect(),
            first_at: first.at,
        });
    }
    Ok(ending)
}

/// Pages that one turn of the walk reads at most, and connections that it notes something for before it ends.
const PAGES: usize = 20;
const NOTED: usize = 1_000;

/// What one turn of the walk came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WatchReport {
    /// Connections that something was noted for.
    pub noted: u64,
    /// Where the next turn goes on; `None` after the last connection.
    pub next: Option<ConnectionId>,
}

/// Walks over the connections after `after`, a bounded number of them, and plans for refresh tokens that nobody watches yet:
/// the fleet did not store them itself. Those that die unused are used in time.
///
/// # Errors
/// If the database does not answer. What was noted until then stays.
pub async fn watch_grants(scanner: &Scanner, after: Option<ConnectionId>) -> Result<WatchReport, StoreError> {
    let watched: Vec<(&str, Watch)> = scanner.providers.iter().filter_map(|provider| of(provider)).collect();
    let mut report = WatchReport { noted: 0, next: after };
    if watched.is_empty() {
        return Ok(WatchReport::default());
    }
    for _ in 0..PAGES {
        scanner.activity.steps();
        let Some(page) = scanner.store.id_page(report.next, scanner.page_size).await? else {
            return Ok(WatchReport { next: None, ..report });
        };
        for (integration_type, watch) in &watched {
            report.noted += watch_page(scanner, integration_type, watch, page).await?;
        }
        report.next = Some(page.last);
        if report.noted >= NOTED as u64 {
            break;
        }
    }
    Ok(report)
}

fn of(provider: &Provider) -> Option<(&str, Watch)> {
    provider.integration_type.as_deref().zip(provider.watch())
}

async fn watch_page(
    scanner: &Scanner,
    integration_type: &str,
    watch: &Watch,
    page: IdPage,
) -> Result<u64, StoreError> {
    let now = scanner.clock.now();
    let early = scanner.windows.early;
    let found = scanner.store.unwatched(integration_type, page, now + early).await?;
    // An earlier version planned without a note of what for.
    let is_planned = |found: &Unwatched| found.plan.is_some_and(|plan| plan.is_for(found.expires_at));
    let notes: Vec<WatchNote> = found
        .iter()
        .filter(|found| !is_planned(found))
        .map(|found| WatchNote {
            connection_id: found.connection_id,
            generation: found.generation,
            expires_at: found.expires_at,
            watched: watch.of(found.connection_id, found.generated_at, found.expires_at - early, now),
        })
        .collect();
    if !notes.is_empty() {
        scanner.store.note_watched(&notes).await?;
    }
    Ok(notes.len() as u64)
}

/// One turn of the walk; answers where the next one goes on, the same place again where the database does not answer.
pub(crate) async fn take_watch_turn(scanner: &Scanner, after: Option<ConnectionId>) -> Option<ConnectionId> {
    match watch_grants(scanner, after).await {
        Ok(report) => {
            if report.noted > 0 {
                tracing::info!(
                    connections = report.noted,
                    "refresh tokens of others are watched from now on"
                );
            }
            report.next
        }
        Err(error) => {
            tracing::warn!(%error, "refresh tokens that nobody watches were not looked for");
            after
        }
    }
}

/// Says so in the log, while there is time.
pub(crate) async fn warn_of_ending_grants(scanner: &Scanner, now: DateTime<Utc>, before: DateTime<Utc>) {
    match ending_grants(scanner, now, before).await {
        Ok(ending) => {
            for EndingGrants { provider, connections, first_at } in ending {
                let days_left = (first_at - now).num_days();
                tracing::warn!(
                    provider,
                    ?connections,
                    %first_at,
                    days_left,
                    "refresh tokens die soon: unless the next refresh brings new ones, these merchants have to \
                     authorise again"
                );
            }
        }
        Err(error) => tracing::warn!(%error, "refresh tokens that die soon were not looked for"),
    }
}
