//! The rate of requests to a provider, shared by everyone who calls it.

use async_trait::async_trait;

use crate::domain::limits::Rate;

pub use crate::domain::limits::Taken;

/// Keeps the rates.
#[async_trait]
pub trait RateLimiter: Send + Sync {
    /// Takes one request to `provider`, if `rate` allows it now. One that is refused consumes nothing, and says how long
    /// it would be until one is granted. It always answers: where the shared state is away, out of a share of our own.
    async fn take(&self, provider: &str, rate: &Rate) -> Taken;
}
