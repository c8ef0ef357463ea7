//! A connection: a merchant's authorised link to a marketplace, and what is known of it.

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::failure::FailureClass;
use super::fingerprint::{fingerprint, grant_fingerprint};
use super::secret::Secret;
use super::window::Plan;

/// The `id` of a row of `ie_appinstall_connection`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ConnectionId(pub i64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// How many credentials were stored for a connection: 0 before the first, +1 for each one.
///
/// A result is stored only if the generation that was spent is still the current one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub i64);

impl Generation {
    /// Of a connection for which nothing was stored yet.
    pub const FIRST: Self = Self(0);

    /// The generation that storing one more credential makes.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

/// Names one refresh: `{connection_id}:{generation}`, the generation being the one that the refresh spends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct IdempotencyKey {
    /// Whose credential is refreshed.
    pub connection_id: ConnectionId,
    /// The generation that is spent.
    pub generation: Generation,
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.connection_id, self.generation)
    }
}

/// What `token_refresh.state` says of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionState {
    /// Kept fresh.
    Active,
    /// The provider refused the grant for good; the merchant has to authorise again.
    NeedsReauth,
    /// A rotating token was sent and its answer lost: nobody can know which token is valid.
    Quarantined,
    /// What the merchant entered, or our configuration, cannot make a request; looked at again now and then.
    Misconfigured,
    /// Its expiry is unknown, so it cannot be kept fresh on time.
    Unmonitored,
}

impl ConnectionState {
    /// Every state, for checks and labels.
    pub const ALL: [Self; 5] =
        [Self::Active, Self::NeedsReauth, Self::Quarantined, Self::Misconfigured, Self::Unmonitored];

    /// As stored in the `state` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::NeedsReauth => "needs_reauth",
            Self::Quarantined => "quarantined",
            Self::Misconfigured => "misconfigured",
            Self::Unmonitored => "unmonitored",
        }
    }

    /// The reverse of [`Self::as_str`]; `None` for a word that this version does not know.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == text)
    }

    /// Whether the lanes' scans publish a connection in this state. The others wait for a person, and are only looked at
    /// now and then.
    pub fn is_scanned(self) -> bool {
        matches!(self, Self::Active | Self::Misconfigured)
    }
}

impl fmt::Display for ConnectionState {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// How a connection stood when it was loaded: a precondition of what is written for it, for somebody else may have found out more
/// meanwhile. Two that wait for a person in the same state do so because of different calls where the fingerprints differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowStanding {
    /// The state.
    pub state: ConnectionState,
    /// [`LoadedConnection::waiting_fingerprint`].
    pub waiting_fingerprint: Option<String>,
}

/// One connection as a worker reads it before it decides. Holds secrets, so it has no `Debug`.
pub struct LoadedConnection {
    /// The connection.
    pub id: ConnectionId,
    /// `isActive` says `active`.
    pub is_active: bool,
    /// The token in use, if there is one.
    pub access_token: Option<Secret>,
    /// A digest of `accessToken` as it stands in its column, sealed or not; also a precondition of the commit.
    pub stored_token: Option<String>,
    /// The refresh token, if there is one.
    pub refresh_token: Option<Secret>,
    /// A digest of `refreshToken` as it stands in its column, sealed or not; also a precondition of a commit that replaces it.
    pub stored_grant: Option<String>,
    /// `accessTokenExpiryAt`; also a precondition of the commit, so that a reconnect in between wins.
    pub expires_at: Option<DateTime<Utc>>,
    /// `inputFields` as stored: JSON, or what should be.
    pub input_fields: Option<Secret>,
    /// Whether it has a companion row. Without one it was never due, and nothing can be stored for it.
    pub is_enrolled: bool,
    /// The current generation.
    pub generation: Generation,
    /// Where it stands.
    pub state: ConnectionState,
    /// Due again from here on, as planned when the token was stored.
    pub refresh_at: Option<DateTime<Utc>>,
    /// The expiry for which that was planned.
    pub noted_expiry: Option<DateTime<Utc>>,
    /// Not before this, after a failure.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// The claim that a producer laid on it last, open or not.
    pub claim: Option<i64>,
    /// What the database's clock said when this was read: lease and open call are written by it.
    pub database_now: DateTime<Utc>,
    /// Another worker holds the connection until then.
    pub leased_until: Option<DateTime<Utc>>,
    /// The call that may have spent a refresh token, and of which nobody knows the answer.
    pub attempt_id: Option<String>,
    /// When it was sent first.
    pub attempt_sent_at: Option<DateTime<Utc>>,
    /// What [`Self::grant_fingerprint`] was then.
    pub attempt_grant: Option<String>,
    /// Failures in a row.
    pub failures: u32,
    /// Refusals of the grant in a row.
    pub grant_failures: u32,
    /// Class of the last failure, if it was one.
    pub failure_class: Option<FailureClass>,
    /// How long the token was said to live.
    pub lifetime: Option<TimeDelta>,
    /// When a refresh token dies, as noted for the one that [`Self::refresh_token_fingerprint`] tells.
    pub refresh_token_expires_at: Option<DateTime<Utc>>,
    /// What [`Self::grant_fingerprint`] was when that was noted.
    pub refresh_token_fingerprint: Option<String>,
    /// What [`Self::fingerprint`] was when the connection began to wait for a person.
    pub waiting_fingerprint: Option<String>,
    /// Somebody paused the provider.
    pub is_paused: bool,
}

