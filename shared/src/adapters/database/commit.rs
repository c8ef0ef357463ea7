//! Storing credentials: each a compare-and-swap on the generation that was spent and the expiry that was loaded.

mod alone;
mod joined;

use futures_util::FutureExt;
use sea_orm::DbBackend;

use super::Database;
use super::error::{during, given_up};
use super::together::{FLIGHTS, MOST, Writing, write_all};
use crate::adapters::grouping::Grouping;
use crate::domain::connection::ConnectionState;
use crate::ports::store::{Commit, Committed, StoreError};

const OPERATION: &str = "store a token";

/// Gathers what jobs want to store.
pub(super) struct Commits(Grouping<Commit, Result<Committed, StoreError>>);

impl Default for Commits {
    fn default() -> Self {
        Self(Grouping::new(FLIGHTS, MOST))
    }
}

impl Database {
    pub(super) async fn store_credential(&self, commit: Commit) -> Result<Committed, StoreError> {
        let this = self.clone();
        let fly = move |commits: Vec<Commit>| {
            let this = this.clone();
            async move { this.round_trip(this.store_all(&commits)).await }
        };
        self.commits.0.ask(commit, fly).await.unwrap_or_else(|| Err(given_up(OPERATION)))
    }

    async fn store_all(&self, commits: &[Commit]) -> Vec<Result<Committed, StoreError>> {
        if self.backend == DbBackend::Sqlite {
            let mut answers = Vec::with_capacity(commits.len());
            for commit in commits {
                answers.push(self.swap(commit).await.map_err(during(OPERATION)));
            }
            return answers;
        }
        let of = |commit: &Commit| (joined::Shape::of(commit), commit.connection_id.0);
        let writing = Writing {
            operation: OPERATION,
            write: |this: &Self, rows| this.swap_joined(rows).boxed(),
            unlocked: |this, rows| this.unlocked(rows.iter().map(|row| row.connection_id.0)).boxed(),
        };
        write_all(self, commits, of, writing).await
    }
}

/// Where a connection stands once its credential is stored.
fn state_after(commit: &Commit) -> ConnectionState {
    match commit.expires_at {
        Some(_) => ConnectionState::Active,
        None => ConnectionState::Unmonitored,
    }
}
