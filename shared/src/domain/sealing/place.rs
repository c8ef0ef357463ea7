//! Where a secret stands.

use std::fmt;

use crate::domain::connection::ConnectionId;

/// Longest part of a member's key that an error shows: whoever fills `inputFields` chooses the keys.
const SHOWN: usize = 64;

/// The columns that hold secrets: the platform's, and our own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SecretColumn {
    /// `accessToken`.
    AccessToken,
    /// `refreshToken`.
    RefreshToken,
    /// `inputFields`, of which single members are secret.
    InputFields,
    /// `kept_answer` of `token_refresh`.
    KeptAnswer,
}

impl SecretColumn {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::AccessToken, Self::RefreshToken, Self::InputFields, Self::KeptAnswer];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AccessToken => "accessToken",
            Self::RefreshToken => "refreshToken",
            Self::InputFields => "inputFields",
            Self::KeptAnswer => "kept_answer",
        }
    }

    fn table(self) -> &'static str {
        match self {
            Self::AccessToken | Self::RefreshToken | Self::InputFields => "ie_appinstall_connection",
            Self::KeptAnswer => "token_refresh",
        }
    }
}

impl fmt::Display for SecretColumn {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// Where a secret stands: the associated data of its ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place<'a> {
    table: &'a str,
    column: &'a str,
    member: Option<&'a str>,
    row: i64,
}

impl<'a> Place<'a> {
    /// A column of a row, named by the row's key.
    pub fn new(table: &'a str, column: &'a str, row: i64) -> Self {
        Self { table, column, member: None, row }
    }

    /// A column of a connection.
    pub fn of(column: SecretColumn, connection_id: ConnectionId) -> Self {
        Self::new(column.table(), column.as_str(), connection_id.0)
    }

    /// A member of the JSON object that stands there.
    #[must_use]
    pub fn member<'b>(self, key: &'b str) -> Place<'b>
    where
        'a: 'b,
    {
        Place { member: Some(key), ..self }
    }

    /// As bytes that no other place has: every part goes with its length.
    pub(super) fn associated_data(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for part in [self.table, self.column] {
            push(&mut bytes, part);
        }
        match self.member {
            None => bytes.push(0),
            Some(key) => {
                bytes.push(1);
                push(&mut bytes, key);
            }
        }
        bytes.extend_from_slice(&self.row.to_be_bytes());
        bytes
    }
}

pub(super) fn push(bytes: &mut Vec<u8>, part: &str) {
    bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
    bytes.extend_from_slice(part.as_bytes());
}

/// `accessToken of connection 42`, `inputFields.clientSecret of connection 42`.
impl fmt::Display for Place<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.column)?;
        if let Some(key) = self.member {
            let shown: String = key.chars().take(SHOWN).collect();
            write!(formatter, ".{}", shown.escape_debug())?;
        }
        let row = match self.table {
            "ie_appinstall_connection" | "token_refresh" => "connection",
            table => table,
        };
        write!(formatter, " of {row} {}", self.row)
    }
}
