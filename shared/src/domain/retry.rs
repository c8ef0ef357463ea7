//! When a connection whose refresh failed is tried again. One pure function; the row keeps the answer.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use thiserror::Error;

use super::connection::ConnectionState;
use super::failure::{Failure, FailureClass};

/// Exponential backoff with full jitter between two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    shortest: TimeDelta,
    longest: TimeDelta,
    recheck: TimeDelta,
}

/// Bounds that contradict each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum RetryPolicyError {
    /// No waiting time at all would hammer the provider.
    #[error("retry.shortest must be more than zero")]
    ZeroShortest,
    /// The upper bound lies below the lower one.
    #[error("retry.longest must not be below retry.shortest")]
    LongestBelowShortest,
    /// A time that no calendar holds.
    #[error("retry.shortest, retry.longest and retry.recheck must be below 10 years")]
    TooLong,
}

/// What becomes of a connection whose refresh failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryDecision {
    /// Not before this.
    pub next_attempt_at: DateTime<Utc>,
    /// The state it is left in.
    pub state: ConnectionState,
}

impl RetryPolicy {
    /// Waits between `shortest` and `longest`, doubling; a misconfigured connection is looked at again, without a
    /// call to the provider unless its input has changed for the better, every `recheck`.
    ///
    /// # Errors
    /// If the bounds contradict each other.
    pub fn new(shortest: Duration, longest: Duration, recheck: Duration) -> Result<Self, RetryPolicyError> {
        const TEN_YEARS: TimeDelta = TimeDelta::days(3_650);
        let convert = |duration| {
            TimeDelta::from_std(duration)
                .ok()
                .filter(|delta| *delta < TEN_YEARS)
                .ok_or(RetryPolicyError::TooLong)
        };
        let (shortest, longest, recheck) = (convert(shortest)?, convert(longest)?, convert(recheck)?);
        if shortest <= TimeDelta::zero() {
            return Err(RetryPolicyError::ZeroShortest);
        }
        if longest < shortest {
            return Err(RetryPolicyError::LongestBelowShortest);
        }
        Ok(Self { shortest, longest, recheck })
    }

    /// Decides after `failures` earlier failures in a row; `random` is any number, uniformly drawn.
    pub fn after(&self, failure: &Failure, failures: u32, now: DateTime<Utc>, random: u64) -> RetryDecision {
        let (ceiling, state) = match failure.class {
            FailureClass::Misconfigured => (self.recheck.max(self.shortest), ConnectionState::Misconfigured),
            FailureClass::InvalidGrant
            | FailureClass::InvalidCredentials
            | FailureClass::InvalidClient
            | FailureClass::RateLimited
            | FailureClass::ServerError
            | FailureClass::Network
            | FailureClass::AnswerLost
            | FailureClass::MalformedAnswer
            | FailureClass::UnreadableSecret
            | FailureClass::EgressBlocked
            | FailureClass::UnstorableToken => (self.ceiling(failures), ConnectionState::Active),
        };
        let mut delay = self.shortest + jitter(ceiling - self.shortest, random);
        if let Some(asked) = failure.retry_after.and_then(|asked| TimeDelta::from_std(asked).ok()) {
            // A provider may ask for a day by mistake; beyond our longest wait we ask again.
            delay = delay.max(asked.min(self.longest));
        }
        RetryDecision { next_attempt_at: now + delay, state }
    }

    fn ceiling(&self, failures: u32) -> TimeDelta {
        // 2^20 times the shortest wait is beyond every longest one; more would only overflow.
        let doubled = self.shortest.checked_mul(1 << failures.saturating_add(1).min(20));
        doubled.map_or(self.longest, |doubled| doubled.min(self.longest))
    }
}

/// A uniform share of `span`.
fn jitter(span: TimeDelta, random: u64) -> TimeDelta {
    let milliseconds = u64::try_from(span.num_milliseconds()).unwrap_or(0);
    let drawn = random.checked_rem(milliseconds.saturating_add(1)).unwrap_or(0);
    TimeDelta::milliseconds(i64::try_from(drawn).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy() -> RetryPolicy {
        RetryPolicy::new(Duration::from_secs(2), Duration::from_secs(300), Duration::from_secs(900)).unwrap()
    }

    #[test]
    fn bounds_that_contradict_are_refused() {
        let seconds = Duration::from_secs;
        let cases = [
            ((0, 5, 5), RetryPolicyError::ZeroShortest),
            ((5, 4, 5), RetryPolicyError::LongestBelowShortest),
            ((5, u64::MAX, 5), RetryPolicyError::TooLong),
        ];
        for ((shortest, longest, recheck), expected) in cases {
            let error = RetryPolicy::new(seconds(shortest), seconds(longest), seconds(recheck)).unwrap_err();
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn the_providers_own_waiting_time_is_honoured_and_clamped() {
        let now = DateTime::UNIX_EPOCH;
        let mut failure = Failure::new(FailureClass::RateLimited, "");
        failure.retry_after = Some(Duration::from_secs(100));
        assert_eq!(policy().after(&failure, 0, now, 0).next_attempt_at, now + TimeDelta::seconds(100));
        failure.retry_after = Some(Duration::from_secs(86_400));
        assert_eq!(policy().after(&failure, 0, now, 0).next_attempt_at, now + TimeDelta::seconds(300));
        failure.retry_after = Some(Duration::MAX);
        assert!(policy().after(&failure, 0, now, 0).next_attempt_at <= now + TimeDelta::seconds(300));
    }

    #[test]
    fn only_misconfiguration_changes_the_state() {
        for class in FailureClass::ALL {
            let decision = policy().after(&Failure::new(class, ""), 3, DateTime::UNIX_EPOCH, 1);
            let misconfigured = decision.state == ConnectionState::Misconfigured;
            assert_eq!(misconfigured, class == FailureClass::Misconfigured, "{class}");
        }
    }

    proptest! {
        #[test]
        fn the_wait_stays_inside_its_bounds(failures: u32, random: u64, index in 0..FailureClass::ALL.len()) {
            let class = FailureClass::ALL[index];
            let now = DateTime::UNIX_EPOCH;
            let wait = policy().after(&Failure::new(class, ""), failures, now, random).next_attempt_at - now;
            let longest = if class == FailureClass::Misconfigured { 900 } else { 300 };
            prop_assert!(wait >= TimeDelta::seconds(2) && wait <= TimeDelta::seconds(longest), "{wait}");
        }

        #[test]
        fn the_first_wait_is_short(random: u64) {
            let failure = Failure::new(FailureClass::ServerError, "");
            let now = DateTime::UNIX_EPOCH;
            prop_assert!(policy().after(&failure, 0, now, random).next_attempt_at <= now + TimeDelta::seconds(4));
        }
    }
}
