//! The urgent lane's steps before the token: the channel is renewed at the platform, and the cache cleared and refilled.

use freshet_shared::domain::channel::{Channel, details};
use freshet_shared::domain::connection::{ConnectionId, LoadedConnection};
use freshet_shared::domain::failure::Failure;
use freshet_shared::domain::input_fields::InputFields;
use freshet_shared::domain::provider::Provider;

use crate::refresh::Refresher;

/// Reads the channels, renews each where the platform's endpoint is configured, clears the connection's cache entries and
/// writes its details, and the headers that need no token, back. Whatever fails here is logged and does not keep the token from being renewed.
pub async fn renew_details(
    refresher: &Refresher,
    provider: &Provider,
    connection: &LoadedConnection,
    input: &InputFields,
) {
    let id = connection.id;
    let channels = match refresher.store.channels(id).await {
        Ok(channels) => channels,
        Err(error) => {
            tracing::error!(connection_id = id.0, %error, "channels left as they are");
            return;
        }
    };
    let begun = tokio::time::Instant::now();
    let mut renewed = Vec::with_capacity(channels.len());
    for channel in channels {
        if begun.elapsed() >= refresher.details_limit {
            tracing::warn!(
                connection_id = id.0,
                channel = channel.id,
                "channel left as it is: the platform takes too long"
            );
            renewed.push(channel);
            continue;
        }
        renewed.push(match renew(refresher, provider, id, input, &channel).await {
            Ok(Some(new)) => new,
            Ok(None) => channel,
            Err(failure) => {
                tracing::warn!(connection_id = id.0, channel = channel.id, %failure, "channel left as it is");
                channel
            }
        });
    }
    let operations: Vec<&str> = provider.operations().collect();
    let headers = provider.static_headers(input);
    let replaced = refresher
        .cache
        .replace_details(id, connection.generation, &operations, &details(&renewed), &headers)
        .await;
    if let Err(error) = replaced {
        tracing::warn!(connection_id = id.0, %error, "cache entries not cleared, and details not cached");
    }
}

/// The renewed channel, stored; `None` where the platform's endpoint is not configured.
async fn renew(
    refresher: &Refresher,
    provider: &Provider,
    connection_id: ConnectionId,
    input: &InputFields,
    channel: &Channel,
) -> Result<Option<Channel>, Failure> {
    let Some(request) = provider.refresh_connection_request(input, connection_id, channel)? else {
        return Ok(None);
    };
    let answer = refresher.caller.call(&request).await?;
    let renewed = provider.interpret_refresh_connection(&answer, channel.id)?;
    match refresher.store.update_channel(connection_id, &renewed).await {
        Ok(true) => Ok(Some(renewed)),
        Ok(false) => {
            tracing::warn!(
                connection_id = connection_id.0,
                channel = channel.id,
                "channel is gone; nothing to update"
            );
            Ok(None)
        }
        Err(error) => {
            tracing::error!(connection_id = connection_id.0, channel = channel.id, %error, "renewed channel not stored");
            Ok(None)
        }
    }
}
