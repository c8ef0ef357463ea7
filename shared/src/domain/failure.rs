//! Why a refresh failed, computed once and then logged, counted, stored and acted on.

use std::fmt;
use std::time::Duration;

use serde::Deserialize;

/// The class of a failure; everything that branches on a failure branches on this.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureClass {
    /// The grant is refused (RFC 6749, 5.2 `invalid_grant`).
    InvalidGrant,
    /// What the merchant entered is refused.
    InvalidCredentials,
    /// The client itself is refused (RFC 6749, 5.2 `invalid_client`).
    InvalidClient,
    /// Too many requests (RFC 6585, 429).
    RateLimited,
    /// The provider failed (5xx).
    ServerError,
    /// No connection came about: nothing was sent.
    Network,
    /// The request was sent, and its answer did not arrive.
    AnswerLost,
    /// An answer arrived that holds no token, or is not what the definition says.
    MalformedAnswer,
    /// `inputFields` or our configuration cannot make a request.
    Misconfigured,
    /// A stored secret cannot be opened.
    UnreadableSecret,
    /// The call would go, or was sent on, to where it must not.
    EgressBlocked,
    /// The database refuses the token, for example because it is longer than the column.
    UnstorableToken,
    /// Our code failed in the middle of a refresh.
    Panicked,
}

impl FailureClass {
    /// Every class, for labels and checks.
    pub const ALL: [Self; 13] = [
        Self::InvalidGrant,
        Self::InvalidCredentials,
        Self::InvalidClient,
        Self::RateLimited,
        Self::ServerError,
        Self::Network,
        Self::AnswerLost,
        Self::MalformedAnswer,
        Self::Misconfigured,
        Self::UnreadableSecret,
        Self::EgressBlocked,
        Self::UnstorableToken,
        Self::Panicked,
    ];

    /// The reverse of [`Self::as_str`]; `None` for a word that this version does not know.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == text)
    }

    /// As in the `failure_class` column, in logs and in labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::InvalidGrant => "invalid_grant",
            Self::InvalidCredentials => "invalid_credentials",
            Self::InvalidClient => "invalid_client",
            Self::RateLimited => "rate_limited",
            Self::ServerError => "server_error",
            Self::Network => "network",
            Self::AnswerLost => "answer_lost",
            Self::MalformedAnswer => "malformed_answer",
            Self::Misconfigured => "misconfigured",
            Self::UnreadableSecret => "unreadable_secret",
            Self::EgressBlocked => "egress_blocked",
            Self::UnstorableToken => "unstorable_token",
            Self::Panicked => "panicked",
        }
    }

    /// Whether an answer of the provider's can mean this; the others are what we find ourselves.
    pub fn is_answer(self) -> bool {
        match self {
            Self::InvalidGrant
            | Self::InvalidCredentials
            | Self::InvalidClient
            | Self::RateLimited
            | Self::ServerError
            | Self::MalformedAnswer
            | Self::Misconfigured => true,
            Self::Network
            | Self::AnswerLost
            | Self::UnreadableSecret
            | Self::EgressBlocked
            | Self::UnstorableToken
            | Self::Panicked => false,
        }
    }

    /// Whether the fault lies with the provider or the way to it, so that a token which dies meanwhile could not
    /// have been saved. An answer that is none (a page for people, with status 200) is the provider's fault as well.
    pub fn is_providers(self) -> bool {
        match self {
            Self::RateLimited
            | Self::ServerError
            | Self::Network
            | Self::AnswerLost
            | Self::MalformedAnswer => true,
            Self::InvalidGrant
            | Self::InvalidCredentials
            | Self::InvalidClient
            | Self::Misconfigured
            | Self::UnreadableSecret
            | Self::EgressBlocked
            | Self::UnstorableToken
            | Self::Panicked => false,
        }
    }
}

impl fmt::Display for FailureClass {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// A failed refresh. The detail is ours, never the provider's words: those may repeat a secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Its class.
    pub class: FailureClass,
    /// What failed and what to do, in a sentence for the person on call.
    pub detail: String,
    /// How long the provider asked us to wait.
    pub retry_after: Option<Duration>,
    /// Whether the provider may have acted on the call, so that a refresh token which is replaced on use may be spent.
    pub may_have_spent: bool,
}

impl Failure {
    /// A failure for which the provider named no waiting time.
    pub fn new(class: FailureClass, detail: impl Into<String>) -> Self {
        Self { class, detail: detail.into(), retry_after: None, may_have_spent: false }
    }

    /// A failure after which nobody knows whether the provider acted on the call.
    pub fn of_unknown_effect(class: FailureClass, detail: impl Into<String>) -> Self {
        Self { may_have_spent: true, ..Self::new(class, detail) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.class, self.detail)
    }
}
