//! The store: MySQL is the truth. Split by who may see what: the producer's port reads no secret.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use thiserror::Error;

use crate::domain::channel::Channel;
use crate::domain::connection::{ConnectionId, ConnectionState, Generation, LoadedConnection, RowStanding};
use crate::domain::failure::Failure;
use crate::domain::kept_answer::KeptAnswer;
use crate::domain::leadership::Lease;
use crate::domain::secret::Secret;
use crate::domain::watch::Watched;
use crate::domain::window::{Plan, RefreshWindows};
use crate::ports::queue::TraceContext;

/// What the producer asks of the store.
#[async_trait]
pub trait ScanStore: Send + Sync {
    /// One page of due connections, in a stable order, after the place where the page before ended.
    async fn due_page(
        &self,
        scan: &DueScan,
        after: Option<PageKey>,
        limit: u32,
    ) -> Result<DuePage, StoreError>;

    /// When the first of these tokens died whose connection is not settled. Settled is who waits for a person, or for a next
    /// attempt, be its time past or not: that is looked for by itself ([`Due::NextAttempt`]).
    async fn first_unsettled(
        &self,
        integration_type: &str,
        expired: Expired,
    ) -> Result<Option<DateTime<Utc>>, StoreError>;

    /// Where the first `count` of these tokens end, whoever's they are; `None` if there are no more.
    async fn end_of_first(&self, expired: Expired, count: u32) -> Result<Option<DateTime<Utc>>, StoreError>;

    /// Enrols those that are new and claims all that nobody else has claimed, until `until`. Answers the claimed ones.
    async fn claim(&self, due: &[DueConnection], claim: Claim) -> Result<Vec<DueConnection>, StoreError>;

    /// Ends the claims on these connections, where they are still the one with this id.
    async fn give_back(&self, connections: &[ConnectionId], claim_id: i64) -> Result<(), StoreError>;

    /// Names of the providers that somebody paused.
    async fn paused_providers(&self) -> Result<Vec<String>, StoreError>;

    /// Connections whose refresh token dies between `now` and `before`, the soonest first; with `is_renewed_by_use` only
    /// those for which no refresh is planned before that.
    async fn ending_grants(
        &self,
        integration_type: &str,
        is_renewed_by_use: bool,
        now: DateTime<Utc>,
        before: DateTime<Utc>,
        limit: u32,
    ) -> Result<Vec<EndingGrant>, StoreError>;

    /// The next ids after `after`, `limit` at most; `None` where there are no more.
    async fn id_page(&self, after: Option<ConnectionId>, limit: u32) -> Result<Option<IdPage>, StoreError>;

    /// Connections of a page whose access token expires after `window_ends`, and of whose refresh token nothing was noted since
    /// somebody else stored that access token.
    async fn unwatched(
        &self,
        integration_type: &str,
        page: IdPage,
        window_ends: DateTime<Utc>,
    ) -> Result<Vec<Unwatched>, StoreError>;

    /// Enrols those that are new, and notes plan and end for all of which no token was stored meanwhile.
    async fn note_watched(&self, notes: &[WatchNote]) -> Result<(), StoreError>;

    /// Deletes history of failed attempts from before `before`, a bounded number of rows. Answers how many.
    async fn prune_attempts(&self, before: DateTime<Utc>) -> Result<u64, StoreError>;
}

/// A lease that one process holds at a time.
#[async_trait]
pub trait LeaseStore: Send + Sync {
    /// Takes or renews the lease of this name for `length`, by the store's clock, unless somebody else holds it.
    async fn take_lease(&self, name: &str, holder: &str, length: Duration) -> Result<Lease, StoreError>;

    /// Ends the lease of this name, if it is still `holder`'s.
    async fn release_lease(&self, name: &str, holder: &str) -> Result<(), StoreError>;
}

/// What a page of due connections is taken from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueScan {
    /// Rows of `channels` with this `integrationType`.
    pub integration_type: String,
    /// Which of them are due.
    pub due: Due,
    /// The time to judge by.
    pub now: DateTime<Utc>,
}

