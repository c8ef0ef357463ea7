//! What happened at the model provider, request by request, without a word that is secret.

use chrono::{DateTime, Utc};

/// In which a test lets its processes say who they are.
pub const CALLER_HEADER: &str = "x-caller";

/// One request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LedgerEntry {
    /// When its last byte had arrived, by the model's clock.
    pub arrived_at: DateTime<Utc>,
    /// How many requests were under way when it arrived, itself included. One is over before its caller can know it.
    pub at_once: usize,
    /// Whose it was: the account of the refresh token, else the client's id. `None` if neither is known to the model.
    pub account: Option<String>,
    /// Who called, where it says so in the header [`CALLER_HEADER`].
    pub caller: Option<String>,
    /// The grant type, where it is one that the model knows.
    pub grant_type: Option<GrantType>,
    /// The serial number of the refresh token that it presented, where the model has made it.
    pub presented: Option<u64>,
    /// Which of the client's secrets it came with, by its place in the list of those that count.
    pub client_secret: Option<usize>,
    /// What the model did.
    pub did: Did,
    /// The name of the fault that it met, if it met one.
    pub fault: Option<&'static str>,
    /// What the caller got to see.
    pub sent: Sent,
}

/// How a token was asked for (RFC 6749, 4.4 and 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrantType {
    /// `client_credentials`.
    ClientCredentials,
    /// `refresh_token`.
    RefreshToken,
}

/// What the model did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Did {
    /// Nothing: a fault came first, or it was no request for a token.
    NotAsked,
    /// It made a token.
    Granted {
        /// The access token's serial number, over all accounts.
        access_token: u64,
        /// The serial number of the refresh token that the answer names, if it names one.
        refresh_token: Option<u64>,
    },
    /// It saw a refresh token that was spent, and ended the family.
    ReuseDetected,
    /// It refused, and nothing has changed.
    Refused(Refusal),
}

/// Why the model refused (RFC 6749, 5.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A parameter is missing or repeated, or the client authenticates twice or in a way that is not taken.
    InvalidRequest,
    /// The client or its secret is not known.
    InvalidClient,
    /// The refresh token is not known, too old, another client's, or of a family that has ended.
    InvalidGrant,
    /// Neither of the two grants.
    UnsupportedGrantType,
}

/// What the caller got to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Nothing yet, or not all.
    Pending,
    /// An answer to its last byte, as it was meant.
    Complete {
        /// Its status.
        status: u16,
    },
    /// A status and a part of the body; then the connection ended.
    Partial {
        /// The status.
        status: u16,
    },
    /// Not a byte; then the connection ended.
    Nothing,
}

impl Refusal {
    /// The `error` of the answer.
    pub fn code(self) -> &'static str {
        match self {
            Self::InvalidRequest => "invalid_request",
            Self::InvalidClient => "invalid_client",
            Self::InvalidGrant => "invalid_grant",
            Self::UnsupportedGrantType => "unsupported_grant_type",
        }
    }

    pub(super) fn status(self) -> u16 {
        match self {
            Self::InvalidClient => 401,
            Self::InvalidRequest | Self::InvalidGrant | Self::UnsupportedGrantType => 400,
        }
    }
}
