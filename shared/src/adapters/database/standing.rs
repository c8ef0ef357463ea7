//! How a connection stood when it was loaded, as a precondition of a statement.

use sea_orm::sea_query::{Expr, ExprTrait, SimpleExpr};

use super::table::TokenRefresh;
use crate::domain::connection::RowStanding;

/// The columns that say it, of rows that a statement takes as a parameter.
macro_rules! loaded_columns {
    () => {
        "loaded_state VARCHAR(255) PATH '$.loaded_state' ERROR ON ERROR, \
         loaded_fingerprint VARCHAR(255) PATH '$.loaded_fingerprint' ERROR ON ERROR, "
    };
}

/// Whether the row says the same. Compared byte by byte: the collations of the row and of the parameter may differ.
macro_rules! stands_as_loaded {
    () => {
        "CAST(ours.state AS BINARY) = CAST(new.loaded_state AS BINARY) \
         AND CAST(ours.waiting_fingerprint AS BINARY) <=> CAST(new.loaded_fingerprint AS BINARY)"
    };
}

pub(super) use {loaded_columns, stands_as_loaded};

/// The same where a statement takes no rows as a parameter: SQLite.
pub(super) fn stands_as(standing: &RowStanding) -> SimpleExpr {
    let fingerprint = standing.waiting_fingerprint.as_deref();
    Expr::col(TokenRefresh::State)
        .eq(standing.state.as_str())
        .and(is_or_both_null(TokenRefresh::WaitingFingerprint, fingerprint))
}

/// Whether a column holds this text, or neither is there.
pub(super) fn is_or_both_null(column: TokenRefresh, text: Option<&str>) -> SimpleExpr {
    match text {
        Some(text) => Expr::col(column).eq(text),
        None => Expr::col(column).is_null(),
    }
}