/// Which connections are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Not expired, and expiring within this time.
    Expiring(TimeDelta),
    /// Expired, or expiring within this time.
    ExpiredOrExpiring {
        /// Not before this, where all that expired before is known to be settled.
        from: Option<DateTime<Utc>>,
        /// The window.
        within: TimeDelta,
    },
    /// Planned for by now, and expiring later than within this time or at a time that nobody knows.
    Planned(TimeDelta),
    /// Never given an expiry.
    NeverRefreshed,
    /// Their next attempt after a failure, or a repair of their cache entries, is due.
    NextAttempt,
}

/// A span in which tokens of active connections expired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expired {
    /// Not before this; `None`: whenever.
    pub from: Option<DateTime<Utc>>,
    /// Before this.
    pub until: DateTime<Utc>,
}

/// Where a page ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageKey {
    /// Expiry, plan or next attempt of the last row, whichever the scan goes by.
    pub at: Option<DateTime<Utc>>,
    /// Its connection.
    pub connection_id: ConnectionId,
}

/// One page.
#[derive(Debug, Clone, Default)]
pub struct DuePage {
    /// The due connections.
    pub due: Vec<DueConnection>,
    /// Rows that cannot be read. They are passed over, counted and named.
    pub unreadable: Vec<UnreadableRow>,
    /// Where to go on; `None` after the last page.
    pub next: Option<PageKey>,
}

/// A due connection, without anything secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueConnection {
    /// The connection.
    pub connection_id: ConnectionId,
    /// Its generation; `None` if it is not enrolled yet.
    pub generation: Option<Generation>,
    /// When its token expires.
    pub expires_at: Option<DateTime<Utc>>,
    /// Its next attempt, where one is planned.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When its token is to be renewed, where that was planned when it was stored.
    pub refresh_at: Option<DateTime<Utc>>,
    /// How long its token lives, where that was said.
    pub lifetime: Option<TimeDelta>,
    /// The span of the attempt before, where this is the next one after it.
    pub attempt_before: TraceContext,
}

/// A refresh token that dies soon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndingGrant {
    /// Whose.
    pub connection_id: ConnectionId,
    /// When.
    pub at: DateTime<Utc>,
}

/// Ids of connections, one after another, whatever the connections are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IdPage {
    /// Those after this one …
    pub after: Option<ConnectionId>,
    /// … up to and with this one.
    pub last: ConnectionId,
}

/// A connection whose refresh token nobody watches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unwatched {
    /// The connection.
    pub connection_id: ConnectionId,
    /// Its generation; `None` if it is not enrolled yet.
    pub generation: Option<Generation>,
    /// When its access token expires.
    pub expires_at: DateTime<Utc>,
    /// When that was generated, as far as the platform says.
    pub generated_at: Option<DateTime<Utc>>,
    /// The plan on its row, whatever token it was made for.
    pub plan: Option<Plan>,
}

/// What is noted for one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchNote {
    /// Whose.
    pub connection_id: ConnectionId,
    /// The generation that was read: the precondition.
    pub generation: Option<Generation>,
    /// The expiry of the access token that stands there.
    pub expires_at: DateTime<Utc>,
    /// The note.
    pub watched: Watched,
}

/// A row with a value that no version of the table should hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableRow {
    /// Which one, where that much can be read.
    pub connection_id: Option<ConnectionId>,
    /// What is wrong with which column.
    pub problem: String,
}

/// A claim on a page of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// Tells this claim from every other.
    pub id: i64,
    /// The time to judge by.
    pub now: DateTime<Utc>,
    /// Until then nobody else claims them.
    pub until: DateTime<Utc>,
}

/// What the worker asks of the store.
#[async_trait]
pub trait RefreshStore: Send + Sync {
    /// Everything that a refresh needs; `None` if the connection or its channel of that
    /// integration type is gone.
    async fn load(
        &self,
        connection_id: ConnectionId,
        provider: &str,
        integration_type: Option<&str>,
    ) -> Result<Option<LoadedConnection>, StoreError>;

