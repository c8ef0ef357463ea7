//! Many rows in one statement, each with an answer of its own.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sea_orm::{ConnectionTrait, DbErr, Statement, Value};

use super::Database;
use super::error::{during, given_up, is_lock_wait};
use crate::ports::store::StoreError;

/// Round trips of a kind under way at a time, and rows in one of them at most: locks are held for a moment, and a statement
/// stays far below any limit of its size.
pub(super) const FLIGHTS: usize = 3;
/// The same of those kinds that few refreshes need.
pub(super) const RARE_FLIGHTS: usize = 2;
pub(super) const MOST: usize = 256;

/// What writes rows that may go together; it answers each of them, in order.
pub(super) type Write<D, R, A> = for<'r> fn(&'r D, &'r [&'r R]) -> BoxFuture<'r, Result<Vec<A>, DbErr>>;

/// Which of these rows nobody holds a lock on.
pub(super) type Unlocked<D, R> = for<'r> fn(&'r D, &'r [&'r R]) -> BoxFuture<'r, Result<Vec<bool>, DbErr>>;

/// How rows of one kind are written.
pub(super) struct Writing<D, R, A> {
    pub(super) operation: &'static str,
    pub(super) write: Write<D, R, A>,
    pub(super) unlocked: Unlocked<D, R>,
}

/// Writes all of them in as few statements as there are kinds, and answers each, in order. `of` names a row's kind and its
/// connection.
pub(super) async fn write_all<D: Sync, R: Sync, K: Ord, A: Send>(
    database: &D,
    rows: &[R],
    of: fn(&R) -> (K, i64),
    writing: Writing<D, R, A>,
) -> Vec<Result<A, StoreError>> {
    let parts = parts(rows, of);
    let mut answers: Vec<_> = rows.iter().map(|_| Err(given_up(writing.operation))).collect();
    for places in parts {
        let together: Vec<&R> = places.iter().filter_map(|place| rows.get(*place)).collect();
        for (place, answer) in places.into_iter().zip(write_each(database, &together, &writing).await) {
            if let Some(slot) = answers.get_mut(place) {
                *slot = answer;
            }
        }
    }
    answers
}

/// All in one statement. A row that the database refuses, or that somebody holds a lock on, keeps nobody else's back: the
/// others are tried without it.
fn write_each<'r, D: Sync, R: Sync, A: Send + 'r>(
    database: &'r D,
    rows: &'r [&'r R],
    writing: &'r Writing<D, R, A>,
) -> BoxFuture<'r, Vec<Result<A, StoreError>>> {
    async move {
        let error = match (writing.write)(database, rows).await {
            Ok(answers) => return answers.into_iter().map(Ok).collect(),
            Err(error) => error,
        };
        let waited = is_lock_wait(&error);
        let answer = during(writing.operation)(error);
        if rows.len() > 1 && matches!(answer, StoreError::Refused { .. } | StoreError::Unreadable { .. }) {
            let (first, second) = rows.split_at(rows.len() / 2);
            let mut answers = write_each(database, first, writing).await;
            answers.extend(write_each(database, second, writing).await);
            return answers;
        }
        let unlocked = match waited {
            true => (writing.unlocked)(database, rows).await.unwrap_or_else(|error| {
                let error = during("find the rows that nobody has locked")(error);
                tracing::warn!(%error, "a row that is locked fails all that were to be written with it");
                Vec::new()
            }),
            false => Vec::new(),
        };
        // Where all are free by now, or none is, there is nothing to be gained by a part of them.
        if !(unlocked.contains(&true) && unlocked.contains(&false)) {
            return rows.iter().map(|_| Err(answer.clone())).collect();
        }
        let free: Vec<&R> =
            rows.iter().zip(&unlocked).filter_map(|(row, free)| free.then_some(*row)).collect();
        let mut written = write_each(database, &free, writing).await.into_iter();
        let mut own = |is_free: bool| if is_free { written.next() } else { None };
        unlocked.into_iter().map(|free| own(free).unwrap_or_else(|| Err(answer.clone()))).collect()
    }
    .boxed()
}

/// What goes in one statement: rows of one kind, no connection twice, in the order of their keys, so that two statements
/// never wait for each other in a circle.
fn parts<R, K: Ord>(rows: &[R], of: fn(&R) -> (K, i64)) -> Vec<Vec<usize>> {
    let mut places: Vec<((K, i64), usize)> =
        rows.iter().enumerate().map(|(place, row)| (of(row), place)).collect();
    places.sort();
    let mut parts: Vec<(K, HashSet<i64>, Vec<usize>)> = Vec::new();
    for ((kind, id), place) in places {
        match parts.iter_mut().find(|(of, ids, _)| *of == kind && !ids.contains(&id)) {
            Some((_, ids, places)) => {
                ids.insert(id);
                places.push(place);
            }
            None => parts.push((kind, HashSet::from([id]), vec![place])),
        }
    }
    parts.into_iter().map(|(_, _, places)| places).collect()
}

