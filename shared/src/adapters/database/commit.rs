//! Storing credentials: each a compare-and-swap on the generation that was spent and the expiry that was loaded.

mod alone;
mod joined;

use std::collections::HashSet;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sea_orm::DbBackend;

use super::Database;
use super::error::{during, given_up};
use crate::adapters::grouping::Grouping;
use crate::domain::connection::ConnectionState;
use crate::ports::store::{Commit, Committed, StoreError};

const OPERATION: &str = "store a token";

/// Round trips under way at a time, and rows in one of them at most: locks are held for a moment, and a statement stays far
/// below any limit of its size.
const FLIGHTS: usize = 3;
const MOST: usize = 256;

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
            async move { this.store_all(&commits).await }
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
        let mut answers: Vec<_> = commits.iter().map(|_| Err(given_up(OPERATION))).collect();
        for places in parts(commits) {
            let rows: Vec<&Commit> = places.iter().filter_map(|place| commits.get(*place)).collect();
            for (place, answer) in places.into_iter().zip(self.swap_each(&rows).await) {
                if let Some(slot) = answers.get_mut(place) {
                    *slot = answer;
                }
            }
        }
        answers
    }

    /// All in one statement. A row that the database refuses keeps nobody else's back: the others are tried without it.
    fn swap_each<'a>(&'a self, rows: &'a [&'a Commit]) -> BoxFuture<'a, Vec<Result<Committed, StoreError>>> {
        async move {
            match self.swap_joined(rows).await.map_err(during(OPERATION)) {
                Ok(answers) => answers.into_iter().map(Ok).collect(),
                Err(StoreError::Refused { .. } | StoreError::Unreadable { .. }) if rows.len() > 1 => {
                    let (first, second) = rows.split_at(rows.len() / 2);
                    let mut answers = self.swap_each(first).await;
                    answers.extend(self.swap_each(second).await);
                    answers
                }
                Err(error) => rows.iter().map(|_| Err(error.clone())).collect(),
            }
        }
        .boxed()
    }
}

/// What goes in one statement: rows that set the same columns, none of them twice, in the order of their keys, so that two
/// statements never wait for each other in a circle.
fn parts(commits: &[Commit]) -> Vec<Vec<usize>> {
    let mut places: Vec<(usize, &Commit)> = commits.iter().enumerate().collect();
    places.sort_by_key(|(_, commit)| (joined::Shape::of(commit), commit.connection_id.0));
    let mut parts: Vec<(joined::Shape, HashSet<i64>, Vec<usize>)> = Vec::new();
    for (place, commit) in places {
        let (shape, id) = (joined::Shape::of(commit), commit.connection_id.0);
        match parts.iter_mut().find(|(of, ids, _)| *of == shape && !ids.contains(&id)) {
            Some((_, ids, places)) => {
                ids.insert(id);
                places.push(place);
            }
            None => parts.push((shape, HashSet::from([id]), vec![place])),
        }
    }
    parts.into_iter().map(|(_, _, places)| places).collect()
}

/// Where a connection stands once its credential is stored.
fn state_after(commit: &Commit) -> ConnectionState {
    match commit.expires_at {
        Some(_) => ConnectionState::Active,
        None => ConnectionState::Unmonitored,
    }
}
