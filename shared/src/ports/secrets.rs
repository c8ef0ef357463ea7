//! The stored secrets of all connections, for whoever changes the key that they are sealed under.

use async_trait::async_trait;

use super::store::StoreError;
use crate::domain::connection::ConnectionId;
use crate::domain::sealing::SecretColumn;
use crate::domain::secret::Secret;

/// The columns that hold secrets, as they stand: sealed or in plain text.
#[async_trait]
pub trait SecretStore: Send + Sync {
    /// The next `limit` connections in id order, after `after`. Each says which of `integration_types` it has a channel
    /// of.
    async fn secrets_after(
        &self,
        after: Option<ConnectionId>,
        limit: u32,
        integration_types: &[String],
    ) -> Result<Vec<StoredSecrets>, StoreError>;

    /// One column of one connection as it stands; `None` if it is NULL or the connection is gone.
    async fn secret(
        &self,
        connection_id: ConnectionId,
        column: SecretColumn,
    ) -> Result<Option<Secret>, StoreError>;

    /// Writes `new` if the column still holds exactly `read`; `false` if it does not.
    async fn swap_secret(
        &self,
        connection_id: ConnectionId,
        column: SecretColumn,
        read: &Secret,
        new: &Secret,
    ) -> Result<bool, StoreError>;
}

/// The secrets of a connection as they stand. No `Debug`: they may be in plain text.
pub struct StoredSecrets {
    /// Whose.
    pub connection_id: ConnectionId,
    /// Those of the asked for integration types of which it has a channel.
    pub integration_types: Vec<String>,
    /// `accessToken`.
    pub access_token: Option<Secret>,
    /// `refreshToken`.
    pub refresh_token: Option<Secret>,
    /// `inputFields`.
    pub input_fields: Option<Secret>,
    /// `kept_answer` of its row in `token_refresh`.
    pub kept_answer: Option<Secret>,
}

impl StoredSecrets {
    /// The text of a column.
    pub fn take(&mut self, column: SecretColumn) -> Option<Secret> {
        match column {
            SecretColumn::AccessToken => self.access_token.take(),
            SecretColumn::RefreshToken => self.refresh_token.take(),
            SecretColumn::InputFields => self.input_fields.take(),
            SecretColumn::KeptAnswer => self.kept_answer.take(),
        }
    }
}
