//! How long a token lives, and where that is said.

use std::time::Duration;

use serde::Deserialize;

/// Where the life of a token is said.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Lifetime {
    /// Always as long.
    Fixed(#[serde(with = "humantime_serde")] Duration),
    /// As many seconds as the answer says at this pointer (RFC 6749, 5.1 `expires_in`).
    Seconds(String),
    /// As many milliseconds as the answer says at this pointer.
    Milliseconds(String),
    /// Until the time that the answer names at this pointer: seconds or milliseconds since 1970, or RFC 3339.
    Timestamp(String),
    /// Until the `exp` of the access token, which is a JWT (RFC 7519, 4.1.4). It is read to plan by, and trusted for
    /// nothing else.
    Jwt,
    /// As long as an earlier answer of the same connection said.
    Observed,
    /// Nobody says: the token is stored without expiry, and the connection is `unmonitored`.
    Unknown,
}

/// One place, or several of which the first that says something counts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(from = "OneOrMany")]
pub struct Lifetimes(pub Vec<Lifetime>);

#[derive(Deserialize)]
#[serde(
    untagged,
    expecting = "not a lifetime: one of { fixed = \"1h\" }, { seconds = \"/pointer\" }, { milliseconds = \"/pointer\" }, { timestamp = \"/pointer\" }, \"jwt\", \"observed\", \"unknown\", or a list of them"
)]
enum OneOrMany {
    One(Lifetime),
    Many(Vec<Lifetime>),
}

impl From<OneOrMany> for Lifetimes {
    fn from(value: OneOrMany) -> Self {
        match value {
            OneOrMany::One(one) => Self(vec![one]),
            OneOrMany::Many(many) => Self(many),
        }
    }
}

impl Lifetime {
    /// The pointer into the answer, where it has one.
    pub fn pointer(&self) -> Option<&str> {
        match self {
            Self::Seconds(pointer) | Self::Milliseconds(pointer) | Self::Timestamp(pointer) => Some(pointer),
            Self::Fixed(_) | Self::Jwt | Self::Observed | Self::Unknown => None,
        }
    }

    /// In words, for people.
    pub fn describe(&self) -> String {
        match self {
            Self::Fixed(fixed) => {
                format!("always {}", humantime_serde::re::humantime::format_duration(*fixed))
            }
            Self::Seconds(pointer) => format!("seconds at {pointer} of the answer"),
            Self::Milliseconds(pointer) => format!("milliseconds at {pointer} of the answer"),
            Self::Timestamp(pointer) => format!("a time at {pointer} of the answer"),
            Self::Jwt => "exp of the access token, a JWT".into(),
            Self::Observed => "what an earlier answer said".into(),
            Self::Unknown => "unknown: not monitored".into(),
        }
    }
}
