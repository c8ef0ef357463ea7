//! The cache entries of a connection. A failure here undoes nothing: MySQL holds the token.

use chrono::{DateTime, Utc};
use freshet_shared::domain::connection::{ConnectionId, ConnectionState, Generation, LoadedConnection};
use freshet_shared::domain::input_fields::InputFields;
use freshet_shared::domain::outcome::Cached;
use freshet_shared::domain::provider::Provider;
use freshet_shared::domain::secret::Secret;
use freshet_shared::ports::cache::{Put, TokenEntry};

use crate::refresh::Refresher;

/// Writes token and ready headers, unless a newer generation is there.
pub async fn write_cache(
    refresher: &Refresher,
    provider: &Provider,
    connection_id: ConnectionId,
    generation: Generation,
    token: &Secret,
    expires_at: Option<DateTime<Utc>>,
    input: &InputFields,
) -> Cached {
    let headers = provider.ready_headers(input, token);
    put(refresher, TokenEntry { connection_id, generation, token: token.clone(), expires_at, headers }).await
}

/// Writes what MySQL holds, where it is still good. Idempotent: the same generation may be written again.
pub async fn repair_cache(
    refresher: &Refresher,
    provider: &Provider,
    connection: &LoadedConnection,
) -> Cached {
    // What somebody deactivated since is nobody's to read.
    let Some(token) = connection.access_token.as_ref().filter(|_| connection.is_active) else {
        return Cached::Written;
    };
    // Without expiry a token is good only where we stored it as such.
    if connection.expires_at.is_none() && connection.state != ConnectionState::Unmonitored {
        return Cached::Written;
    }
    let (id, generation, expires_at) = (connection.id, connection.generation, connection.expires_at);
    match InputFields::parse(connection.input_fields.as_ref()) {
        Ok(input) => write_cache(refresher, provider, id, generation, token, expires_at, &input).await,
        Err(_) => {
            let headers = Vec::new();
            let token = token.clone();
            put(refresher, TokenEntry { connection_id: id, generation, token, expires_at, headers }).await
        }
    }
}

async fn put(refresher: &Refresher, entry: TokenEntry) -> Cached {
    match refresher.cache.put_token(&entry).await {
        Ok(Put::Written) => Cached::Written,
        Ok(Put::Refused) => Cached::Newer,
        Err(error) => {
            tracing::warn!(connection_id = entry.connection_id.0, %error, "token not cached: a repair or the next attempt writes it");
            Cached::Failed
        }
    }
}
