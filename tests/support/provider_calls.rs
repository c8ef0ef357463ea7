//! What the provider of the benchmarks tells of its calls.

use anyhow::{Context, Result};
use reqwest::Client;
use serde::{Deserialize, Serialize};

/// Path of [`Calls`]; `DELETE` forgets them.
pub const CALLS: &str = "/calls";
/// Path of the times of all calls, in microseconds since 1970.
pub const TIMES: &str = "/calls/times";

/// The calls so far.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Calls {
    /// How many.
    pub count: usize,
    /// When the last of them came, in microseconds since 1970.
    pub last_at: i64,
}

impl Calls {
    /// As JSON.
    pub fn encode(self) -> String {
        // A struct of two numbers always has a JSON form.
        serde_json::to_string(&self).unwrap_or_default()
    }
}

/// Asks a provider.
pub struct ProviderCalls {
    client: Client,
    base: String,
}

impl ProviderCalls {
    /// Of the provider at this address.
    pub fn of(address: &str) -> Result<Self> {
        let client = Client::builder().no_proxy().build().context("no HTTP client")?;
        Ok(Self { client, base: format!("http://{address}") })
    }

    /// The calls so far.
    pub async fn calls(&self) -> Result<Calls> {
        let answer = self.client.get(format!("{}{CALLS}", self.base)).send().await;
        let text = answer.context("the benchmarks' provider does not answer")?.text().await?;
        Ok(serde_json::from_str(&text)?)
    }

    /// When each call came, in microseconds since 1970.
    pub async fn times(&self) -> Result<Vec<i64>> {
        let answer = self.client.get(format!("{}{TIMES}", self.base)).send().await;
        let text = answer.context("the benchmarks' provider does not answer")?.text().await?;
        Ok(serde_json::from_str(&text)?)
    }

    /// Forgets them.
    pub async fn forget(&self) -> Result<()> {
        let answer = self.client.delete(format!("{}{CALLS}", self.base)).send().await;
        answer.context("the benchmarks' provider does not answer")?.error_for_status()?;
        Ok(())
    }
}
