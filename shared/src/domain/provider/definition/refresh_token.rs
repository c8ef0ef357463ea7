//! The refresh token that a call spends.

use std::time::Duration;

use serde::Deserialize;

use super::lifetime::Lifetimes;

/// What is known of the refresh token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefreshToken {
    /// Whether using it replaces it.
    pub rotation: Rotation,
    /// Where a new one stands in the answer; an answer without one keeps the old one (RFC 6749, 6).
    #[serde(default)]
    pub answer: Option<String>,
    /// How long it lives.
    #[serde(default)]
    pub lifetime: Option<Lifetimes>,
    /// It dies if it is not used for so long.
    #[serde(default, with = "humantime_serde::option")]
    pub inactivity: Option<Duration>,
}

/// What becomes of a refresh token when it is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rotation {
    /// It stays good: a call may be made again at any time.
    None,
    /// It is replaced, and may be presented again for so long after its first use (RFC 9700, 4.14.2).
    Leeway(#[serde(with = "humantime_serde")] Duration),
    /// It is replaced; presenting it again may revoke the whole grant.
    Strict,
}

impl Rotation {
    /// Whether a call spends something that cannot be spent again at will.
    pub fn spends(self) -> bool {
        !matches!(self, Self::None)
    }
}
