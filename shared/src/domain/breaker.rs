//! The circuit breaker of one provider: while it does not serve, it is left alone, and one call at a time finds out
//! whether it is back.
//!
//! A small state machine of our own, because the crate `recloser` (1.4) cannot be used here: half open it lets every
//! call through until its ring is full, where one probe is wanted; its ring counts calls and not time, so that failures
//! of yesterday count today where calls are rare; it reads std's clock; and it judges the result of a future that it
//! wraps, where our call is judged later, by the class of its failure.

#[cfg(test)]
mod tests;
mod window;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use thiserror::Error;

use super::failure::FailureClass;
use window::Window;

/// One failure is no row.
const FEWEST_IN_A_ROW: u32 = 2;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerPolicy {
    share: f64,
    minimum: u32,
    window: TimeDelta,
    open_for: TimeDelta,
    longest: TimeDelta,
}

/// Settings that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum BreakerPolicyError {
    /// It would be open always or never.
    #[error("breaker.share must be more than 0 and at most 1")]
    Share,
    /// It would be open before the first call.
    #[error("breaker.minimum must be more than 0")]
    Minimum,
    /// Nothing would be counted, or what nobody remembers.
    #[error("breaker.window must be at least 1s and at most 1h")]
    Window,
    /// It would not be open, or for so long that tokens die.
    #[error("breaker.open_for must be at least 1s and at most 1h")]
    OpenFor,
}

impl BreakerPolicy {
    /// Opens when of the calls that ended in the last `window`, and these are `minimum` at least, `share` or more failed by
    /// the provider's fault; and when `minimum` calls in a row (two at least) did, however well it served before. A busy
    /// provider that hangs ends few calls, and a window full of good ones would hide them for almost all of its length. Stays
    /// open for `open_for`, or for as long as the provider asked for, up to `longest`.
    ///
    /// # Errors
    /// If one of them makes no sense.
    pub fn new(
        share: f64,
        minimum: u32,
        window: Duration,
        open_for: Duration,
        longest: Duration,
    ) -> Result<Self, BreakerPolicyError> {
        const HOUR: TimeDelta = TimeDelta::hours(1);
        let within = |duration, error| {
            let delta = TimeDelta::from_std(duration).ok();
            delta.filter(|delta| (TimeDelta::seconds(1)..=HOUR).contains(delta)).ok_or(error)
        };
        if !(share > 0.0 && share <= 1.0) {
            return Err(BreakerPolicyError::Share);
        }
        if minimum == 0 {
            return Err(BreakerPolicyError::Minimum);
        }
        let window = within(window, BreakerPolicyError::Window)?;
        let open_for = within(open_for, BreakerPolicyError::OpenFor)?;
        let longest = TimeDelta::from_std(longest).unwrap_or(HOUR).clamp(open_for, HOUR);
        Ok(Self { share, minimum, window, open_for, longest })
    }

    /// How long it stays open where the provider asks for nothing else.
    pub fn open_for(&self) -> TimeDelta {
        self.open_for
    }

    fn is_exceeded(&self, window: &Window) -> bool {
        let (failed, total) = window.counts();
        let is_share_reached = total >= self.minimum && f64::from(failed) / f64::from(total) >= self.share;
        is_share_reached || window.in_a_row() >= self.minimum.max(FEWEST_IN_A_ROW)
    }

    fn wait(&self, retry_after: Option<Duration>) -> TimeDelta {
        let asked = retry_after.map(|asked| TimeDelta::from_std(asked).unwrap_or(TimeDelta::MAX));
        asked.map_or(self.open_for, |asked| asked.clamp(self.open_for, self.longest))
    }
}

/// What a call says about its provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Evidence {
    /// It serves: it answered, whatever it thinks of this connection.
    Serves,
    /// It does not.
    Fails {
        /// How long it asked us to stay away.
        retry_after: Option<Duration>,
    },
    /// Nothing: there was no call, or nobody knows how it ended.
    Nothing,
}

