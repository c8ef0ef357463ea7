//! Leave to call a provider: its breaker is closed, it has a slot for the call, and its rate allows one more.
//!
//! Who has to wait longer than about a second is told when to come back, so that nobody's wait blocks a slot of the pool.
//! No more than a part of the slots wait even for so long: a provider with a low rate and a long backlog would otherwise
//! hold up the messages of all the others.
//! In this order, because what is given back costs nothing, and a request that was counted in the rate is not given back.

mod backlog;
mod deferral;
mod gate;
#[cfg(test)]
mod tests;
mod waits;

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::domain::breaker::{Admission, BreakerPolicy, Evidence};
use freshet_shared::domain::failure::Failure;
use freshet_shared::domain::limits::{Gcra, Limits, Rate};
use freshet_shared::domain::provider::Provider;
use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::randomness::Randomness;
use freshet_shared::ports::rate_limiter::{RateLimiter, Taken};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{Instrument, debug_span, field};

pub use deferral::{Deferral, DeferralReason};
pub use waits::Waits;

use backlog::random_part;
use gate::{Gate, permits_of};

/// Who would have to wait longer is deferred.
const PATIENCE: Duration = Gcra::AHEAD;

/// Whoever comes later than this to its moment asks for another one.
const LATENESS: Duration = Duration::from_millis(250);

/// How permits are given.
#[derive(Debug, Clone, Copy)]
pub struct PermitSettings {
    /// The worker processes among which a provider's concurrency is divided.
    pub workers: NonZeroU32,
    /// How many jobs may wait for a permit at once, whatever for. The others are deferred without a wait.
    pub waiting: NonZeroU32,
    /// When a provider is left alone.
    pub breaker: BreakerPolicy,
    /// Over how long deferred jobs are spread at most, after the first of them may come back.
    pub longest_spread: TimeDelta,
    /// For how long a slot counts at most by which the next jobs are planned, whether its call stood still with its process or
    /// waited for a slow database: who comes back too early costs a message, who comes back too late a token.
    pub longest_call: Duration,
}

/// Gives permits. One for the whole process.
pub struct Permits {
    rate_limiter: Arc<dyn RateLimiter>,
    clock: Arc<dyn Clock>,
    randomness: Arc<dyn Randomness>,
    settings: PermitSettings,
    /// One for each job that may wait.
    seats: Semaphore,
    gates: Mutex<HashMap<String, Arc<Gate>>>,
    waits: OnceLock<Waits>,
}

impl Permits {
    /// Nothing is in flight, and every breaker is closed.
    pub fn new(
        rate_limiter: Arc<dyn RateLimiter>,
        clock: Arc<dyn Clock>,
        randomness: Arc<dyn Randomness>,
        settings: PermitSettings,
    ) -> Self {
        let seats = Semaphore::new(permits_of(settings.waiting));
        let (gates, waits) = (Mutex::default(), OnceLock::new());
        Self { rate_limiter, clock, randomness, settings, seats, gates, waits }
    }

    /// From now on all waits are counted there; whoever says so first decides.
    pub fn count_waits(&self, waits: Waits) {
        let _ = self.waits.set(waits);
    }

    /// Leave to make one call to `provider`, within its `limits`, which must be the same at each call. Waits for about a
    /// second at most.
    ///
    /// # Errors
    /// When the wait would be longer: until when the job is to be put off. That is no failure of its connection.
    pub async fn acquire(&self, provider: &Provider, limits: &Limits) -> Result<Permit, Deferral> {
        let span = debug_span!("permit", freshet.provider = provider.name(), freshet.reason = field::Empty);
        let asked = Instant::now();
        let acquired = self.acquire_within(provider, limits).instrument(span.clone()).await;
        if let Some(waits) = self.waits.get() {
            waits.note(provider.name(), asked.elapsed());
        }
        if let Err(deferral) = &acquired {
            span.record("freshet.reason", deferral.reason.as_str());
        }
        acquired
    }

    async fn acquire_within(&self, provider: &Provider, limits: &Limits) -> Result<Permit, Deferral> {
        let deadline = Instant::now() + PATIENCE;
        let gate = self.gate(provider.name(), limits);
        // Dropped on the way out of here, it lets the next one probe.
        let mut permit = self.admitted(gate.clone())?;
        permit.slot = self.slot(&gate, deadline).await?;
        if let Some(rate) = &limits.rate {
            self.take(&gate, rate, deadline).await?;
        }
        permit.begun = Some(Instant::now());
        Ok(permit)
    }

    /// Whether the provider is left alone by now, but for probes.
    pub fn is_open(&self, provider: &str) -> bool {
        let gate = self.gates.lock().unwrap_or_else(PoisonError::into_inner).get(provider).cloned();
        gate.is_some_and(|gate| gate.breaker().is_open())
    }

