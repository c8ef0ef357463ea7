//! Raw answers that wait on the row for a definition or a column that takes them.

use sea_orm::ConnectionTrait;
use sea_orm::sea_query::{Expr, ExprTrait, Query};

use super::Database;
use super::error::during;
use super::sealed::{Sealing, unreadable_secret};
use super::table::TokenRefresh;
use crate::domain::connection::{ConnectionId, ConnectionState};
use crate::domain::kept_answer::KeptAnswer;
use crate::domain::sealing::{is_sealed, open};
use crate::domain::secret::Secret;
use crate::ports::store::StoreError;

const OPERATION: &str = "read a kept answer";

impl Database {
    /// What the column shall hold; nothing where there is no key to seal it with.
    pub(super) fn sealed_answer(&self, answer: &KeptAnswer) -> Option<Secret> {
        let sealing = self.sealing.as_ref()?;
        let sealed = sealing.seal(&KeptAnswer::place(answer.connection_id), &answer.write());
        is_sealed(sealed.expose()).then_some(sealed)
    }

    pub(super) async fn load_kept_answer(
        &self,
        connection_id: ConnectionId,
    ) -> Result<Option<KeptAnswer>, StoreError> {
        let query = Query::select()
            .column(TokenRefresh::KeptAnswer)
            .from(TokenRefresh::Table)
            .and_where(Expr::col(TokenRefresh::ConnectionId).eq(connection_id.0))
            .and_where(Expr::col(TokenRefresh::KeptAnswer).is_not_null())
            .to_owned();
        let row = self.connection.query_one(&query).await.map_err(during(OPERATION))?;
        let Some(row) = row else { return Ok(None) };
        let text: String = row.try_get_by_index(0).map_err(during(OPERATION))?;
        let keys = self.sealing.as_deref().map(Sealing::keys);
        let text = open(keys, &KeptAnswer::place(connection_id), Secret::new(text))
            .map_err(unreadable_secret(OPERATION, 0, ConnectionState::Quarantined))?;
        KeptAnswer::read(&text)
            .map(Some)
            .map_err(|error| StoreError::Unreadable { operation: OPERATION, problem: error.to_string() })
    }
}
