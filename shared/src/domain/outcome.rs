//! How a refresh ended, and what that means for its message.

use chrono::{DateTime, TimeDelta, Utc};

use super::connection::{ConnectionState, Generation};
use super::failure::Failure;
use super::message::MessageError;

/// How the handling of one message ended. Exactly one of these for every message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A new credential is stored.
    Refreshed(Refreshed),
    /// A credential was granted, but the connection had moved on before it could be stored: the other one stands.
    Stale,
    /// Nothing had to be called.
    Skipped(Skip),
    /// The provider was called, or could not be; the row says when to try again.
    Failed(Failed),
    /// The provider may not be called now; the row says when. That is no failure.
    Deferred {
        /// Not before this.
        until: DateTime<Utc>,
        /// For logs and labels.
        reason: &'static str,
    },
    /// The message cannot be read.
    Undecodable(MessageError),
    /// MySQL did not answer, so that nothing could be decided or, after a grant, stored.
    Unavailable {
        /// What did not answer, for the log.
        detail: String,
    },
    /// The provider answered, MySQL was away, and the process had to end: the answer waits for another worker.
    Parked,
    /// Our code failed.
    Panicked {
        /// Whether the row says when to try again. If not, the message comes again, and becomes a dead letter if it goes on like
        /// that.
        is_put_off: bool,
    },
}

/// A credential was stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refreshed {
    /// The generation that it made.
    pub generation: Generation,
    /// When it expires; `None` if nobody says.
    pub expires_at: Option<DateTime<Utc>>,
    /// When it was stored.
    pub stored_at: DateTime<Utc>,
    /// What the token before had left by then; negative if it had expired, `None` if there was none.
    pub lead: Option<TimeDelta>,
    /// Whether it can be read in the cache.
    pub cached: Cached,
}

/// What became of the cache entries. A failure here undoes nothing: the row is marked and tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cached {
    /// Written.
    Written,
    /// A newer generation stood there already, or the token had expired by then.
    Newer,
    /// The cache did not answer; a repair is planned on the row.
    Failed,
    /// Neither cache nor database answered before the process had to end: the message comes again for the repair.
    Unplanned,
}

/// Why nothing had to be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Skip {
    /// The connection, its channel or its companion row is gone.
    Gone,
    /// The merchant or the platform switched it off.
    Inactive,
    /// Its token was renewed since, by somebody else.
    AlreadyFresh,
    /// A credential was stored since the message was published.
    GenerationMovedOn,
    /// It waits for a person.
    Waiting(ConnectionState),
    /// Its next attempt is not due yet.
    NotYet,
    /// Another worker is at it.
    InFlight,
    /// Somebody paused its provider.
    Paused,
}

impl Skip {
    /// All that [`Self::as_str`] says, for labels.
    pub fn all() -> impl Iterator<Item = &'static str> {
        let others = [
            Self::Gone,
            Self::Inactive,
            Self::AlreadyFresh,
            Self::GenerationMovedOn,
            Self::NotYet,
            Self::InFlight,
            Self::Paused,
        ];
        others.into_iter().chain(ConnectionState::ALL.map(Self::Waiting)).map(Self::as_str)
    }

    /// For logs and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Inactive => "inactive",
            Self::AlreadyFresh => "already_fresh",
            Self::GenerationMovedOn => "generation_moved_on",
            Self::Waiting(state) => state.as_str(),
            Self::NotYet => "not_yet",
            Self::InFlight => "in_flight",
            Self::Paused => "paused",
        }
    }
}

/// A refresh failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Why.
    pub failure: Failure,
    /// When it is tried again.
    pub next_attempt_at: DateTime<Utc>,
    /// The state that it is left in.
    pub state: ConnectionState,
}

/// What to do with the message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disposition {
    /// Done with it: MySQL, or a parked answer, knows all that is needed.
    Acknowledge,
    /// Give it back: nothing was begun, or something is left to be done.
    Requeue,
    /// Put it aside for a person, with this reason.
    DeadLetter(MessageError),
}

impl Disposition {
    /// As AMQP calls it, for traces.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Acknowledge => "ack",
            Self::Requeue => "nack",
            Self::DeadLetter(_) => "dead_letter",
        }
    }
}

impl Outcome {
    /// What [`Self::as_str`] says of a failure.
    pub const FAILED: &'static str = "failed";

    /// All that [`Self::as_str`] says, for labels.
    pub const LABELS: [&'static str; 9] = [
        "refreshed",
        "stale",
        "skipped",
        Self::FAILED,
        "deferred",
        "undecodable",
        "unavailable",
        "parked",
        "panicked",
    ];

    /// For logs and labels.
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Refreshed(_) => "refreshed",
            Self::Stale => "stale",
            Self::Skipped(_) => "skipped",
            Self::Failed(_) => Self::FAILED,
            Self::Deferred { .. } => "deferred",
            Self::Undecodable(_) => "undecodable",
            Self::Unavailable { .. } => "unavailable",
            Self::Parked => "parked",
            Self::Panicked { .. } => "panicked",
        }
    }

    /// What the outcome means for the message.
    pub fn disposition(&self) -> Disposition {
        match self {
            Self::Refreshed(Refreshed { cached: Cached::Unplanned, .. }) => Disposition::Requeue,
            Self::Refreshed(_)
            | Self::Stale
            | Self::Skipped(_)
            | Self::Failed(_)
            | Self::Deferred { .. }
            | Self::Parked
            | Self::Panicked { is_put_off: true } => Disposition::Acknowledge,
            Self::Undecodable(error) => Disposition::DeadLetter(error.clone()),
            Self::Unavailable { .. } | Self::Panicked { is_put_off: false } => Disposition::Requeue,
        }
    }
}
