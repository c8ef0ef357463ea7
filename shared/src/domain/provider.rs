//! Providers are data: a definition file says what a token call looks like, the operator's settings say where.

pub mod answer;
pub mod catalogue;
pub mod definition;
pub mod egress;
pub mod environment;
#[cfg(test)]
mod examples;
pub mod request;
pub mod request_id;
pub mod secrets;
pub mod template;

use chrono::TimeDelta;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::sync::Arc;

use definition::{Definition, Lifetime, Rotation};
use egress::HostPattern;
use secrets::{OperatorSecrets, SecretSources};

use crate::domain::limits::Limits;
use crate::domain::watch::Watch;

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
    pub(crate) wants_request_id: bool,
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

    /// Whether each call needs an id of its own.
    pub fn wants_request_id(&self) -> bool {
        self.wants_request_id
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

    /// What has to be watched of its refresh tokens; `None` where nothing says that they die.
    pub fn watch(&self) -> Option<Watch> {
        let refresh_token = self.definition.refresh_token.as_ref()?;
        let sources = refresh_token.lifetime.as_ref().map_or(&[][..], |sources| &sources.0);
        let fixed = sources.iter().filter_map(|source| match source {
            Lifetime::Fixed(fixed) => Some(*fixed),
            _ => None,
        });
        let life = fixed.chain(refresh_token.inactivity).min();
        let is_said_by_answer = sources.iter().any(|source| source.pointer().is_some());
        (life.is_some() || is_said_by_answer).then(|| Watch {
            life: life.and_then(|life| TimeDelta::from_std(life).ok()),
            is_said_by_answer,
            is_renewed_by_use: self.is_kept_alive_by_use(),
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
