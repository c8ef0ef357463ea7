//! Fetching the operator's secrets from where the configuration says that they are.

use std::collections::{BTreeMap, HashMap};

use zeroize::Zeroizing;

use super::ConfigurationError;
use crate::domain::provider::ProviderSettings;
use crate::domain::provider::secrets::{SecretSource, SecretSources};
use crate::domain::secret::Secret;

/// Environment variables that hold secrets; only those that some key names. No `Debug`.
#[derive(Default)]
pub(super) struct Variables(BTreeMap<String, Secret>);

impl Variables {
    pub(super) fn named_by(
        providers: &BTreeMap<String, ProviderSettings>,
        environment: &HashMap<String, String>,
    ) -> Self {
        let sources =
            providers.values().flat_map(|settings| settings.secrets.values()).flat_map(|list| &list.0);
        let names = sources.filter_map(|source| match source {
            SecretSource::Variable(name) => Some(name),
            SecretSource::File(_) => None,
        });
        Self(
            names
                .filter_map(|name| Some((name.clone(), Secret::new(environment.get(name)?.as_str()))))
                .collect(),
        )
    }

    /// The secrets of one key, in order.
    pub(super) fn read(
        &self,
        provider: &str,
        key: &str,
        sources: &SecretSources,
    ) -> Result<Vec<Secret>, ConfigurationError> {
        let fail = |source: &SecretSource, problem: &str| {
            ConfigurationError::Key(format!("providers.{provider}.secrets.{key}: {source} {problem}"))
        };
        sources
            .0
            .iter()
            .map(|source| {
                let secret = match source {
                    SecretSource::Variable(name) => {
                        self.0.get(name).cloned().ok_or_else(|| fail(source, "is not set"))?
                    }
                    SecretSource::File(path) => {
                        let text = Zeroizing::new(
                            std::fs::read_to_string(path)
                                .map_err(|error| fail(source, &format!("cannot be read: {error}")))?,
                        );
                        Secret::new(text.trim_end_matches(['\r', '\n']))
                    }
                };
                if secret.is_empty() { Err(fail(source, "is empty")) } else { Ok(secret) }
            })
            .collect()
    }
}
