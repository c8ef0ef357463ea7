//! One call as the product makes it, without queue, database or cache: definition, request, HTTP, interpretation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::TimeDelta;
use freshet_shared::adapters::http::{HttpCaller, HttpSettings};
use freshet_shared::domain::connection::Grant;
use freshet_shared::domain::failure::Failure;
use freshet_shared::domain::input_fields::InputFields;
use freshet_shared::domain::provider::Provider;
use freshet_shared::domain::provider::catalogue::{CatalogueError, Providers};
use freshet_shared::domain::provider::environment::Spending;
use freshet_shared::domain::secret::Secret;
use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::provider::ProviderCaller;

/// The connecting takes no time on loopback, whatever the whole call may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);

/// A definition and everything that it needs to be called with.
pub struct DefinedCaller {
    provider: Arc<Provider>,
    caller: HttpCaller,
    input: InputFields,
    clock: Arc<dyn Clock>,
}

impl DefinedCaller {
    /// A caller of the definition in this text, with one connection's `inputFields`, the operator's list for each secret
    /// that the definition names, and so much time for a call.
    pub fn new(
        definition: &str,
        input: &serde_json::Value,
        secrets: &[&str],
        timeout: Duration,
        clock: Arc<dyn Clock>,
    ) -> Result<Self> {
        freshet_shared::process::install_crypto();
        let name = definition.lines().find_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
        let name = name.context("the definition has no name")?;
        let secrets: Vec<Secret> = secrets.iter().map(|secret| Secret::new(*secret)).collect();
        let providers = Providers::new(&[("model.toml".into(), definition.into())], &BTreeMap::new())?
            .with_secrets(|_, _| Ok::<_, CatalogueError>(Some(secrets.clone())))?;
        let settings = HttpSettings {
            connect_timeout: CONNECT_TIMEOUT,
            timeout,
            max_answer_bytes: 256 * 1024,
            user_agent: "freshet/test".into(),
            // The providers of tests speak http on loopback.
            allow: vec![
                "127.0.0.1".parse().map_err(|problem| anyhow::anyhow!("127.0.0.1 is no host: {problem}"))?,
            ],
        };
        let input = InputFields::parse(Some(&Secret::new(input.to_string())));
        Ok(Self {
            provider: providers.get(name).context("the definition is not in the catalogue")?.clone(),
            caller: HttpCaller::new(settings)?,
            input: input.map_err(|failure| anyhow::anyhow!("{failure}"))?,
            clock,
        })
    }

    /// How many of the operator's secrets may be tried in turn.
    pub fn secret_choices(&self) -> usize {
        self.provider.secret_choices()
    }

    /// One call that spends this refresh token, with the operator's secret at this place of its list. `observed` is how
    /// long the token before was said to live.
    ///
    /// # Errors
    /// The failure that a refresh would be stored with.
    pub async fn call(
        &self,
        refresh_token: Option<&str>,
        secret: usize,
        observed: Option<TimeDelta>,
    ) -> Result<Grant, Failure> {
        let refresh_token = refresh_token.map(Secret::new);
        let spending = Spending { refresh_token: refresh_token.as_ref(), secret, request_id: None };
        let request = self.provider.token_request(&self.input, spending)?;
        let sent_at = self.clock.now();
        let answer = self.caller.call(&request).await?;
        self.provider.interpret(&answer, sent_at, self.clock.now(), observed)
    }
}
