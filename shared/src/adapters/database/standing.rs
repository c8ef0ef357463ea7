//! How a connection stood when it was loaded, as a precondition of a statement.

use sea_orm::sea_query::{Expr, ExprTrait, Query, SimpleExpr};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr};

use super::load::text;
use super::table::{Connection, TokenRefresh};
use crate::domain::connection::{ConnectionId, RowStanding};
use crate::domain::fingerprint::of_stored_token;
use crate::domain::secret::Secret;

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

/// What tells the tokens that stand on the platform's row, each as it stands in its column.
pub(super) struct StoredTokens {
    /// As [`LoadedConnection::stored_token`](crate::domain::connection::LoadedConnection::stored_token).
    pub(super) token: Option<String>,
    /// As [`LoadedConnection::stored_grant`](crate::domain::connection::LoadedConnection::stored_grant).
    pub(super) grant: Option<String>,
}

/// Those of a connection, where a statement cannot compare them by itself: SQLite. `None` if it is gone.
pub(super) async fn stored_tokens(
    transaction: &DatabaseTransaction,
    connection_id: ConnectionId,
) -> Result<Option<StoredTokens>, DbErr> {
    let column = |column: Connection| text(Expr::col((Connection::Table, column)));
    let statement = Query::select()
        .expr_as(column(Connection::AccessToken), "access_token")
        .expr_as(column(Connection::RefreshToken), "refresh_token")
        .from(Connection::Table)
        .and_where(Expr::col((Connection::Table, Connection::Id)).eq(connection_id.0))
        .to_owned();
    let Some(row) = transaction.query_one(&statement).await? else { return Ok(None) };
    let stored = |name| {
        let token: Option<String> = row.try_get("", name)?;
        Ok::<_, DbErr>(token.map(|token| of_stored_token(&Secret::new(token))))
    };
    Ok(Some(StoredTokens { token: stored("access_token")?, grant: stored("refresh_token")? }))
}
