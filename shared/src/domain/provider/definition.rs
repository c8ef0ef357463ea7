//! The definition file: all that a provider needs, as data.

mod check;
mod lifetime;
pub mod place;
mod refresh_token;
mod request;
mod response;

use std::collections::BTreeMap;

use serde::Deserialize;
use thiserror::Error;

use super::egress::HostPattern;
use super::template::{Template, Variable};
use crate::domain::limits::Limits;

pub use lifetime::{Lifetime, Lifetimes};
pub use refresh_token::{RefreshToken, Rotation};
pub use request::{Basic, BasicEncoding, JsonTemplate, Method, Request};
pub use response::{FailureRule, Response, Success};

/// A provider's definition, as in its TOML file.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// The name by which messages, settings and logs call it: lower case, digits, `-`.
    pub name: String,
    /// What people call it.
    pub title: String,
    /// The public pages that say what the file says.
    #[serde(default)]
    pub documentation: Vec<String>,
    /// The `channels.integrationType` of its connections, where the platform's is known.
    #[serde(default)]
    pub integration_type: Option<String>,
    /// Its queue pool: providers in one pool share queues and hold each other back.
    #[serde(default = "shared_pool")]
    pub pool: String,
    /// The hosts that a token call may go to; needed where an input is part of the host. Otherwise those of the URL and
    /// of the environments.
    #[serde(default)]
    pub allowed_hosts: Vec<HostPattern>,
    /// How a connection's environment is chosen.
    #[serde(default)]
    pub environment: EnvironmentChoice,
    /// The environments, each with its values.
    #[serde(default = "one_environment")]
    pub environments: BTreeMap<String, BTreeMap<String, String>>,
    /// The members of `inputFields` that are used.
    #[serde(default)]
    pub inputs: Vec<Input>,
    /// Secrets that all connections share, for example an app's client secret.
    #[serde(default)]
    pub secrets: Vec<OperatorSecret>,
    /// The call that creates a token.
    pub token: Token,
    /// The refresh token that the call spends, where it spends one.
    #[serde(default)]
    pub refresh_token: Option<RefreshToken>,
    /// How often, and how often at once, it may be called.
    #[serde(default)]
    pub limits: Limits,
    /// The ready `Authorization` headers that the cache offers.
    #[serde(default)]
    pub authorizations: Vec<Authorization>,
    /// The platform's own endpoint that renews a channel, called in the urgent lane where its host is set.
    #[serde(default)]
    pub refresh_connection: Option<RefreshConnection>,
}

fn shared_pool() -> String {
    "shared".into()
}

fn one_environment() -> BTreeMap<String, BTreeMap<String, String>> {
    BTreeMap::from([(EnvironmentChoice::default().default, BTreeMap::new())])
}

/// How a connection's environment is chosen.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentChoice {
    /// The member of `inputFields` that chooses, if one does.
    #[serde(default)]
    pub choose_by: Option<String>,
    /// Which value of that member chooses which environment.
    #[serde(default)]
    pub choices: BTreeMap<String, String>,
    /// The environment where the member is missing.
    pub default: String,
}

impl Default for EnvironmentChoice {
    fn default() -> Self {
        Self { choose_by: None, choices: BTreeMap::new(), default: "production".into() }
    }
}

/// A member of `inputFields`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Its key.
    pub key: String,
    /// Its value where it is missing; without one it is required.
    #[serde(default)]
    pub default: Option<String>,
    /// The most characters that it may have.
    #[serde(default)]
    pub longest: Option<usize>,
    /// Whether it is a secret: encrypted at rest where that is switched on, and masked where a request is shown.
    #[serde(default)]
    pub secret: bool,
}

/// A secret that all connections share: `providers.NAME.secrets.KEY` of the settings says where it is.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OperatorSecret {
    /// Its key.
    pub key: String,
}

/// The call that creates a token.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Token {
    /// What is sent.
    pub request: Request,
    /// What comes back.
    pub response: Response,
}

/// One ready `Authorization` header.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authorization {
    /// The operations that it serves.
    pub operations: Vec<String>,
    /// Its value. With `{token}` it dies with the token, without it never.
    pub value: Template,
}

impl Authorization {
    /// Whether the header holds the token.
    pub fn uses_token(&self) -> bool {
        self.value.variables().any(|variable| *variable == Variable::Token)
    }
}

/// The platform's own endpoint that renews a channel.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RefreshConnection {
    /// Where it is; `{setting.refresh_connection_host}` is the operator's.
    pub url: Template,
}

/// A definition that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("provider definition {file}: {message}")]
pub struct DefinitionError {
    /// The file's name.
    pub file: String,
    /// Line, key and what is wrong.
    pub message: String,
}

impl Definition {
    /// Reads a definition file.
    ///
    /// # Errors
    /// With file, line and key of the first fault.
    pub fn parse(file: &str, text: &str) -> Result<Self, DefinitionError> {
        let fail = |message: String| DefinitionError { file: file.into(), message };
        let definition: Self = toml::from_str(text).map_err(|error| fail(error.to_string()))?;
        definition.check().map_err(|fault| {
            let (line, column) = place::line_and_column_of(&fault.key, text);
            fail(format!("line {line}, column {column}: {fault}"))
        })?;
        Ok(definition)
    }

    /// Whether what a merchant entered is part of the host that is called.
    pub fn is_host_made_of_inputs(&self) -> bool {
        let is_input = |variable: &Variable| {
            matches!(
                variable,
                Variable::Input(_) | Variable::Secret(_) | Variable::RefreshToken | Variable::RequestId
            )
        };
        self.token.request.url.host_variables().any(is_input)
    }

    /// Whether a call spends the refresh token, so that it must never be sent twice.
    pub fn rotation(&self) -> Rotation {
        self.refresh_token.as_ref().map_or(Rotation::None, |refresh_token| refresh_token.rotation)
    }
}

#[cfg(test)]
mod tests;
