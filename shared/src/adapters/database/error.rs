//! The driver's errors, classified. Its words are shown only where they can hold no value of ours.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{DbErr, RuntimeErr};

use crate::ports::store::StoreError;

/// Server errors that pass (MySQL's and MariaDB's numbers): too many connections, shutting down, broken connections,
/// lock waits and deadlocks, read-only while roles change, a statement that was killed or whose table was altered, a
/// session that was silent for too long. Any other would meet the same statement again, and repeating it after a granted
/// token would ask for another token.
const PASSING: &[u16] = &[
    1040, 1053, 1077, 1079, 1152, 1158, 1159, 1160, 1161, 1203, 1205, 1213, 1226, 1290, 1317, 1412, 1615,
    1637, 1792, 1836, 1927, 1969, 3024, 3032, 4031,
];

/// MySQL's last word to a session that was silent for too long: whoever asks something then reads it as the answer. MariaDB says
/// nothing.
const SESSION_ENDED: u16 = 4031;

/// What to do about those that do not.
const REFUSALS: &[(u16, &str)] = &[
    (1044, "the user may not use the database: grant it"),
    (1045, "user or password is wrong: correct database.url"),
    (1048, "a column may not be NULL"),
    (1049, "the database does not exist: create it or correct database.url"),
    (1054, "a column is missing: run `freshet migrate`, or compare the platform's tables with the contract"),
    (1142, "the user may not use a table: grant it"),
    (1143, "the user may not use a column: grant it"),
    (1146, "a table is missing: run `freshet migrate`, or check database.url"),
    (1264, "a value is out of the column's range: widen the column"),
    (1265, "a value does not fit the column: widen the column"),
    (1292, "a time is outside what the column holds, for example beyond 2038 in a TIMESTAMP: use DATETIME"),
    (1366, "a value does not fit the column's character set: use utf8mb4"),
    (1406, "a value is longer than its column: widen the column"),
    (3140, "a value is not JSON"),
    (4025, "a value breaks a CHECK constraint, for example JSON_VALID"),
];

/// Says which operation failed and whether the same again may succeed.
pub(super) fn during(operation: &'static str) -> impl Fn(DbErr) -> StoreError {
    move |error| classify(operation, &error)
}

/// Somebody holds a lock on a row, and did not let go of it while we waited.
pub(super) fn is_lock_wait(error: &DbErr) -> bool {
    const LOCK_WAIT_TIMEOUT: u16 = 1205;
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return false;
    };
    let sqlx::Error::Database(error) = error.as_ref() else { return false };
    let server = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>();
    server.is_some_and(|server| server.number() == LOCK_WAIT_TIMEOUT)
}

/// Whether it says that the server has ended the session.
pub(super) fn is_end_of_session(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else { return false };
    let server = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>();
    server.is_some_and(|server| server.number() == SESSION_ENDED)
}

/// The round trip that it was part of came to nothing: it panicked, or the process ends.
pub(super) fn given_up(operation: &'static str) -> StoreError {
    StoreError::Unavailable { operation, problem: "the statement was given up".into() }
}

/// Nobody knows whether the server did what it was asked, or does it later.
pub(super) fn no_answer(limit: Duration) -> DbErr {
    let error = io::Error::new(io::ErrorKind::TimedOut, format!("no answer within {limit:?}"));
    DbErr::Exec(RuntimeErr::SqlxError(Arc::new(sqlx::Error::Io(error))))
}

fn classify(operation: &'static str, error: &DbErr) -> StoreError {
    let unavailable = |problem: String| StoreError::Unavailable { operation, problem };
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => match error.as_ref() {
            sqlx::Error::Database(error) => {
                let Some(server) = error.try_downcast_ref::<sqlx::mysql::MySqlDatabaseError>() else {
                    return classify_sqlite(operation, error.code().as_deref(), error.message());
                };
                let number = server.number();
                if PASSING.contains(&number) {
                    return unavailable(format!("server error {number}"));
                }
                let known = REFUSALS.iter().find(|(refusal, _)| *refusal == number);
                let advice = known.map_or("the statement cannot succeed like this", |(_, advice)| advice);
                StoreError::Refused { operation, problem: format!("{advice} ({})", shown(number, server.message())) }
            }
            sqlx::Error::ColumnDecode { index, .. } => StoreError::Unreadable {
                operation,
                problem: format!("column {index} holds a value of another type: correct the row"),
            },
            sqlx::Error::PoolTimedOut => unavailable(
                "no connection of the pool came free in time: raise database.max_connections, or see what holds them".into(),
            ),
            sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => unavailable(error.to_string()),
            sqlx::Error::Io(error) => unavailable(format!("no connection: {error}")),
            sqlx::Error::Tls(_) => unavailable("no TLS connection: check the server's certificate".into()),
            other => unavailable(kind(other).into()),
        },
        DbErr::ConnectionAcquire(_) => unavailable(
            "no connection of the pool came free in time: raise database.max_connections, or see what holds them".into(),
        ),
        DbErr::Type(_) | DbErr::TryIntoErr { .. } | DbErr::Json(_) => StoreError::Unreadable {
            operation,
            problem: "a column holds a value of another type: correct the row".into(),
        },
        DbErr::Conn(RuntimeErr::Internal(_)) => unavailable("no connection: check database.url".into()),
        _ => unavailable("the statement failed".into()),
    }
}

/// SQLite's messages name tables and constraints, never values.
fn classify_sqlite(operation: &'static str, code: Option<&str>, message: &str) -> StoreError {
    // Details are in the higher bits.
    match code.and_then(|code| code.parse::<u32>().ok()).map(|code| code & 0xff) {
        // BUSY, LOCKED, IOERR and FULL pass.
        Some(5 | 6 | 10 | 13) | None => StoreError::Unavailable { operation, problem: message.to_owned() },
        // CANTOPEN.
        Some(14) => StoreError::Refused {
            operation,
            problem: "the file cannot be opened: check the path in database.url; ?mode=rwc creates one that is missing"
                .into(),
        },
        Some(_) => StoreError::Refused { operation, problem: message.to_owned() },
    }
}

/// Names the column or table, which the server quotes, for those messages that quote nothing else.
fn shown(number: u16, message: &str) -> String {
    let quotes_only_names = matches!(number, 1048 | 1054 | 1142 | 1143 | 1146 | 1264 | 1265 | 1406);
    if quotes_only_names {
        format!("server error {number}: {message}")
    } else {
        format!("server error {number}")
    }
}

fn kind(error: &sqlx::Error) -> &'static str {
    match error {
        sqlx::Error::PoolClosed => "the pool is closed",
        sqlx::Error::Protocol(_) => "the server does not speak the protocol as expected",
        sqlx::Error::WorkerCrashed => "the driver's worker crashed",
        sqlx::Error::Configuration(_) => "database.url cannot be read",
        _ => "the statement failed",
    }
}