impl LoadedConnection {
    /// Tells whether somebody gave the connection other credentials: a merchant who authorised again or corrected what was
    /// entered.
    pub fn fingerprint(&self) -> String {
        fingerprint(self.id, self.expires_at, self.refresh_token.as_ref(), self.input_fields.as_ref())
    }

    /// Tells whether somebody put another refresh token in the place of this one.
    pub fn grant_fingerprint(&self) -> String {
        grant_fingerprint(self.id, self.refresh_token.as_ref())
    }

    /// When its refresh token dies, as far as that was noted for this one: a merchant's reconnect may have brought another.
    pub fn grant_ends_at(&self) -> Option<DateTime<Utc>> {
        let is_about_this =
            self.refresh_token_fingerprint.as_ref().is_none_or(|noted| *noted == self.grant_fingerprint());
        self.refresh_token_expires_at.filter(|_| is_about_this)
    }

    /// The same of the refresh token that is good once a grant has come; `new` is what came with it.
    pub fn grant_fingerprint_after(&self, new: Option<&Secret>) -> Option<String> {
        let good = new.or(self.refresh_token.as_ref())?;
        Some(grant_fingerprint(self.id, Some(good)))
    }

    /// What has to change before a connection that was left in `state` is tried again: after a lost answer only another
    /// refresh token helps, where the provider knew nothing of what we asked for also another definition (`revision`).
    pub fn fingerprint_for(&self, state: ConnectionState, revision: &str) -> String {
        match state {
            ConnectionState::Quarantined => self.grant_fingerprint(),
            ConnectionState::Misconfigured => {
                let revision: String = revision.chars().take(8).collect();
                format!("{} {revision}", self.fingerprint())
            }
            ConnectionState::Active | ConnectionState::NeedsReauth | ConnectionState::Unmonitored => {
                self.fingerprint()
            }
        }
    }

    /// Brings the times that were written by the database's clock to the clock that said `asked_at` just before this was
    /// asked for. So an open call never seems younger than it is; a lease may seem over a moment too soon, and
    /// whoever takes it is told by the database.
    #[must_use]
    pub fn by_clock_of(mut self, asked_at: DateTime<Utc>) -> Self {
        let ahead = asked_at - self.database_now;
        for time in [&mut self.leased_until, &mut self.attempt_sent_at] {
            *time = time.and_then(|time| time.checked_add_signed(ahead));
        }
        self.database_now = asked_at;
        self
    }

    /// When it is due again, where that was planned.
    pub fn plan(&self) -> Option<Plan> {
        let (noted_expiry, lifetime) = (self.noted_expiry, self.lifetime);
        self.refresh_at.map(|refresh_at| Plan { refresh_at, noted_expiry, lifetime })
    }

    /// Since when nobody knows whether the refresh token is spent. A call that spent the one before it says nothing of this
    /// one.
    pub fn unknown_since(&self) -> Option<DateTime<Utc>> {
        let is_about_this = self.attempt_grant.as_ref().is_none_or(|then| *then == self.grant_fingerprint());
        self.attempt_sent_at.filter(|_| is_about_this)
    }