    /// The connection's channels in id order.
    async fn channels(&self, connection_id: ConnectionId) -> Result<Vec<Channel>, StoreError>;

    /// Writes a channel's members; `false` if it is gone or belongs to another connection.
    async fn update_channel(
        &self,
        connection_id: ConnectionId,
        channel: &Channel,
    ) -> Result<bool, StoreError>;

    /// Writes down that a call is about to be sent which spends the refresh token, and takes the lease on the connection.
    /// `false` if the generation moved on or somebody else holds the lease: then nothing may be sent.
    async fn begin_attempt(&self, attempt: &Attempt) -> Result<bool, StoreError>;

    /// Stores a credential by compare-and-swap on the generation that was spent and the expiry and access token that were
    /// loaded.
    async fn commit(&self, commit: &Commit) -> Result<Committed, StoreError>;

    /// Writes a failure down; `false` if the generation moved on meanwhile.
    async fn record_failure(&self, failure: &FailureRecord) -> Result<bool, StoreError>;

    /// Whether answers are kept: only sealed, because these rows are read by who must see no secret.
    fn keeps_answers(&self) -> bool;

    /// The answer that was kept with the connection's last failure, if there is one.
    async fn kept_answer(&self, connection_id: ConnectionId) -> Result<Option<KeptAnswer>, StoreError>;

    /// Active connections of this integration type whose token is good at `now`, or of which nobody knows, by id after `after`.
    async fn good_page(
        &self,
        integration_type: &str,
        now: DateTime<Utc>,
        after: Option<ConnectionId>,
        limit: u32,
    ) -> Result<Vec<ConnectionId>, StoreError>;

    /// Ends the claim of a connection, and sets its next attempt. Nothing happens if the generation moved on. A claim that is
    /// newer than what was loaded goes on, and a next attempt that somebody planned since is never put off.
    async fn release(&self, release: &Release) -> Result<(), StoreError>;
}

/// A call that spends a refresh token.
#[derive(Debug, Clone)]
pub struct Attempt {
    /// Whose.
    pub connection_id: ConnectionId,
    /// The generation that is spent: the precondition.
    pub generation: Generation,
    /// How the connection stood when it was loaded: a precondition too.
    pub loaded: RowStanding,
    /// What tells the refresh token that was loaded, as it stood in its column, likewise: one that was replaced since may have been
    /// spent by somebody else before. See [`LoadedConnection::stored_grant`].
    pub loaded_grant: Option<String>,
    /// The attempt that was open when it was loaded, likewise.
    pub loaded_attempt: Option<String>,
    /// Tells the attempt from every other; the same one may be begun again.
    pub id: String,
    /// Who makes it.
    pub owner: String,
    /// Whether nobody knows what an earlier call with the same refresh token did, which is open already: it stays written down
    /// when that was sent, however late this one is.
    pub is_effect_unknown: bool,
    /// What tells whether the refresh token that is spent is still the one on the row.
    pub grant: String,
    /// How long nobody else sends one, by the database's clock.
    pub lease: TimeDelta,
    /// Whether the lease of the attempt that was loaded counts for nothing: inside a leeway its call may be repeated beside it.
    pub passes: bool,
}

/// The end of a claim without a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Release {
    /// Whose.
    pub connection_id: ConnectionId,
    /// The generation that it concerns: the precondition.
    pub generation: Generation,
    /// The claim that stood when it was loaded: another one since is another message's, and goes on.
    pub claim: Option<i64>,
    /// The next attempt that stood there then. Where it is another one by now, somebody else knows more: the earlier of the two
    /// counts.
    pub loaded_next_attempt_at: Option<DateTime<Utc>>,
    /// When somebody has to look again.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Whether somebody else gave the connection a good token, so that its troubles are over; `None`: they are not.
    pub recovered: Option<Recovered>,
    /// The span of this attempt, to which the next one is linked.
    pub trace: TraceContext,
}