/// Asked with locks of its own, which end with it. MySQL would lock the table of the parameter as well, which is an error (3569),
/// unless that is a derived one.
const UNLOCKED: &str = "SELECT CAST(asked.place AS SIGNED) - 1 AS place FROM (\
        SELECT place, id FROM JSON_TABLE(?, '$[*]' COLUMNS (\
            place FOR ORDINALITY, id BIGINT PATH '$' ERROR ON ERROR\
        )) AS given\
    ) AS asked JOIN token_refresh AS ours ON ours.connection_id = asked.id \
    JOIN ie_appinstall_connection AS theirs ON theirs.id = asked.id FOR UPDATE SKIP LOCKED";

impl Database {
    /// Which of these connections' rows nobody holds a lock on.
    pub(super) async fn unlocked(&self, ids: impl Iterator<Item = i64>) -> Result<Vec<bool>, DbErr> {
        let ids: Vec<i64> = ids.collect();
        let query = self.with_rows(UNLOCKED, &serde_json::json!(ids).to_string());
        places(&self.connection, query, ids.len()).await
    }

    /// A statement whose one parameter is the rows.
    pub(super) fn with_rows(&self, text: &str, rows: &str) -> Statement {
        Statement::from_sql_and_values(self.backend, text, [Value::from(rows)])
    }
}

/// Which of `count` rows a query names by its column `place`.
pub(super) async fn places(
    connection: &impl ConnectionTrait,
    query: Statement,
    count: usize,
) -> Result<Vec<bool>, DbErr> {
    let mut named = vec![false; count];
    for row in connection.query_all_raw(query).await? {
        let place = usize::try_from(row.try_get::<i64>("", "place")?).unwrap_or(usize::MAX);
        if let Some(name) = named.get_mut(place) {
            *name = true;
        }
    }
    Ok(named)
}

/// As the servers read a DATETIME(6).
pub(super) fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S%.6f").to_string()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    type Statements<R> = Mutex<Vec<Vec<R>>>;
    /// Its kind and its connection.
    type Row = (char, i64);

    fn writing<D, R, A>(write: Write<D, R, A>) -> Writing<D, R, A> {
        Writing { operation: "write", write, unlocked: |_, _| panic!("nobody holds a lock here") }
    }

    #[tokio::test]
    async fn what_may_go_together_does_and_each_gets_its_own_answer() {
        let statements = Statements::default();
        let write: Write<Statements<Row>, Row, Row> = |statements, rows| {
            let rows: Vec<_> = rows.iter().map(|row| **row).collect();
            statements.lock().unwrap().push(rows.clone());
            async move { Ok(rows) }.boxed()
        };
        let rows = [('b', 3), ('a', 2), ('a', 2), ('b', 1), ('a', 1)];
        let answers = write_all(&statements, &rows, |row| *row, writing(write)).await;
        assert_eq!(answers, rows.map(Ok));
        let statements = statements.into_inner().unwrap();
        assert_eq!(statements, [vec![('a', 1), ('a', 2)], vec![('a', 2)], vec![('b', 1), ('b', 3)]]);
    }

    #[tokio::test]
    async fn one_that_is_refused_fails_alone_and_a_database_that_is_away_fails_all() {
        let statements = Statements::default();
        let rows: Vec<i64> = (0..50).collect();
        let refuse: Write<Statements<i64>, i64, i64> = |_, rows| {
            let answer = match rows.contains(&&17) {
                true => Err(DbErr::Type("refused".into())),
                false => Ok(rows.iter().map(|row| **row).collect()),
            };
            async move { answer }.boxed()
        };
        let answers = write_all(&statements, &rows, |row| ((), *row), writing(refuse)).await;
        for (row, answer) in rows.iter().zip(answers) {
            assert_eq!(answer.ok(), (*row != 17).then_some(*row));
        }
        let be_away: Write<Statements<i64>, i64, i64> = |statements, rows| {
            statements.lock().unwrap().push(rows.iter().map(|row| **row).collect());
            async { Err(DbErr::Custom("away".into())) }.boxed()
        };
        let answers = write_all(&statements, &rows, |row| ((), *row), writing(be_away)).await;
        assert!(answers.iter().all(|answer| matches!(answer, Err(StoreError::Unavailable { .. }))));
        assert_eq!(statements.into_inner().unwrap(), [rows]);
    }
}
