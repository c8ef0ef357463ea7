//! What others are told of: a token was renewed, its renewal began to fail, or a person is needed.
//!
//! An event is made of numbers, times and our own words. It has no place for a token, an input or the text of a
//! failure, so no secret can travel with it.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::connection::{ConnectionId, ConnectionState, Generation, LoadedConnection};
use super::failure::FailureClass;
use super::outcome::{Outcome, Skip};

/// The version of the form that [`Event::encode`] writes.
pub const VERSION: u32 = 1;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// A new credential is stored.
    Refreshed,
    /// Refreshes have begun to fail, or fail for another reason than before. A row of like failures is one event.
    Failing,
    /// The merchant has to authorise again.
    NeedsReauth,
    /// Nobody can know which refresh token is valid; a person has to look.
    Quarantined,
    /// A good credential is there again after failures: a refresh stored it, or somebody who helped.
    Recovered,
}

impl EventKind {
    /// Every kind, for checks and labels.
    pub const ALL: [Self; 5] =
        [Self::Refreshed, Self::Failing, Self::NeedsReauth, Self::Quarantined, Self::Recovered];

    /// As in routing keys and in the JSON form.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refreshed => "refreshed",
            Self::Failing => "failing",
            Self::NeedsReauth => "needs_reauth",
            Self::Quarantined => "quarantined",
            Self::Recovered => "recovered",
        }
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The provider definition's name.
    pub provider: String,
    /// To which connection.
    pub connection_id: ConnectionId,
    /// The generation that stands: after a stored credential the new one.
    pub generation: Generation,
    /// When the token of that generation expires, where that is known.
    pub expires_at: Option<DateTime<Utc>>,
    /// Why, where something failed.
    pub class: Option<FailureClass>,
    /// When it happened.
    pub at: DateTime<Utc>,
}

/// The JSON form: other systems read it, so its members and their order are fixed.
#[derive(Serialize)]
struct Form<'a> {
    v: u32,
    kind: &'static str,
    provider: &'a str,
    connection_id: ConnectionId,
    generation: Generation,
    expires_at: Option<DateTime<Utc>>,
    class: Option<&'static str>,
    at: DateTime<Utc>,
}

impl Event {
    /// `token.{kind}.{provider}`.
    pub fn routing_key(&self) -> String {
        format!("token.{}.{}", self.kind.as_str(), self.provider)
    }

    /// What a receiver tells repetitions by: `{connection_id}:{generation}:{kind}`, and for [`EventKind::Failing`],
    /// which a generation can have several of, `:{class}` behind it.
    pub fn id(&self) -> String {
        let id = format!("{}:{}:{}", self.connection_id, self.generation, self.kind.as_str());
        match (self.kind, self.class) {
            (EventKind::Failing, Some(class)) => format!("{id}:{class}"),
            _ => id,
        }
    }

    /// As JSON in UTF-8.
    pub fn encode(&self) -> Vec<u8> {
        let form = Form {
            v: VERSION,
            kind: self.kind.as_str(),
            provider: &self.provider,
            connection_id: self.connection_id,
            generation: self.generation,
            expires_at: self.expires_at,
            class: self.class.map(FailureClass::as_str),
            at: self.at,
        };
        // A struct of numbers, strings and dates always has a JSON form, and a Vec takes every byte.
        serde_json::to_vec(&form).unwrap_or_default()
    }
}

/// How a connection stood before its refresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Before {
    /// The provider definition's name.
    pub provider: String,
    /// Which connection.
    pub connection_id: ConnectionId,
    /// Its generation.
    pub generation: Generation,
    /// When its token expires.
    pub expires_at: Option<DateTime<Utc>>,
    /// Its state.
    pub state: ConnectionState,
    /// Failures in a row.
    pub failures: u32,
    /// Class of the last one, unless a credential was stored since.
    pub class: Option<FailureClass>,
}

impl Before {
    /// Of a connection of this provider as it was loaded.
    pub fn of(provider: &str, connection: &LoadedConnection) -> Self {
        Self {
            provider: provider.to_owned(),
            connection_id: connection.id,
            generation: connection.generation,
            expires_at: connection.expires_at,
            state: connection.state,
            failures: connection.failures,
            class: connection.failure_class,
        }
    }

    fn was_failing(&self) -> bool {
        self.failures > 0 || self.class.is_some()
    }

    /// Whether it was in a state that is worse than a failure which is tried again.
    fn was_left_alone(&self) -> bool {
        match self.state {
            ConnectionState::NeedsReauth | ConnectionState::Quarantined | ConnectionState::Misconfigured => {
                true
            }
            // Without an expiry, but not without a token.
            ConnectionState::Active | ConnectionState::Unmonitored => false,
        }
    }

    fn event(&self, kind: EventKind, class: Option<FailureClass>, at: DateTime<Utc>) -> Event {
        Event {
            kind,
            provider: self.provider.clone(),
            connection_id: self.connection_id,
            generation: self.generation,
            expires_at: self.expires_at,
            class,
            at,
        }
    }
}

/// The events that a refresh makes, in the order in which they happened; `at` is the time of what was not stored.
///
/// A refresh that changed nothing of a connection makes none. A failure makes one where the row of failures begins and
/// where its class changes, and one more where the connection is left to a person.
pub fn events_of(outcome: &Outcome, before: &Before, at: DateTime<Utc>) -> Vec<Event> {
    match outcome {
        Outcome::Refreshed(refreshed) => {
            let stored = |kind| Event {
                generation: refreshed.generation,
                expires_at: refreshed.expires_at,
                ..before.event(kind, None, refreshed.stored_at)
            };
            let mut events = vec![stored(EventKind::Refreshed)];
            if before.was_failing() || before.was_left_alone() {
                events.push(stored(EventKind::Recovered));
            }
            events
        }
        Outcome::Failed(failed) => {
            let class = failed.failure.class;
            let failed_so_before = before.was_failing() && before.class.is_none_or(|before| before == class);
            let left_in = match failed.state {
                ConnectionState::NeedsReauth => Some(EventKind::NeedsReauth),
                ConnectionState::Quarantined => Some(EventKind::Quarantined),
                ConnectionState::Active | ConnectionState::Misconfigured | ConnectionState::Unmonitored => {
                    None
                }
            };
            let failing = (!failed_so_before).then_some(EventKind::Failing);
            let entered = left_in.filter(|_| before.state != failed.state);
            let kinds = failing.into_iter().chain(entered);
            kinds.map(|kind| before.event(kind, Some(class), at)).collect()
        }
        // Somebody else gave it a good token, and the row is cleared of its failures.
        Outcome::Skipped(Skip::AlreadyFresh) if before.failures > 0 || before.was_left_alone() => {
            vec![before.event(EventKind::Recovered, None, at)]
        }
        Outcome::Stale
        | Outcome::Skipped(_)
        | Outcome::Deferred { .. }
        | Outcome::Undecodable(_)
        | Outcome::Unavailable { .. }
        | Outcome::Parked
        | Outcome::Panicked { .. } => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