impl Release {
    /// Ends the claim on a connection as it was loaded; somebody looks at it again at `next_attempt_at`.
    pub fn of(
        connection: &LoadedConnection,
        next_attempt_at: Option<DateTime<Utc>>,
        trace: TraceContext,
    ) -> Self {
        Self {
            connection_id: connection.id,
            generation: connection.generation,
            claim: connection.claim,
            loaded_next_attempt_at: connection.next_attempt_at,
            next_attempt_at,
            recovered: None,
            trace,
        }
    }
}

/// A connection whose troubles are over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// How it stood when it was loaded: a precondition.
    pub loaded: RowStanding,
    /// The call that was open then, which is closed now: that no other one is open is a precondition too.
    pub loaded_attempt: Option<String>,
}

/// A credential to be stored.
#[derive(Clone)]
pub struct Commit {
    /// Whose.
    pub connection_id: ConnectionId,
    /// The generation that was spent: the first precondition.
    pub spent: Generation,
    /// The expiry that was loaded: the second one, so that a merchant's reconnect in between wins.
    pub loaded_expiry: Option<DateTime<Utc>>,
    /// What tells the access token that was loaded, as it stood in its column: the third one, for a reconnect may leave the
    /// expiry as it was. See [`LoadedConnection::stored_token`].
    pub loaded_token: Option<String>,
    /// What tells the refresh token that was loaded, as it stood in its column: the fourth one where another takes its place, for
    /// a reconnect may bring nothing else. See [`LoadedConnection::stored_grant`].
    pub loaded_grant: Option<String>,
    /// The new token.
    pub access_token: Secret,
    /// When it was granted.
    pub generated_at: DateTime<Utc>,
    /// When it expires; `None` if nobody says, and the connection is unmonitored.
    pub expires_at: Option<DateTime<Utc>>,
    /// How long it lives.
    pub lifetime: Option<TimeDelta>,
    /// The refresh token that takes the place of the one that was spent; `None` keeps that one.
    pub refresh_token: Option<Secret>,
    /// When the refresh token that is good from now on dies; `None` if nobody knows.
    pub refresh_token_expires_at: Option<DateTime<Utc>>,
    /// What tells which refresh token that is.
    pub refresh_token_fingerprint: Option<String>,
    /// When it is due again, where that is not simply its window.
    pub refresh_at: Option<DateTime<Utc>>,
}

/// What a commit came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committed {
    /// Stored, as this generation.
    Applied(Generation),
    /// The connection had moved on; nothing was stored.
    Stale,
}

/// A failure to be written down. May hold a kept answer, so it has no `Debug`.
#[derive(Clone)]
pub struct FailureRecord {
    /// Whose.
    pub connection_id: ConnectionId,
    /// The generation that it concerns: the precondition.
    pub generation: Generation,
    /// Class and detail.
    pub failure: Failure,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// When the connection is tried again.
    pub next_attempt_at: DateTime<Utc>,
    /// How the connection stood when it was loaded: a precondition where no call is open any more, for then somebody else has
    /// closed it, and knows more; unless it is left as it stands by now. `None` only where the standing is kept.
    pub loaded: Option<RowStanding>,
    /// [`LoadedConnection::grant_fingerprint`] of a refresh token that nobody but this call can have spent, and it did not: then a
    /// quarantine because of that token is over.
    pub not_spent: Option<String>,
    /// The state it is left in.
    pub state: ConnectionState,
    /// Whether state, open call, lease and fingerprint stay as they are, because the failure says
    /// nothing about the credentials: they were not even read.
    pub is_standing_kept: bool,
    /// Refusals of the grant in a row by now.
    pub grant_failures: u32,
    /// Whether it counts as a failure of the connection; a provider that is down for all counts against none.
    pub is_counted: bool,
    /// Whether the call stays open, because it may have spent the refresh token.
    pub is_attempt_open: bool,
    /// What tells whether somebody gave the connection other credentials since.
    pub fingerprint: Option<String>,
    /// The span of this attempt, to which the next one is linked.
    pub trace: TraceContext,
    /// The calls of which whoever writes this knows: the one that was open when the connection was loaded, and its own. That
    /// no other one is open is a precondition too, for a failure must not close a call that somebody else sent meanwhile.
    pub known_attempts: Vec<String>,
    /// The raw answer, where it may hold the only good refresh token; `None` leaves the one that is there.
    pub kept_answer: Option<KeptAnswer>,
}

