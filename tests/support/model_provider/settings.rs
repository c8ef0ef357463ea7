//! How the model provider behaves when nothing is wrong.

use std::sync::Arc;

use chrono::TimeDelta;
use freshet_shared::adapters::system::SystemClock;
use freshet_shared::ports::clock::Clock;

/// How the model behaves when nothing is wrong.
#[derive(Clone)]
pub struct Settings {
    /// What using a refresh token does to it.
    pub rotation: Rotation,
    /// How long an access token lives, told as `expires_in` in whole seconds.
    pub access_token_lifetime: TimeDelta,
    /// How long a refresh token lives from the moment it is made, told as `refresh_token_expires_in`. `None`: for ever,
    /// and the answer does not speak of it.
    pub refresh_token_lifetime: Option<TimeDelta>,
    /// A refresh token that is not used for so long dies.
    pub inactivity: Option<TimeDelta>,
    /// Whether a new access token ends those that the account had before.
    pub one_access_token: bool,
    /// How a client may authenticate.
    pub authentication: ClientAuthentication,
    /// Where the time comes from.
    pub clock: Arc<dyn Clock>,
}

/// What using a refresh token does to it (RFC 9700, 4.14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rotation {
    /// Nothing: the same one serves for ever, and no answer names it.
    None,
    /// It is spent, and its successor is in the answer. For a while after its first use it still serves, as long as no
    /// successor has been used; presented later it ends the family.
    Leeway {
        /// For how long after its first use.
        window: TimeDelta,
        /// What it is then answered with.
        again: Successor,
    },
    /// It is spent, and its successor is in the answer. Presented again it ends the family.
    Strict,
}

/// What a refresh token that is used again within the leeway is answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Successor {
    /// The successor that the first use made.
    Same,
    /// Another successor, beside those that were made before.
    New,
}

/// How a client may authenticate (RFC 6749, 2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuthentication {
    /// By a Basic header only.
    Basic,
    /// By members of the body only.
    Body,
    /// By either of them, but not by both at once.
    Either,
}

impl Settings {
    /// Access tokens for an hour, any kind of client authentication, the system's clock.
    pub fn new(rotation: Rotation) -> Self {
        Self {
            rotation,
            access_token_lifetime: TimeDelta::hours(1),
            refresh_token_lifetime: None,
            inactivity: None,
            one_access_token: false,
            authentication: ClientAuthentication::Either,
            clock: Arc::new(SystemClock),
        }
    }
}
