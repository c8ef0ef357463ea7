//! Secrets on their way between columns and the program: sealed there, plain here.

mod columns;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::Database;
use crate::domain::connection::{ConnectionId, ConnectionState};
use crate::domain::sealing::{KeyRing, Place, SealError, SecretColumn, open, open_members};
use crate::domain::secret::Secret;
use crate::ports::randomness::Randomness;
use crate::ports::store::StoreError;

/// Keys, and the randomness for nonces. No `Debug`: it holds keys.
pub struct Sealing {
    keys: KeyRing,
    randomness: Arc<dyn Randomness>,
}

impl Sealing {
    /// `randomness` has to be a cryptographic generator, as
    /// [`SystemRandomness`](crate::adapters::system::SystemRandomness) is.
    pub fn new(keys: KeyRing, randomness: Arc<dyn Randomness>) -> Self {
        Self { keys, randomness }
    }

    /// The keys.
    pub fn keys(&self) -> &KeyRing {
        &self.keys
    }

    /// Seals a secret for its place; without a primary key it stays as it is.
    pub fn seal(&self, place: &Place<'_>, secret: &Secret) -> Secret {
        self.keys.seal(place, secret, &mut || self.randomness.next())
    }
}

impl Database {
    /// Seals what it writes to the token columns, and opens what it reads. Without keys, plain text is written, and a
    /// sealed secret is [`StoreError::UnreadableSecret`].
    #[must_use]
    pub fn with_sealing(self, sealing: Option<Arc<Sealing>>) -> Self {
        // What gathers for one round trip is sealed and opened by the same keys.
        Self { sealing, reads: Arc::default(), commits: Arc::default(), ..self }
    }

    /// What the column shall hold.
    pub(super) fn sealed(
        &self,
        column: SecretColumn,
        connection_id: ConnectionId,
        secret: &Secret,
    ) -> Secret {
        match &self.sealing {
            Some(sealing) => sealing.seal(&Place::of(column, connection_id), secret),
            None => secret.clone(),
        }
    }

    /// What the column holds. Of `inputFields`, every sealed member is opened.
    pub(super) fn opened(
        &self,
        column: SecretColumn,
        connection_id: ConnectionId,
        text: Option<Secret>,
    ) -> Result<Option<Secret>, SealError> {
        let Some(text) = text else { return Ok(None) };
        let keys = self.sealing.as_deref().map(Sealing::keys);
        let place = Place::of(column, connection_id);
        match column {
            SecretColumn::AccessToken | SecretColumn::RefreshToken | SecretColumn::KeptAnswer => {
                open(keys, &place, text)
            }
            SecretColumn::InputFields => open_members(keys, &place, text),
        }
        .map(Some)
    }
}

/// As the store says it. `failures`: how many the connection had in a row; `state`: where it stands.
pub(super) fn unreadable_secret(
    operation: &'static str,
    failures: u32,
    state: ConnectionState,
) -> impl Fn(SealError) -> StoreError + Copy {
    move |error| StoreError::UnreadableSecret { operation, problem: error.to_string(), failures, state }
}
