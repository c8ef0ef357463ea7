//! Many rows asked for in one statement whose text is always the same: their keys come as one JSON parameter, so the server
//! prepares it once, whatever the number of rows.

use sea_orm::DbBackend;
use sea_orm::sea_query::{Alias, Expr, Func, FunctionCall, SimpleExpr};

/// The name of the table that the keys make.
pub(super) const ASKED: &str = "asked";

/// The keys as a table: `JSON_TABLE` of MySQL (8.0.4) and MariaDB (10.6), `json_each` of SQLite.
pub(super) fn table(backend: DbBackend, ids: impl Iterator<Item = i64>) -> FunctionCall {
    let json = serde_json::Value::from_iter(ids).to_string();
    match backend {
        DbBackend::Sqlite => Func::cust("json_each").arg(json),
        _ => Func::cust("JSON_TABLE").arg(Expr::cust_with_values(
            "?, '$[*]' COLUMNS (place FOR ORDINALITY, id BIGINT PATH '$' ERROR ON ERROR)",
            [json],
        )),
    }
}

/// The key that is asked for.
pub(super) fn id(backend: DbBackend) -> SimpleExpr {
    Expr::col((ASKED, Alias::new(if backend == DbBackend::Sqlite { "value" } else { "id" })))
}

/// Where it stands among the keys, from 0.
pub(super) fn place(backend: DbBackend) -> SimpleExpr {
    match backend {
        // Counted from 0 there, and from 1 elsewhere.
        DbBackend::Sqlite => Expr::col((ASKED, Alias::new("key"))),
        _ => Expr::cust("CAST(asked.place AS SIGNED) - 1"),
    }
}