/// The store did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum StoreError {
    /// It cannot be reached, or gave up under load; the same again may succeed.
    #[error("the database did not {operation}: {problem}")]
    Unavailable {
        /// What was asked, in words.
        operation: &'static str,
        /// What the driver says.
        problem: String,
    },
    /// It refuses a value that we write; the same again would fail again.
    #[error("the database refused to {operation}: {problem}")]
    Refused {
        /// What was asked, in words.
        operation: &'static str,
        /// What it refuses and what to do.
        problem: String,
    },
    /// A row holds what it must not.
    #[error("the database's row cannot be read to {operation}: {problem}")]
    Unreadable {
        /// What was asked, in words.
        operation: &'static str,
        /// Which column, and what is wrong.
        problem: String,
    },
    /// A row holds a secret that cannot be opened.
    #[error("a secret in the database cannot be opened to {operation}: {problem}")]
    UnreadableSecret {
        /// What was asked, in words.
        operation: &'static str,
        /// Which column and key, and what to do.
        problem: String,
        /// Failures in a row that the connection had before, so that the waiting grows.
        failures: u32,
        /// Where the connection stands, and goes on to stand.
        state: ConnectionState,
    },
}

impl StoreError {
    /// For traces.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } => "unavailable",
            Self::Refused { .. } => "refused",
            Self::Unreadable { .. } => "unreadable",
            Self::UnreadableSecret { .. } => "unreadable_secret",
        }
    }
}

/// What an overview asks of the store.
#[async_trait]
pub trait CensusStore: Send + Sync {
    /// Counts the active connections of an integration type.
    async fn census(
        &self,
        integration_type: &str,
        windows: &RefreshWindows,
        now: DateTime<Utc>,
    ) -> Result<Census, StoreError>;

    /// Counts the active connections of an integration type whose token expires within a span, by where they stand.
    async fn count_expiring(
        &self,
        integration_type: &str,
        span: ExpirySpan,
    ) -> Result<Vec<Standing>, StoreError>;

    /// Active connections whose token expired after `since` and by `now`, and has not been renewed.
    async fn expired_between(
        &self,
        integration_type: &str,
        since: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Vec<ConnectionId>, StoreError>;
}

/// Connections that stand alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Their state; `None` for a word that this version does not know. A connection that is not enrolled yet is active.
    pub state: Option<ConnectionState>,
    /// Whose fault it is that they are not renewed.
    pub cause: Cause,
    /// How many.
    pub connections: u64,
}

/// Whose fault it is that a connection was not renewed when it was last tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// Nobody's: it was, or nobody has tried yet.
    None,
    /// The provider's, for [`crate::domain::failure::FailureClass::is_providers`].
    Provider,
    /// The connection's, or its settings'.
    Connection,
}

impl Cause {
    /// All of them, for labels.
    pub const ALL: [Self; 3] = [Self::None, Self::Provider, Self::Connection];

    /// For labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Provider => "provider",
            Self::Connection => "connection",
        }
    }
}

/// A span of time in which tokens expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExpirySpan {
    /// No expiry is known.
    Never,
    /// Expired by then.
    Until(DateTime<Utc>),
    /// Expires after the first and by the second.
    Between {
        /// Later than this.
        after: DateTime<Utc>,
        /// By this.
        until: DateTime<Utc>,
    },
    /// Expires later than then.
    After(DateTime<Utc>),
}

/// How a fleet stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Census {
    /// Active connections.
    pub connections: u64,
    /// Those with a token that has not expired.
    pub valid: u64,
    /// Those inside the early window, expired or never refreshed.
    pub due: u64,
    /// The soonest expiry that lies ahead.
    pub next_expiry: Option<DateTime<Utc>>,
}

impl Census {
    /// Those without a valid token.
    pub fn expired(&self) -> u64 {
        self.connections.saturating_sub(self.valid)
    }
}
