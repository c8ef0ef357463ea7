//! A statement's values as the driver sends them.

use sea_orm::{Value, Values};
use sqlx::Arguments;
use sqlx::mysql::MySqlArguments;

/// Of those types that our statements have; any other is an error.
pub(super) fn arguments(values: Option<&Values>) -> Result<MySqlArguments, sqlx::Error> {
    let mut arguments = MySqlArguments::default();
    for value in values.into_iter().flat_map(|values| &values.0) {
        match value {
            Value::Bool(value) => arguments.add(value),
            Value::TinyInt(value) => arguments.add(value),
            Value::SmallInt(value) => arguments.add(value),
            Value::Int(value) => arguments.add(value),
            Value::BigInt(value) => arguments.add(value),
            Value::TinyUnsigned(value) => arguments.add(value),
            Value::SmallUnsigned(value) => arguments.add(value),
            Value::Unsigned(value) => arguments.add(value),
            Value::BigUnsigned(value) => arguments.add(value),
            Value::Float(value) => arguments.add(value),
            Value::Double(value) => arguments.add(value),
            Value::String(value) => arguments.add(value.as_deref()),
            Value::Bytes(value) => arguments.add(value.as_deref()),
            Value::ChronoDateTime(value) => arguments.add(value),
            Value::ChronoDateTimeUtc(value) => arguments.add(value),
            _ => Err("a value of a type that no column has".into()),
        }
        .map_err(sqlx::Error::Encode)?;
    }
    Ok(arguments)
}
