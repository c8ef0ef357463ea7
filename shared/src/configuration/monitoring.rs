//! The section that says where probes and metrics are answered.

use std::time::Duration;

use serde::Deserialize;

use super::ConfigurationError;

/// `[monitoring]`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MonitoringSection {
    /// `host:port` to answer `/livez`, `/readyz` and `/metrics` on; unset: nowhere.
    #[serde(default)]
    pub listen: Option<String>,
    /// How often the producer counts the connections.
    #[serde(with = "humantime_serde")]
    pub census_every: Duration,
}

impl MonitoringSection {
    pub(super) fn check(&self) -> Result<(), ConfigurationError> {
        if self.census_every < Duration::from_secs(1) {
            return Err(ConfigurationError::Key("monitoring.census_every: must be at least 1s".into()));
        }
        let Some(listen) = &self.listen else { return Ok(()) };
        let is_address = listen.rsplit_once(':').is_some_and(|(host, port)| {
            let is_bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
            !host.is_empty() && !is_bare_ipv6 && port.parse::<u16>().is_ok()
        });
        if is_address {
            Ok(())
        } else {
            Err(Self::wrong("must be host:port, like 0.0.0.0:9464 or [::]:9464"))
        }
    }

    /// An error that names the key.
    pub fn wrong(problem: impl std::fmt::Display) -> ConfigurationError {
        ConfigurationError::Key(format!("monitoring.listen: {problem}"))
    }
}