    /// Whether nothing can be done before a person does something.
    pub fn waits_for_a_person(&self, revision: &str, now: DateTime<Utc>) -> bool {
        let is_as_before = |then: &String| *then == self.fingerprint_for(self.state, revision);
        match self.state {
            ConnectionState::Active => false,
            // Without one it is our own finding, which costs no call to look at again.
            ConnectionState::Misconfigured => self.waiting_fingerprint.as_ref().is_some_and(is_as_before),
            // Unless somebody who knows it gave the token an expiry, or its refresh token has to be kept alive.
            ConnectionState::Unmonitored => {
                self.expires_at.is_none() && self.refresh_at.is_none_or(|refresh_at| refresh_at > now)
            }
            ConnectionState::NeedsReauth | ConnectionState::Quarantined => {
                self.waiting_fingerprint.as_ref().is_none_or(is_as_before)
            }
        }
    }

    /// How it stood.
    pub fn standing(&self) -> RowStanding {
        RowStanding { state: self.state, waiting_fingerprint: self.waiting_fingerprint.clone() }
    }

    /// Whether its row still tells of trouble.
    pub fn is_troubled(&self) -> bool {
        self.failures > 0 || self.state != ConnectionState::Active || self.attempt_sent_at.is_some()
    }
}

/// A credential that a provider granted. Holds secrets, so it has no `Debug`.
#[derive(Clone)]
pub struct Grant {
    /// What calls are authorised with.
    pub access_token: Secret,
    /// When it stops to work; `None` if nobody says.
    pub expires_at: Option<DateTime<Utc>>,
    /// How long it lives, counted from before the request was sent, so never too long; `None` if nobody says.
    pub lifetime: Option<TimeDelta>,
    /// Which of the definition's sources said so; `None` where none did and the life is a cautious guess.
    pub lifetime_source: Option<usize>,
    /// The refresh token that takes the place of the one that was spent, where one came.
    pub refresh_token: Option<Secret>,
    /// When the refresh token that is good from now on dies, if that is said.
    pub refresh_token_expires_at: Option<DateTime<Utc>>,
}

/// An active connection with a token and nothing else, for tests.
#[cfg(test)]
pub(crate) fn loaded_connection(id: i64) -> LoadedConnection {
    LoadedConnection {
        id: ConnectionId(id),
        is_active: true,
        access_token: Some(Secret::new("token")),
        stored_token: None,
        refresh_token: None,
        stored_grant: None,
        expires_at: None,
        input_fields: None,
        is_enrolled: true,
        generation: Generation::FIRST,
        state: ConnectionState::Active,
        refresh_at: None,
        noted_expiry: None,
        next_attempt_at: None,
        claim: None,
        database_now: DateTime::UNIX_EPOCH,
        leased_until: None,
        attempt_id: None,
        attempt_sent_at: None,
        attempt_grant: None,
        failures: 0,
        grant_failures: 0,
        failure_class: None,
        lifetime: None,
        refresh_token_expires_at: None,
        refresh_token_fingerprint: None,
        waiting_fingerprint: None,
        is_paused: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_state_reads_back_from_its_column() {
        for state in ConnectionState::ALL {
            assert_eq!(ConnectionState::parse(state.as_str()), Some(state));
        }
        assert_eq!(ConnectionState::parse("unheard_of"), None);
    }

    #[test]
    fn lease_and_open_call_are_judged_by_the_databases_clock() {
        let at = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        let loaded = LoadedConnection {
            database_now: at(1_000),
            leased_until: Some(at(1_030)),
            attempt_sent_at: Some(at(990)),
            ..loaded_connection(1)
        };
        // A worker whose clock is an hour ahead.
        let loaded = loaded.by_clock_of(at(4_600));
        assert_eq!((loaded.leased_until, loaded.attempt_sent_at), (Some(at(4_630)), Some(at(4_590))));
    }

    #[test]
    fn the_idempotency_key_names_connection_and_spent_generation() {
        let key = IdempotencyKey { connection_id: ConnectionId(42), generation: Generation(7) };
        assert_eq!(key.to_string(), "42:7");
    }
}