    fn admitted(&self, gate: Arc<Gate>) -> Result<Permit, Deferral> {
        let now = self.clock.now();
        let admitted = gate.breaker().admit(now);
        match admitted {
            Ok(admission) => {
                let clock = self.clock.clone();
                Ok(Permit { gate: gate.clone(), clock, admission: Some(admission), slot: None, begun: None })
            }
            Err(refusal) => {
                let earliest = refusal.until.max(now + PATIENCE);
                let until = gate.comes_back(earliest, now, &self.settings, self.randomness.next());
                Err(Deferral { until, reason: DeferralReason::BreakerOpen })
            }
        }
    }

    async fn slot(&self, gate: &Gate, deadline: Instant) -> Result<Option<OwnedSemaphorePermit>, Deferral> {
        let Some((slots, number)) = &gate.slots else { return Ok(None) };
        if let Ok(slot) = slots.clone().try_acquire_owned() {
            return Ok(Some(slot));
        }
        if let Ok(_seat) = self.seats.try_acquire()
            && let Ok(Ok(slot)) = timeout_at(deadline, slots.clone().acquire_owned()).await
        {
            return Ok(Some(slot));
        }
        // As the calls before took, so will those that come.
        let spacing = gate.call_takes().unwrap_or(PATIENCE) / number.get();
        let until = gate.queue_for_slots().plan(
            self.clock.now() + PATIENCE,
            spacing,
            self.settings.longest_spread,
            self.randomness.next(),
        );
        Err(Deferral { until, reason: DeferralReason::Concurrency })
    }

    async fn take(&self, gate: &Gate, rate: &Rate, deadline: Instant) -> Result<(), Deferral> {
        let provider = &gate.provider;
        let Taken::Refused(mut wait) = self.rate_limiter.take(provider, rate, Duration::ZERO).await else {
            return Ok(());
        };
        let left = || deadline.saturating_duration_since(Instant::now());
        if wait <= left()
            && let Ok(_seat) = self.seats.try_acquire()
        {
            loop {
                match self.rate_limiter.take(provider, rate, left()).await {
                    Taken::Granted(until_then) => {
                        let moment = Instant::now() + until_then;
                        sleep_until(moment).await;
                        // Those that waited in a process that stood still would all go out together.
                        if moment.elapsed() <= LATENESS {
                            return Ok(());
                        }
                    }
                    Taken::Refused(longer) => {
                        wait = longer;
                        break;
                    }
                }
            }
        }
        let until = self.comes_back(gate, rate, wait).await;
        Err(Deferral { until, reason: DeferralReason::RateLimited })
    }

    /// When a job comes back that the rate refused, at the earliest after `wait`: at its turn behind all that were given, so
    /// that what is put off comes back as the rate allows.
    async fn comes_back(&self, gate: &Gate, rate: &Rate, wait: Duration) -> DateTime<Utc> {
        let longest = self.settings.longest_spread;
        let turn =
            self.rate_limiter.turn(&gate.provider, rate, wait, longest.to_std().unwrap_or_default()).await;
        let (begins_in, spread) = turn.map_or((wait, longest), |turn| {
            (turn.begins_in, TimeDelta::from_std(turn.lasts).unwrap_or(longest))
        });
        // A moment of its own within its turn; anywhere, where the queue is too long.
        self.clock.now() + begins_in + random_part(spread, self.randomness.next())
    }

    fn gate(&self, provider: &str, limits: &Limits) -> Arc<Gate> {
        let mut gates = self.gates.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(gate) = gates.get(provider) {
            return gate.clone();
        }
        let gate = Arc::new(Gate::new(provider, limits, &self.settings));
        gates.insert(provider.to_owned(), gate.clone());
        gate
    }
}

/// Leave to make one call. Holds the provider's slot for it until it is told how the call ended, or dropped.
#[must_use = "make the call, and say how it ended"]
pub struct Permit {
    gate: Arc<Gate>,
    clock: Arc<dyn Clock>,
    /// `None` once the end was told.
    admission: Option<Admission>,
    slot: Option<OwnedSemaphorePermit>,
    /// Since when the call may be made.
    begun: Option<Instant>,
}

impl Permit {
    /// The provider granted what was asked for.
    pub fn succeeded(mut self) {
        self.report(Evidence::Serves);
    }

    /// The call failed. `is_client_shared`: as for [`Evidence::of`]. `true` if it fails for all, so that the failure says
    /// nothing about its connection.
    pub fn failed(mut self, failure: &Failure, is_client_shared: bool) -> bool {
        let evidence = Evidence::of(failure.class, is_client_shared, failure.retry_after);
        self.report(evidence);
        matches!(evidence, Evidence::Fails { .. }) && self.gate.breaker().is_open()
    }

    fn report(&mut self, evidence: Evidence) {
        if let Some(admission) = self.admission.take() {
            if let Some(begun) = self.begun.filter(|_| evidence != Evidence::Nothing) {
                self.gate.call_took(begun.elapsed());
            }
            self.gate.report(admission, evidence, self.clock.now());
        }
    }
}

impl Drop for Permit {
    /// Without a word on how the call ended it counts as neither.
    fn drop(&mut self) {
        self.report(Evidence::Nothing);
    }
}
