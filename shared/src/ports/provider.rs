//! The call to a provider.

use async_trait::async_trait;
use thiserror::Error;

use crate::domain::failure::{Failure, FailureClass};
use crate::domain::provider::answer::ProviderAnswer;
use crate::domain::provider::request::ProviderRequest;

/// Sends requests to providers.
#[async_trait]
pub trait ProviderCaller: Send + Sync {
    /// Makes one attempt. Only a connection that did not come about may be tried again inside it; nothing that may have
    /// reached the provider is ever sent twice.
    ///
    /// # Errors
    /// When no complete answer arrived. An answer of any status is not an error here.
    async fn call(&self, request: &ProviderRequest) -> Result<ProviderAnswer, CallError>;
}

/// Why no complete answer arrived. Never holds the URL.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CallError {
    /// The request could not be made from what the connection and the definition say.
    #[error("the request to {endpoint} cannot be made: {problem}")]
    Unsendable {
        /// The URL's template.
        endpoint: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The request would go to where it must not. Nothing was sent.
    #[error("the request to {endpoint} is blocked: {problem}")]
    Blocked {
        /// The URL's template.
        endpoint: String,
        /// Which rule it breaks, and what to do.
        problem: &'static str,
    },
    /// Nothing was sent.
    #[error("no connection to {endpoint}: check the provider's host, DNS and our egress")]
    NotConnected {
        /// The URL's template.
        endpoint: String,
    },
    /// The request was sent, at least in part, and no complete answer came.
    #[error("the answer of {endpoint} did not arrive: {problem}")]
    AnswerLost {
        /// The URL's template.
        endpoint: String,
        /// What happened.
        problem: &'static str,
    },
    /// The answer is larger than any that holds a token.
    #[error("the answer of {endpoint} is larger than {limit} bytes")]
    TooLarge {
        /// The URL's template.
        endpoint: String,
        /// The limit in bytes.
        limit: usize,
    },
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        let detail = error.to_string();
        match error {
            CallError::Unsendable { .. } => Self::new(FailureClass::Misconfigured, detail),
            CallError::Blocked { .. } => Self::new(FailureClass::EgressBlocked, detail),
            CallError::NotConnected { .. } => Self::new(FailureClass::Network, detail),
            CallError::AnswerLost { .. } => Self::of_unknown_effect(FailureClass::AnswerLost, detail),
            CallError::TooLarge { .. } => Self::of_unknown_effect(FailureClass::MalformedAnswer, detail),
        }
    }
}
