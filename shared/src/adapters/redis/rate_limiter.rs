//! Rates that all workers share, in Redis: one script per request, on the clock of Redis.
//!
//! While Redis does not answer, each worker keeps to its share of the rate ([`LocalShare`]), so that together they stay
//! below the whole, also with what each promised for a moment at which Redis has gone or is back. A Redis that comes back empty grants a whole burst anew, which nobody could have kept it from.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use fred::types::Value;
use tokio::time::Instant;

use crate::domain::limits::{Gcra, Rate};
use crate::ports::rate_limiter::{RateLimiter, Taken, Turn};

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
    turn: Script,
    outage: Outage,
    share: LocalShare,
}

impl RedisRateLimiter {
    pub(super) fn new(links: Arc<Links>, keys: Keys, workers: NonZeroU32) -> Self {
        // To wait for a connection, and then for the answer.
        let outage = Outage::new(links.patience() * 2);
        let [take, turn] = [include_str!("rate.lua"), include_str!("turn.lua")].map(Script::new);
        Self { links, keys, take, turn, outage, share: LocalShare::new(workers) }
    }

    /// What Redis says; `None` while it is away.
    async fn shared<T>(&self, asking: impl Future<Output = Result<T, Problem>>) -> Option<T> {
        if !self.outage.may_ask(Instant::now()) {
            return None;
        }
        match asking.await {
            Ok(answer) => {
                if self.outage.answered() {
                    tracing::info!("request rates are shared with the other workers again");
                }
                Some(answer)
            }
            Err(problem) => {
                if self.outage.failed(Instant::now()) {
                    self.share.begin();
                    let error = problem.during("count a request");
                    tracing::warn!(%error, "until Redis answers, this worker keeps to its share of the request rates");
                }
                None
            }
        }
    }

    async fn ask(&self, provider: &str, rate: &Rate, patience: Duration) -> Result<Taken, Problem> {
        let link = self.links.of_provider(provider).await?;
        let patience = patience.min(Gcra::AHEAD);
        let numbers =
            [micros(rate.interval()), rate.burst().get().into(), micros(patience), micros(Gcra::AHEAD)];
        let arguments: Vec<Value> = numbers.into_iter().map(Value::from).collect();
        let wait: i64 = self.take.answer(link, vec![self.keys.rate(provider)], arguments).await?;
        let wait = Duration::from_micros(u64::try_from(wait).unwrap_or_default());
        Ok(if wait > patience { Taken::Refused(wait) } else { Taken::Granted(wait) })
    }

    async fn ask_for_turn(
        &self,
        provider: &str,
        rate: &Rate,
        earliest: Duration,
        longest: Duration,
    ) -> Result<Option<Turn>, Problem> {
        let link = self.links.of_provider(provider).await?;
        let lasts = rate.interval();
        let arguments: Vec<Value> =
            [earliest, lasts, longest].into_iter().map(|span| micros(span).into()).collect();
        let begins: i64 = self.turn.answer(link, vec![self.keys.turns(provider)], arguments).await?;
        // Less than nothing where the queue is too long.
        let begins_in = u64::try_from(begins).ok().map(Duration::from_micros);
        Ok(begins_in.map(|begins_in| Turn { begins_in, lasts }))
    }
}

/// No longer than a century, so that sums of a few are whole numbers to a script.
fn micros(span: Duration) -> i64 {
    const CENTURY: i64 = 100 * 366 * 24 * 3_600 * 1_000_000;
    i64::try_from(span.as_micros()).unwrap_or(CENTURY).min(CENTURY)
}

#[async_trait]
impl RateLimiter for RedisRateLimiter {
    async fn take(&self, provider: &str, rate: &Rate, patience: Duration) -> Taken {
        // What was promised while Redis was away goes out first: beside it the whole rate would be too much.
        if let Some(wait) = self.share.outstanding(provider).filter(|_| !self.outage.is_on()) {
            return Taken::Refused(wait);
        }
        let asked = Instant::now();
        let taken = self.shared(self.ask(provider, rate, patience)).await;
        taken.unwrap_or_else(|| self.share.take(provider, rate, patience.saturating_sub(asked.elapsed())))
    }

    async fn turn(&self, provider: &str, rate: &Rate, earliest: Duration, longest: Duration) -> Option<Turn> {
        let turn = self.shared(self.ask_for_turn(provider, rate, earliest, longest)).await;
        turn.unwrap_or_else(|| self.share.turn(provider, rate, earliest, longest))
    }
}
