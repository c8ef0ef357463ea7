//! The two ways in which a connection comes to be refreshed.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which scan found the connection; it fixes the queue and the steps of the refresh.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    /// The token dies within minutes or is dead: channel, cache and token are renewed.
    Urgent,
    /// The token dies within the half hour: it is renewed.
    Early,
}

impl Lane {
    /// Both lanes, the one that comes first in everything first.
    pub const ALL: [Self; 2] = [Self::Urgent, Self::Early];

    /// As in queue names, messages and arguments.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Early => "early",
        }
    }
}

impl fmt::Display for Lane {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
