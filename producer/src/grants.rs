//! Refresh tokens that die soon: only the merchant can give another one, and needs days for it.

use chrono::{DateTime, Utc};
use freshet_shared::ports::store::StoreError;

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
