//! What comes back from a token call.

use serde::Deserialize;
use serde_json::Value;

use super::lifetime::Lifetimes;
use crate::domain::failure::FailureClass;

/// What comes back. Places in the JSON answer are JSON pointers (RFC 6901).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// What the answer must say besides its status.
    #[serde(default)]
    pub success: Option<Success>,
    /// Where the token stands.
    pub access_token: String,
    /// How long it lives.
    pub lifetime: Lifetimes,
    /// Where an error code of RFC 6749, 5.2 stands.
    #[serde(default)]
    pub error: Option<String>,
    /// What the provider's own answers mean; the first that fits, before everything else.
    #[serde(default)]
    pub failures: Vec<FailureRule>,
}

/// A member that has to hold a value.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Success {
    /// Where it stands.
    pub pointer: String,
    /// What it has to be.
    pub equals: Value,
}

/// What one kind of answer means.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailureRule {
    /// Only answers of this status.
    #[serde(default)]
    pub status: Option<u16>,
    /// Only answers with one of the values here.
    #[serde(default)]
    pub pointer: Option<String>,
    /// The value.
    #[serde(default)]
    pub equals: Option<Value>,
    /// The values, where it is one of several.
    #[serde(default)]
    pub one_of: Vec<Value>,
    /// What it means.
    pub class: FailureClass,
}

impl FailureRule {
    /// Whether an answer is of this kind. `body` is `None` where it is not JSON.
    pub fn fits(&self, status: u16, body: Option<&Value>) -> bool {
        let is_status = self.status.is_none_or(|expected| expected == status);
        let is_value = self.pointer.as_ref().is_none_or(|pointer| {
            body.and_then(|body| body.pointer(pointer))
                .is_some_and(|found| self.equals.iter().chain(&self.one_of).any(|value| value == found))
        });
        is_status && is_value
    }
}
