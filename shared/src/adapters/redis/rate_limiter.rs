//! Rates that all workers share, in Redis: one script per request, on the clock of Redis.
//!
//! While Redis does not answer, each worker keeps to its share of the rate ([`LocalShare`]), so that together they stay
//! below the whole. A Redis that comes back empty grants a whole burst anew, which nobody could have kept it from.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fred::types::Value;
use tokio::time::Instant;

use crate::domain::limits::Rate;
use crate::ports::rate_limiter::{RateLimiter, Taken};

use super::keys::Keys;
use super::link::Links;
use super::local_share::LocalShare;
use super::outage::Outage;
use super::problem::Problem;
use super::script::Script;

/// Keeps rates in Redis, on the connections of the cache.
pub struct RedisRateLimiter {
    links: Arc<Links>,
    keys: Keys,
    take: Script,
    outage: Outage,
    share: LocalShare,
}

impl RedisRateLimiter {
    pub(super) fn new(links: Arc<Links>, keys: Keys, workers: NonZeroU32) -> Self {
        // To wait for a connection, and then for the answer.
        let outage = Outage::new(links.patience() * 2);
        let take = Script::new(include_str!("rate.lua"));
        Self { links, keys, take, outage, share: LocalShare::new(workers) }
    }

    async fn ask(&self, provider: &str, rate: &Rate) -> Result<Taken, Problem> {
        let client = self.links.of_provider(provider).await?;
        let interval = i64::try_from(rate.interval().as_micros()).unwrap_or(i64::MAX);
        let arguments: Vec<Value> = vec![interval.into(), i64::from(rate.burst().get()).into()];
        let wait: i64 = self.take.answer(client, vec![self.keys.rate(provider)], arguments).await?;
        Ok(match u64::try_from(wait) {
            Ok(wait) if wait > 0 => Taken::Wait(Duration::from_micros(wait)),
            _ => Taken::Granted,
        })
    }
}

#[async_trait]
impl RateLimiter for RedisRateLimiter {
    async fn take(&self, provider: &str, rate: &Rate) -> Taken {
        if self.outage.may_ask(Instant::now()) {
            match self.ask(provider, rate).await {
                Ok(taken) => {
                    if self.outage.answered() {
                        tracing::info!("request rates are shared with the other workers again");
                    }
                    return taken;
                }
                Err(problem) => {
                    if self.outage.failed(Instant::now()) {
                        self.share.begin();
                        let error = problem.during("count a request");
                        tracing::warn!(%error, "until Redis answers, this worker keeps to its share of the request rates");
                    }
                }
            }
        }
        self.share.take(provider, rate)
    }
}
