//! Providers are data: a definition file says what a token call looks like, the operator's settings say where.

pub mod answer;
pub mod catalogue;
pub mod definition;
pub mod egress;
pub mod environment;
#[cfg(test)]
mod examples;
pub mod request;
pub mod secrets;
pub mod template;

use chrono::TimeDelta;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

use definition::{Definition, Rotation};
use egress::HostPattern;
use secrets::{OperatorSecrets, SecretSources};

use crate::domain::limits::Limits;

/// What an operator may set for one provider: section `[providers.NAME]` of the configuration.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProviderSettings {
    /// The `channels.integrationType` of this provider; needed where the definition does not name one.
    pub integration_type: Option<String>,
    /// The environment of connections whose input does not choose one.
    pub environment: Option<String>,
    /// Values of environments: added to the definition's, or put in their place.
    pub environments: BTreeMap<String, BTreeMap<String, String>>,
    /// Life of a token in place of the definition's fixed one.
    #[serde(with = "humantime_serde::option")]
    pub token_lifetime: Option<std::time::Duration>,
    /// Host, with port if need be, of the platform's refresh-connection endpoint; without it the step is left out.
    pub refresh_connection_host: Option<String>,
    /// Where the secrets are that its definition names.
    pub secrets: BTreeMap<String, SecretSources>,
    /// Hosts beside those of the definition that its calls may go to, where an input is part of the host.
    pub allowed_hosts: Vec<HostPattern>,
    /// In place of the definition's limits, each by itself.
    pub limits: Limits,
}

/// A definition bound to the operator's settings.
#[derive(Debug, Clone)]
pub struct Provider {
    /// The file's content.
    pub definition: Definition,
    /// The rows of `channels` that are this provider's; `None`: it is not scanned.
    pub integration_type: Option<String>,
    /// In place of the definition's fixed lifetime.
    pub(crate) token_lifetime: Option<TimeDelta>,
    /// As configured, and as what may be called.
    pub(crate) refresh_connection_host: Option<(String, HostPattern)>,
    pub(crate) secrets: OperatorSecrets,
    pub(crate) allowed_hosts: Arc<[HostPattern]>,
    pub(crate) revision: String,
}

impl Provider {
    /// The name by which messages, settings and logs call it.
    pub fn name(&self) -> &str {
        &self.definition.name
    }

    /// The queue pool that it shares.
    pub fn pool(&self) -> &str {
        &self.definition.pool
    }

    /// How many of the operator's secrets may be tried in turn; 1 where there is nothing to choose.
    pub fn secret_choices(&self) -> usize {
        self.secrets.choices()
    }

    /// Whether the client that calls it is the operator's, and so the same for all its connections.
    pub fn is_client_shared(&self) -> bool {
        !self.definition.secrets.is_empty()
    }

    /// What a call spends.
    pub fn rotation(&self) -> Rotation {
        self.definition.rotation()
    }

    /// Tells whether definition or settings are other ones than before; secrets are no part of it.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// Whether using the refresh token makes it live longer: it is used in time even where no token has to be renewed.
    pub fn is_kept_alive_by_use(&self) -> bool {
        self.definition.refresh_token.as_ref().is_some_and(|refresh_token| {
            refresh_token.inactivity.is_some() || refresh_token.rotation.spends()
        })
    }

    /// How often, and how often at once, it may be called.
    pub fn limits(&self) -> &Limits {
        &self.definition.limits
    }

    /// Every operation for which the cache may hold a ready `Authorization` header.
    pub fn operations(&self) -> impl Iterator<Item = &str> {
        self.definition
            .authorizations
            .iter()
            .flat_map(|authorization| authorization.operations.iter().map(String::as_str))
    }
}