impl Evidence {
    /// What a failure says. `is_client_shared`: the client that was called with is the operator's and serves all the
    /// provider's connections, so that its refusal is nobody's own.
    ///
    /// A 429 counts as a failure of the provider, and its `Retry-After` as the time to stay away, but only once there
    /// are enough of them: a request limit is often one merchant's, and the others must not wait for it. The connection
    /// that was answered 429 keeps to its waiting time either way.
    pub fn of(class: FailureClass, is_client_shared: bool, retry_after: Option<Duration>) -> Self {
        // Those of which nothing reached the provider, or that say where we went and not how it is.
        let is_ours = matches!(
            class,
            FailureClass::Misconfigured | FailureClass::UnreadableSecret | FailureClass::EgressBlocked
        );
        if class.is_providers() || is_client_shared && class == FailureClass::InvalidClient {
            Self::Fails { retry_after }
        } else if is_ours {
            Self::Nothing
        } else {
            Self::Serves
        }
    }
}

/// The right to make one call. Its result has to be reported, or a probe stays out for ever.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "report what became of the call"]
pub struct Admission {
    /// Of which state: what is reported after it has changed says nothing about the present one.
    era: u64,
}

/// No call may be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal {
    /// Not before this; in the past while a probe is out, whose end nobody knows.
    pub until: DateTime<Utc>,
}

/// What a report changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It opened, or opened again after its probe failed.
    Opened {
        /// For so long.
        wait: TimeDelta,
    },
    /// It closed: its probe was answered.
    Closed,
}

/// The breaker.
#[derive(Debug)]
pub struct Breaker {
    policy: BreakerPolicy,
    era: u64,
    state: State,
    /// Since when it is not closed.
    failing_since: Option<DateTime<Utc>>,
}

#[derive(Debug)]
enum State {
    Closed(Window),
    Open { since: DateTime<Utc>, wait: TimeDelta },
    HalfOpen { is_probing: bool },
}

impl Breaker {
    /// Closed, and nothing counted.
    pub fn new(policy: BreakerPolicy) -> Self {
        let state = State::Closed(Window::new(policy.window));
        Self { policy, era: 0, state, failing_since: None }
    }

    /// Whether the provider is left alone, but for probes.
    pub fn is_open(&self) -> bool {
        !matches!(self.state, State::Closed(_))
    }

    /// For how long the provider has been left alone by `now`, but for probes; zero while it is closed.
    pub fn failing_for(&self, now: DateTime<Utc>) -> TimeDelta {
        self.failing_since.map_or(TimeDelta::zero(), |since| (now - since).max(TimeDelta::zero()))
    }

    /// Asks to make a call at `now`.
    ///
    /// # Errors
    /// While it is open, or its one probe is out.
    pub fn admit(&mut self, now: DateTime<Utc>) -> Result<Admission, Refusal> {
        match &mut self.state {
            State::Closed(_) => {}
            State::Open { since, wait } => {
                // The clock may have gone back; what is left to wait is never longer than all of it.
                *since = now.min(*since);
                let until = *since + *wait;
                if now < until {
                    return Err(Refusal { until });
                }
                self.change(State::HalfOpen { is_probing: true });
            }
            State::HalfOpen { is_probing: true } => return Err(Refusal { until: now }),
            State::HalfOpen { is_probing } => *is_probing = true,
        }
        Ok(Admission { era: self.era })
    }

    /// Reports how a call ended.
    pub fn report(&mut self, admission: Admission, evidence: Evidence, now: DateTime<Utc>) -> Option<Change> {
        if admission.era != self.era {
            return None;
        }
        match (&mut self.state, evidence) {
            (State::HalfOpen { is_probing }, Evidence::Nothing) => *is_probing = false,
            (State::HalfOpen { .. }, Evidence::Serves) => {
                self.change(State::Closed(Window::new(self.policy.window)));
                self.failing_since = None;
                return Some(Change::Closed);
            }
            (State::HalfOpen { .. }, Evidence::Fails { retry_after }) => {
                return Some(self.open(retry_after, now));
            }
            (State::Closed(window), Evidence::Serves) => window.count(now, false),
            (State::Closed(window), Evidence::Fails { retry_after }) => {
                window.count(now, true);
                if self.policy.is_exceeded(window) {
                    return Some(self.open(retry_after, now));
                }
            }
            // Nobody is admitted while it is open.
            (State::Closed(_), Evidence::Nothing) | (State::Open { .. }, _) => {}
        }
        None
    }

    fn open(&mut self, retry_after: Option<Duration>, now: DateTime<Utc>) -> Change {
        let wait = self.policy.wait(retry_after);
        self.change(State::Open { since: now, wait });
        self.failing_since.get_or_insert(now);
        Change::Opened { wait }
    }

    fn change(&mut self, state: State) {
        self.era += 1;
        self.state = state;
    }
}
