//! From a grant to the row and the cache. Between the answer and the commit stands nothing.

use freshet_shared::domain::connection::{Grant, LoadedConnection};
use freshet_shared::domain::failure::{Failure, FailureClass};
use freshet_shared::domain::input_fields::InputFields;
use freshet_shared::domain::outcome::{Cached, Outcome, Refreshed};
use freshet_shared::domain::provider::Provider;
use freshet_shared::failpoints::{Point, reached};
use freshet_shared::ports::store::{Commit, Committed, StoreError};

use crate::cache_entries::write_cache;
use crate::failing::{Sent, Subject, failed};
use crate::refresh::{Refresher, patience, until_answered};
use crate::repairing::plan_cache_repair;

/// `sent`: where the grant came from; its answer is kept should the database refuse the token.
pub(crate) async fn store_grant(
    refresher: &Refresher,
    provider: &Provider,
    connection: &LoadedConnection,
    input: &InputFields,
    grant: Grant,
    sent: Sent<'_>,
) -> Outcome {
    reached(Point::AfterAnswer).await;
    let now = refresher.clock.now();
    if grant.lifetime_source.is_none() {
        tracing::warn!(
            connection_id = connection.id.0,
            "the answer does not say how long the token lives: it is renewed soon; compare the provider's documentation \
             with its definition"
        );
    }
    if provider.rotation().spends() && grant.refresh_token.is_none() {
        tracing::warn!(
            connection_id = connection.id.0,
            "the answer holds no new refresh token, although the definition says that this provider replaces them: the one \
             before is kept; compare the provider's documentation with its definition"
        );
    }
    let new = grant.refresh_token.as_ref();
    let is_kept = new.is_none() || new == connection.refresh_token.as_ref();
    let noted_end = connection.grant_ends_at().filter(|_| is_kept);
    let grant_ends_at = grant.refresh_token_expires_at.or(noted_end);
    let dies_unused_at = grant_ends_at.filter(|_| provider.is_kept_alive_by_use());
    let token = grant.expires_at.zip(grant.lifetime);
    let mut commit = Commit {
        connection_id: connection.id,
        spent: connection.generation,
        loaded_expiry: connection.expires_at,
        loaded_token: connection.stored_token.clone(),
        loaded_grant: connection.stored_grant.clone(),
        access_token: grant.access_token.clone(),
        generated_at: now,
        expires_at: grant.expires_at,
        lifetime: grant.lifetime,
        refresh_token_fingerprint: connection.grant_fingerprint_after(new),
        refresh_token: grant.refresh_token,
        refresh_token_expires_at: grant_ends_at,
        refresh_at: refresher.windows.refresh_at(connection.id, token, dies_unused_at, now),
    };
    let mut committed = commit_patiently(refresher, provider, &commit).await;
    if committed == Ok(Committed::Stale) {
        committed = commit_beside_another(refresher, provider, connection, &mut commit).await;
    }
    match committed {
        Ok(Committed::Applied(generation)) => {
            reached(Point::AfterCommit).await;
            let token = &grant.access_token;
            let mut cached =
                write_cache(refresher, provider, connection.id, generation, token, grant.expires_at, input)
                    .await;
            if cached == Cached::Failed {
                cached = plan_cache_repair(refresher, connection, generation).await;
            }
            Outcome::Refreshed(Refreshed {
                generation,
                expires_at: grant.expires_at,
                stored_at: now,
                lead: connection.expires_at.map(|expires_at| expires_at - now),
                cached,
            })
        }
        Ok(Committed::Stale) => Outcome::Stale,
        Err(StoreError::Refused { problem, .. }) => {
            let characters = grant.access_token.characters();
            let detail = format!("the database refused the new token ({characters} characters): {problem}");
            // A refresh token that came with it is not stored either, and the one before may be spent.
            let failure = Failure::of_unknown_effect(FailureClass::UnstorableToken, detail);
            let subject = Subject::of(connection, provider.rotation(), Some(now)).having_sent(sent);
            failed(refresher, &subject, failure, true).await
        }
        Err(error) => Outcome::Unavailable { detail: error.to_string() },
    }
}

/// The row is another one than was loaded. Ours still belongs there where nothing but the sealing of the token changed; and
/// where somebody wrote an access token and left the refresh token as it was, which is spent: ours is the only one that is
/// good. Anything else is a newer credential, which wins.
async fn commit_beside_another(
    refresher: &Refresher,
    provider: &Provider,
    connection: &LoadedConnection,
    commit: &mut Commit,
) -> Result<Committed, StoreError> {
    let loaded =
        until_answered(refresher, patience(provider.rotation()), || refresher.load(provider, connection.id))
            .await?;
    let Some(now) = loaded.filter(|now| now.generation == connection.generation) else {
        return Ok(Committed::Stale);
    };
    let is_same_grant = now.grant_fingerprint() == connection.grant_fingerprint();
    let is_same_token =
        now.access_token == connection.access_token && now.expires_at == connection.expires_at;
    match (is_same_grant, is_same_token) {
        (true, true) => {}
        (true, false) if provider.rotation().spends() => tracing::warn!(
            connection_id = connection.id.0,
            "somebody else wrote an access token and left the spent refresh token: ours takes their place"
        ),
        _ => return Ok(Committed::Stale),
    }
    commit.loaded_expiry = now.expires_at;
    commit.loaded_token = now.stored_token;
    commit.loaded_grant = now.stored_grant;
    commit_patiently(refresher, provider, commit).await
}

/// A granted token is worth waiting for the database: within limits where another can be had, to the end where not.
async fn commit_patiently(
    refresher: &Refresher,
    provider: &Provider,
    commit: &Commit,
) -> Result<Committed, StoreError> {
    until_answered(refresher, patience(provider.rotation()), || refresher.store.commit(commit)).await
}
