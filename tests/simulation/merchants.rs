//! Rows as the platform writes them: at first, and when a merchant authorises again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::adapters::database::table::{Channels, Connection, ProviderControl};
use sea_orm::sea_query::{Expr, ExprTrait, OnConflict, Query, SimpleExpr};

use crate::deadlines::Wait;
use crate::fleet::{Ledger, client_of, connections};
use crate::invariants::rows;
use crate::marketplace::Marketplace;
use crate::store::Tables;
use crate::world::World;

/// The platform.
pub(crate) struct Platform {
    pub(crate) world: Arc<World>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) marketplace: Arc<Marketplace>,
    pub(crate) ledger: Arc<Ledger>,
}

impl Platform {
    /// Writes the fleet into empty tables: some were never refreshed, some have expired, the others live.
    pub(crate) fn found(&self) -> Result<()> {
        let now = self.world.now();
        for id in connections() {
            let market = &self.marketplace;
            let life = market.lifetime.num_seconds();
            let left = i64::try_from(self.world.draw(life.unsigned_abs() * 5 / 4)).unwrap_or(0) - life / 4;
            let is_new = self.world.draw(5) == 0;
            let expires_at = (!is_new).then(|| now + TimeDelta::seconds(left));
            let connection = Query::insert()
                .into_table(Connection::Table)
                .columns([
                    Connection::Id,
                    Connection::IsActive,
                    Connection::AccessToken,
                    Connection::RefreshToken,
                    Connection::AccessTokenExpiryAt,
                    Connection::InputFields,
                ])
                .values_panic([
                    id.into(),
                    "active".into(),
                    SimpleExpr::value(expires_at.map(|_| market.access_token(id, now))),
                    market.authorise(id, now).into(),
                    SimpleExpr::value(expires_at.map(|at| at.naive_utc())),
                    format!(r#"{{"client_id":"{}","client_secret":"secret"}}"#, client_of(id)).into(),
                ])
                .to_owned();
            let channel = Query::insert()
                .into_table(Channels::Table)
                .columns([Channels::ConnectionId, Channels::IntegrationType])
                .values_panic([id.into(), market.name.into()])
                .to_owned();
            self.tables.execute(&connection)?;
            self.tables.execute(&channel)?;
        }
        Ok(())
    }

    /// Merchants authorise again: now and then for no reason, and some time after their connection needs it.
    pub(crate) async fn reconnect_now_and_then(&self) -> Result<()> {
        loop {
            tokio::time::sleep(self.world.between(Duration::from_secs(60), Duration::from_secs(1_500))).await;
            let waiting: Vec<i64> = rows(&self.tables)?
                .into_iter()
                .filter(|row| matches!(row.state.as_deref(), Some("needs_reauth" | "quarantined")))
                .map(|row| row.id)
                .collect();
            let drawn = self.world.draw(connections().count() as u64 * 2);
            let at_whim = i64::try_from(drawn).ok().filter(|id| connections().any(|other| other == *id));
            for id in waiting.into_iter().filter(|_| self.world.draw(2) == 0).chain(at_whim) {
                self.reconnect(id)?;
            }
        }
    }

    fn reconnect(&self, id: i64) -> Result<()> {
        let now = self.world.now();
        let market = &self.marketplace;
        let refresh_token = market.authorise(id, now);
        // A moment of its own: a reconnect that leaves the expiry as it was is told by the refresh token alone.
        let expires_at: DateTime<Utc> = now + market.lifetime;
        let update = Query::update()
            .table(Connection::Table)
            .value(Connection::AccessToken, market.access_token(id, now))
            .value(Connection::RefreshToken, refresh_token)
            .value(Connection::AccessTokenExpiryAt, expires_at.naive_utc())
            .and_where(Expr::col(Connection::Id).eq(id))
            .to_owned();
        self.tables.execute(&update)?;
        self.ledger.reconnected(id, now);
        self.world.excuse(Some(id), Wait::Reconnected);
        self.world.trace("merchant", format_args!("{id} authorises again"));
        Ok(())
    }

    /// Somebody pauses a provider, or lets it go on.
    pub(crate) fn pause(&self, provider: &str, is_paused: bool) -> Result<()> {
        let statement = Query::insert()
            .into_table(ProviderControl::Table)
            .columns([ProviderControl::Provider, ProviderControl::Paused])
            .values_panic([provider.into(), is_paused.into()])
            .on_conflict(
                OnConflict::column(ProviderControl::Provider)
                    .update_column(ProviderControl::Paused)
                    .to_owned(),
            )
            .to_owned();
        Ok(self.tables.execute(&statement)?)
    }
}
