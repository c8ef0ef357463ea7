//! A connection of the model provider's, and the one call that a case is about.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use freshet_shared::adapters::system::SystemClock;
use freshet_shared::domain::connection::Grant;
use freshet_shared::domain::failure::Failure;
use freshet_tests::model_provider::{
    DefinedCaller, DefinitionOptions, Fault, Grant as GrantKind, LedgerEntry, ModelProvider, Rotation,
    Settings,
};
use serde_json::json;

pub(super) const ACCOUNT: &str = "shop";
/// Both need encoding wherever they stand.
pub(super) const CLIENT: &str = "platform & shops";
pub(super) const SECRET: &str = "c4n4ry&%+=/secret:of the client";

/// For a call that is to come to its end, on a machine that does everything at once.
pub(super) const PATIENT: Duration = Duration::from_secs(60);
/// For one that is not.
pub(super) const IMPATIENT: Duration = Duration::from_secs(2);

/// What one call came to.
pub(super) struct Exchange {
    pub(super) result: Result<Grant, Failure>,
    /// The only request that arrived, if one did.
    pub(super) entry: Option<LedgerEntry>,
    pub(super) model: ModelProvider,
    /// Every text that must not be told.
    secrets: Vec<String>,
}

impl Exchange {
    /// One call that meets a fault, on a connection with a refresh token of this kind.
    pub(super) async fn meet(fault: Fault, rotation: Rotation, timeout: Duration) -> Result<Self> {
        Self::with(fault, rotation, timeout, |definition| definition).await
    }

    /// The same with another definition than the model's own.
    pub(super) async fn with(
        fault: Fault,
        rotation: Rotation,
        timeout: Duration,
        change: impl FnOnce(String) -> String,
    ) -> Result<Self> {
        let model = ModelProvider::start(Settings::new(rotation)).await?;
        model.set_client_secrets(CLIENT, &[SECRET]);
        let refresh_token = model.authorise(ACCOUNT, CLIENT);
        model.script(ACCOUNT, [fault]);
        let definition =
            change(model.definition(&DefinitionOptions::new("model", GrantKind::RefreshToken(rotation))));
        let input = json!({"client_id": CLIENT, "client_secret": SECRET});
        let caller = DefinedCaller::new(&definition, &input, &[], timeout, Arc::new(SystemClock))?;
        let result = caller.call(Some(&refresh_token), 0, None).await;
        let mut ledger = model.ledger();
        anyhow::ensure!(ledger.len() <= 1, "one call is one request: {ledger:?}");
        let mut secrets = vec![refresh_token, CLIENT.to_owned(), SECRET.to_owned()];
        secrets.extend(model.refresh_token(ACCOUNT));
        secrets.extend(model.access_tokens(ACCOUNT));
        Ok(Self { result, entry: ledger.pop(), model, secrets })
    }

    /// The failure, which must be one and must not tell a secret.
    pub(super) fn failure(&self, name: &str) -> Result<&Failure> {
        let failure = self.result.as_ref().err().with_context(|| format!("{name}: there is a grant"))?;
        for text in [failure.to_string(), format!("{failure:?}")] {
            for secret in &self.secrets {
                for hidden in spellings(secret) {
                    anyhow::ensure!(!text.contains(&hidden), "{name}: {text} tells {hidden}");
                }
            }
        }
        Ok(failure)
    }

    /// The grant, which must be one.
    pub(super) fn grant(&self, name: &str) -> Result<&Grant> {
        self.result.as_ref().map_err(|failure| anyhow::anyhow!("{name}: {failure}"))
    }
}

/// A secret as it is and as it goes over the wire.
fn spellings(secret: &str) -> [String; 3] {
    use base64::Engine;
    let percent =
        percent_encoding::utf8_percent_encode(secret, percent_encoding::NON_ALPHANUMERIC).to_string();
    [secret.to_owned(), percent, base64::engine::general_purpose::STANDARD.encode(secret)]
}
