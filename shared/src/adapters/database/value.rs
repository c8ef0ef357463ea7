//! Values on their way in and out of the three databases.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::sea_query::{CaseStatement, Expr, ExprTrait, Func, SimpleExpr};
use sea_orm::{DbBackend, DbErr, QueryResult, Value};

use super::Database;
use super::table::{Connection, TokenRefresh};
use crate::domain::window::SAME_EXPIRY;

/// Zero dates (`0000-00-00`) and what lies before this are taken for "never": no token expired in 1970.
pub(super) const FIRST_INSTANT: DateTime<Utc> = DateTime::from_timestamp(86_400, 0).unwrap();

impl Database {
    /// A time as the backend stores it, and as our own columns are compared. SQLite has text: `YYYY-MM-DD HH:MM:SS`, as its
    /// own functions write it.
    pub(super) fn instant(&self, time: DateTime<Utc>) -> Value {
        match self.backend {
            DbBackend::Sqlite => time.naive_utc().into(),
            _ => time.into(),
        }
    }

    /// The database's clock, and so much. SQLite has none of its own but the process's.
    pub(super) fn clock_shifted(&self, by: TimeDelta) -> SimpleExpr {
        match (self.backend, &self.clock) {
            (DbBackend::Sqlite, Some(clock)) => Expr::value(self.instant(clock.now() + by)),
            (DbBackend::Sqlite, None) => {
                let seconds = by.as_seconds_f64();
                let format = Expr::value("%Y-%m-%d %H:%M:%f");
                Func::cust("strftime").arg(format).arg("now").arg(format!("{seconds:+.6} seconds")).into()
            }
            _ if by.is_zero() => Expr::cust("UTC_TIMESTAMP(6)"),
            _ => {
                let microseconds = by.num_microseconds().unwrap_or(i64::MAX);
                Expr::cust_with_values("UTC_TIMESTAMP(6) + INTERVAL ? MICROSECOND", [microseconds])
            }
        }
    }

    /// As [`Self::instant`], or NULL.
    pub(super) fn maybe_instant(&self, time: Option<DateTime<Utc>>) -> Value {
        time.map_or(Value::ChronoDateTimeUtc(None), |time| self.instant(time))
    }

    /// `accessTokenExpiryAt` as it is compared with [`Self::moment`].
    pub(super) fn expiry(&self) -> SimpleExpr {
        self.time_of(Connection::AccessTokenExpiryAt)
    }

    /// A time of the platform's, likewise.
    fn time_of(&self, column: Connection) -> SimpleExpr {
        self.comparable(Expr::col((Connection::Table, column)))
    }

    /// A time as [`Self::expiry`] is compared with it.
    pub(super) fn moment(&self, time: DateTime<Utc>) -> SimpleExpr {
        self.comparable(Expr::value(self.instant(time)))
    }

    /// In SQLite the platform may write a time in any of a dozen spellings, with zone or without, which mean the same and
    /// compare differently; there each is brought into one, and what is no time is NULL.
    pub(super) fn comparable(&self, time: SimpleExpr) -> SimpleExpr {
        match self.backend {
            DbBackend::Sqlite => Func::cust("strftime").arg("%Y-%m-%d %H:%M:%f").arg(time).into(),
            _ => time,
        }
    }

    /// `accessTokenExpiryAt` is NULL or a zero date.
    pub(super) fn never_refreshed(&self) -> SimpleExpr {
        self.expiry().is_null().or(self.expiry().lt(self.moment(FIRST_INSTANT)))
    }

    /// Somebody else stored a token since expiry, plan and the refresh token's end were noted; NULL where none was.
    pub(super) fn is_other_than_noted(&self) -> SimpleExpr {
        let apart = match self.backend {
            DbBackend::Sqlite => "ABS(julianday(?) - julianday(?)) * 86400.0 > ?",
            _ => "ABS(TIMESTAMPDIFF(MICROSECOND, ?, ?)) > 1000000 * ?",
        };
        let noted = Expr::col((TokenRefresh::Table, TokenRefresh::NotedExpiry));
        let seconds = Expr::value(SAME_EXPIRY.num_seconds());
        Expr::cust_with_exprs(apart, [self.expiry(), noted, seconds])
    }

    /// `accessTokenExpiryAt`, NULL in place of a zero date, which no driver can read.
    pub(super) fn readable_expiry(&self) -> SimpleExpr {
        self.readable(Connection::AccessTokenExpiryAt)
    }

    /// Any time of the platform's, likewise.
    pub(super) fn readable(&self, column: Connection) -> SimpleExpr {
        let is_zero = self.time_of(column).lt(self.moment(FIRST_INSTANT));
        CaseStatement::new()
            .case(is_zero, Expr::value(Value::ChronoDateTimeUtc(None)))
            .finally(self.time_of(column))
            .into()
    }
}

/// A key of the platform's, whose column may be signed or not.
pub(super) fn id(row: &QueryResult, column: &str) -> Result<i64, DbErr> {
    match row.try_get::<i64>("", column) {
        Ok(id) => Ok(id),
        Err(error) => row.try_get::<u64>("", column).ok().and_then(|id| i64::try_from(id).ok()).ok_or(error),
    }
}

/// A column that holds an integer or a text, as JSON; the platform's ids may be either.
pub(super) fn number_or_text(row: &QueryResult, column: &str) -> Result<serde_json::Value, DbErr> {
    if let Ok(number) = row.try_get::<Option<i64>>("", column) {
        return Ok(number.into());
    }
    if let Ok(number) = row.try_get::<Option<u64>>("", column) {
        return Ok(number.into());
    }
    row.try_get::<Option<String>>("", column).map(Into::into)
}

/// The reverse of [`number_or_text`]; anything else goes as its JSON text.
pub(super) fn from_json(value: &serde_json::Value) -> Value {
    match value {
        serde_json::Value::Null => Value::String(None),
        serde_json::Value::String(text) => text.as_str().into(),
        serde_json::Value::Number(number) => {
            number.as_i64().map_or_else(|| number.to_string().into(), Into::into)
        }
        other => other.to_string().into(),
    }
}
