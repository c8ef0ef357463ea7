//! When a connection whose refresh failed is tried again. One pure function; the row keeps the answer.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use thiserror::Error;

use super::connection::ConnectionState;
use super::failure::{Failure, FailureClass};
use super::provider::definition::Rotation;

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

/// Refusals of the grant in a row after which only the merchant can help. One alone may be a hiccup of the provider's, and
/// a merchant who is asked to authorise for nothing is worse than a few calls.
pub const GRANT_REFUSALS: u32 = 5;

/// What a failure is judged by, besides itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct History {
    /// Failures in a row before this one.
    pub failures: u32,
    /// Refusals of the grant in a row before this one.
    pub grant_failures: u32,
    /// What a call spends.
    pub rotation: Rotation,
    /// Since when nobody knows whether it is spent: the first call whose answer is lost was sent then.
    pub unknown_since: Option<DateTime<Utc>>,
}

/// Calls that are made at once after one whose answer was lost, inside the provider's leeway. More would hold the slot for
/// long; what comes later is a job of its own.
const REPEATED_AT_ONCE: u32 = 1;

/// Between writing a call down and sending it lies one round trip; more is a reason to look again.
pub const UNSENT_FOR: Duration = Duration::from_secs(2);
/// After so many looks that took longer the leeway itself is enough: a database that always takes its time would keep every
/// call from being sent.
const PROMPT_LOOKS: u32 = 3;

/// Where one job's calls stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Course {
    /// What a call spends.
    pub rotation: Rotation,
    /// Since when nobody knows whether it is spent.
    pub unknown_since: Option<DateTime<Utc>>,
    /// Secrets of the operator's that were not tried yet.
    pub secrets_left: usize,
    /// Calls that were repeated at once.
    pub repeated: u32,
}

/// Why the same job calls again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Again {
    /// An app's secret is being replaced: a client that is refused has spent nothing. Providers that do not tell a refused
    /// client from a refused merchant (a bare 401) are asked with the next one too.
    WithNextSecret,
    /// The answer is lost, and what may be spent may be presented again.
    InsideLeeway,
}

impl Course {
    /// Whether the job calls again at once after this failure, and why. Everything else waits on the row.
    pub fn again(&self, failure: &Failure, now: DateTime<Utc>) -> Option<Again> {
        let is_refusal =
            matches!(failure.class, FailureClass::InvalidClient | FailureClass::InvalidCredentials);
        if is_refusal && !failure.may_have_spent {
            return (self.secrets_left > 0).then_some(Again::WithNextSecret);
        }
        let may_repeat = failure.may_have_spent
            && self.rotation.spends()
            && self.repeated < REPEATED_AT_ONCE
            && self.unknown_since.is_some_and(|since| self.rotation.may_repeat(since, now));
        may_repeat.then_some(Again::InsideLeeway)
    }
}

/// What becomes of a connection whose refresh failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryDecision {
    /// Not before this.
    pub next_attempt_at: DateTime<Utc>,
    /// The state it is left in.
    pub state: ConnectionState,
    /// Refusals of the grant in a row by now.
    pub grant_failures: u32,
    /// Whether the call stays open: it may have spent the refresh token, and is repeated inside the leeway only.
    pub is_attempt_open: bool,
}

impl Rotation {
    /// Whether what was sent first at `sent_at`, and may be spent, may be presented again at `now`.
    pub fn may_repeat(self, sent_at: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        match self {
            Self::None => true,
            Self::Strict => false,
            Self::Leeway(_) => self.repeatable_until(sent_at).is_some_and(|until| now < until),
        }
    }

    /// Whether it may be presented again at `now` beside its first sender, who holds a lease until `leased_until`: inside a
    /// leeway that harms nobody, and a lease may outlive the leeway. Whose message comes again has most likely died with it;
    /// everybody else gives it half of the time.
    pub fn may_pass(
        self,
        sent_at: DateTime<Utc>,
        leased_until: DateTime<Utc>,
        is_redelivered: bool,
        now: DateTime<Utc>,
    ) -> bool {
        let Some(until) = self.repeatable_until(sent_at) else { return false };
        let is_late = leased_until >= until && now >= sent_at + (until - sent_at) / 2;
        now < until && (is_redelivered || is_late)
    }

    /// Whether a call may be sent after so many `looks` at what is written down of it, or has to be looked at once more: a
    /// process may stand still between look and call, and somebody else be faster inside the leeway, after which the token must
    /// not be presented. `took`: from before the last look until now. `since`: when the first call may have been sent
    /// that spent it, or, where none was, the begin of the last look, before which nobody else had written one down.
    pub fn may_be_sent(self, looks: u32, took: Duration, since: DateTime<Utc>, now: DateTime<Utc>) -> bool {
        match self {
            // Nobody else presents it.
            Self::None | Self::Strict => true,
            // A tenth is what is left for a call's way.
            Self::Leeway(leeway) => {
                let is_prompt = took < (leeway / 10).min(UNSENT_FOR) || looks >= PROMPT_LOOKS;
                is_prompt && self.may_repeat(since, now)
            }
        }
    }

    /// Until when it may be, where there is a leeway. The call takes its time to arrive: a tenth is left for that.
    pub fn repeatable_until(self, sent_at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let Self::Leeway(leeway) = self else { return None };
        TimeDelta::from_std(leeway).ok().and_then(|leeway| sent_at.checked_add_signed(leeway * 9 / 10))
    }

    /// `at`, or early enough to repeat a call of which nobody knows the answer.
    pub fn in_time(
        self,
        unknown_since: Option<DateTime<Utc>>,
        at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> DateTime<Utc> {
        match unknown_since.and_then(|since| Some((since, self.repeatable_until(since)?))) {
            // In the middle of what is left, so that there is time for one more.
            Some((_, until)) if until > now => at.min(now + (until - now) / 2),
            _ => at,
        }
    }
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

    /// When a connection that waits for a person is looked at again.
    pub fn recheck_at(&self, now: DateTime<Utc>, random: u64) -> DateTime<Utc> {
        now + self.shortest + jitter(self.recheck.max(self.shortest) - self.shortest, random)
    }

    /// Decides; `random` is any number, uniformly drawn.
    pub fn after(
        &self,
        failure: &Failure,
        history: &History,
        now: DateTime<Utc>,
        random: u64,
    ) -> RetryDecision {
        // What happened to an earlier call is not known better because this one met something else.
        let is_effect_unknown =
            history.rotation.spends() && (failure.may_have_spent || history.unknown_since.is_some());
        let grant_failures = match failure.class {
            FailureClass::InvalidGrant => history.grant_failures.saturating_add(1),
            _ => 0,
        };
        let state = match failure.class {
            // The provider does not know the leeway that it is said to have.
            FailureClass::InvalidGrant if is_effect_unknown => ConnectionState::Quarantined,
            _ if is_effect_unknown => {
                let since = history.unknown_since;
                let may_repeat = since.is_some_and(|since| history.rotation.may_repeat(since, now));
                if may_repeat { ConnectionState::Active } else { ConnectionState::Quarantined }
            }
            FailureClass::InvalidGrant if grant_failures >= GRANT_REFUSALS => ConnectionState::NeedsReauth,
            FailureClass::Misconfigured => ConnectionState::Misconfigured,
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
            | FailureClass::UnstorableToken
            | FailureClass::Panicked => ConnectionState::Active,
        };
        let is_attempt_open = is_effect_unknown && state == ConnectionState::Active;
        let next_attempt_at = match state {
            // Inside a leeway there is no time to lose.
            ConnectionState::Active if is_attempt_open && failure.may_have_spent => now,
            ConnectionState::Active => {
                let at = now + self.wait(failure, history.failures, random);
                if is_attempt_open { history.rotation.in_time(history.unknown_since, at, now) } else { at }
            }
            _ => self.recheck_at(now, random),
        };
        RetryDecision { next_attempt_at, state, grant_failures, is_attempt_open }
    }

    /// How long a connection waits that can be tried again.
    fn wait(&self, failure: &Failure, failures: u32, random: u64) -> TimeDelta {
        let own = jitter(self.ceiling(failures) - self.shortest, random);
        match failure.retry_after {
            None => self.shortest + own,
            // A provider may ask for a day by mistake; beyond our longest wait we ask again, spread over its last tenth.
            Some(asked) if TimeDelta::from_std(asked).is_ok_and(|asked| asked < self.longest) => {
                let asked = TimeDelta::from_std(asked).unwrap_or(self.longest);
                (asked.max(self.shortest) + own).min(self.longest)
            }
            Some(_) => (self.longest - jitter(self.longest / 10, random)).max(self.shortest),
        }
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

    fn history(failures: u32) -> History {
        History { failures, grant_failures: 0, rotation: Rotation::None, unknown_since: None }
    }

    #[test]
    fn the_providers_own_waiting_time_is_honoured_and_clamped() {
        let now = DateTime::UNIX_EPOCH;
        let mut failure = Failure::new(FailureClass::RateLimited, "");
        let mut waits = |asked| {
            failure.retry_after = Some(asked);
            (policy().after(&failure, &history(0), now, 0).next_attempt_at - now).num_seconds()
        };
        assert_eq!(waits(Duration::from_secs(100)), 100);
        assert_eq!(waits(Duration::from_secs(86_400)), 300);
        assert_eq!(waits(Duration::ZERO), 2);
        assert!(waits(Duration::MAX) <= 300);
    }

    #[test]
    fn each_class_leaves_its_state() {
        for class in FailureClass::ALL {
            let decision = policy().after(&Failure::new(class, ""), &history(3), DateTime::UNIX_EPOCH, 1);
            let misconfigured = decision.state == ConnectionState::Misconfigured;
            assert_eq!(misconfigured, class == FailureClass::Misconfigured, "{class}");
            assert!(misconfigured || decision.state == ConnectionState::Active, "{class}");
        }
    }

    #[test]
    fn only_five_refusals_of_the_grant_in_a_row_ask_the_merchant() {
        let refused = Failure::new(FailureClass::InvalidGrant, "");
        let after = |failure: &Failure, grant_failures| {
            let history = History { grant_failures, ..history(0) };
            policy().after(failure, &history, DateTime::UNIX_EPOCH, 0)
        };
        for grant_failures in 0..4 {
            let decision = after(&refused, grant_failures);
            assert_eq!(decision.state, ConnectionState::Active);
            assert_eq!(decision.grant_failures, grant_failures + 1);
        }
        assert_eq!(after(&refused, 4).state, ConnectionState::NeedsReauth);
        for class in FailureClass::ALL.into_iter().filter(|class| *class != FailureClass::InvalidGrant) {
            assert_eq!(after(&Failure::new(class, ""), 4).grant_failures, 0, "{class}");
        }
    }

    #[test]
    fn what_may_be_spent_is_presented_again_inside_the_leeway_only() {
        let lost = Failure::of_unknown_effect(FailureClass::AnswerLost, "");
        let at = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        let leeway = Rotation::Leeway(Duration::from_secs(60));
        let cases = [
            (Rotation::None, Some(at(0)), 1_000, ConnectionState::Active, false),
            (leeway, Some(at(0)), 50, ConnectionState::Active, true),
            (leeway, Some(at(0)), 55, ConnectionState::Quarantined, false),
            (leeway, None, 0, ConnectionState::Quarantined, false),
            (Rotation::Strict, Some(at(0)), 0, ConnectionState::Quarantined, false),
        ];
        for (rotation, unknown_since, now, state, is_attempt_open) in cases {
            let history = History { rotation, unknown_since, ..history(0) };
            let decision = policy().after(&lost, &history, at(now), 1);
            assert_eq!((decision.state, decision.is_attempt_open), (state, is_attempt_open), "{history:?}");
        }
        let known = Failure::new(FailureClass::ServerError, "");
        let answered = History { rotation: Rotation::Strict, ..history(0) };
        assert_eq!(policy().after(&known, &answered, at(1), 1).state, ConnectionState::Active);
        let unknown = History { rotation: leeway, unknown_since: Some(at(0)), ..history(0) };
        let decision = policy().after(&known, &unknown, at(1), 1);
        assert!(decision.is_attempt_open, "the call before this one is as unknown as ever");
        let refused = Failure::new(FailureClass::InvalidGrant, "");
        assert_eq!(policy().after(&refused, &unknown, at(1), 1).state, ConnectionState::Quarantined);
    }

    #[test]
    fn the_jitter_is_full_and_doubles_up_to_the_longest_wait() {
        let failure = Failure::new(FailureClass::ServerError, "");
        let now = DateTime::UNIX_EPOCH;
        for (failures, ceiling) in [(0, 4), (1, 8), (3, 32), (6, 256), (7, 300), (1_000, 300)] {
            let waits: Vec<_> = (0..400_000)
                .step_by(997)
                .map(|random| policy().after(&failure, &history(failures), now, random).next_attempt_at - now)
                .collect();
            let (shortest, longest) = (TimeDelta::seconds(2), TimeDelta::seconds(ceiling));
            assert!(waits.iter().all(|wait| *wait >= shortest && *wait <= longest), "{failures}");
            // Each tenth of the whole span is drawn about as often as any other.
            let tenth = (longest - shortest) / 10;
            for part in 0..10 {
                let from = shortest + tenth * part;
                let drawn = waits.iter().filter(|wait| **wait >= from && **wait < from + tenth).count();
                assert!(drawn >= waits.len() / 20, "{failures}: part {part} was drawn {drawn} times");
            }
        }
    }

    #[test]
    fn after_slow_looks_a_call_is_sent_inside_the_leeway_alone() {
        let at = |seconds| DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds);
        let (leeway, seconds) = (Rotation::Leeway(Duration::from_secs(60)), Duration::from_secs);
        let sent = |looks, took, now| leeway.may_be_sent(looks, seconds(took), at(0), at(now));
        assert!(sent(1, 1, 1));
        assert!(!sent(1, 2, 2) && !sent(2, 30, 30));
        assert!(sent(3, 30, 53));
        assert!(!sent(3, 54, 54) && !sent(9, 86, 86), "somebody else may have been faster");
        assert!(!sent(1, 1, 54), "what is left is for its way");
        assert!(!Rotation::Leeway(seconds(5)).may_be_sent(1, seconds(1), at(0), at(1)));
        for rotation in [Rotation::None, Rotation::Strict] {
            assert!(rotation.may_be_sent(1, seconds(86), at(0), at(86)));
        }
    }

    fn any_failure() -> impl Strategy<Value = Failure> {
        (0..FailureClass::ALL.len(), any::<bool>(), any::<Option<u64>>()).prop_map(
            |(index, may_have_spent, asked)| Failure {
                class: FailureClass::ALL[index],
                detail: String::new(),
                retry_after: asked.map(Duration::from_secs),
                may_have_spent,
            },
        )
    }

    fn any_history() -> impl Strategy<Value = History> {
        let rotation = prop_oneof![
            Just(Rotation::None),
            Just(Rotation::Strict),
            (1_u64..1_000).prop_map(|seconds| Rotation::Leeway(Duration::from_secs(seconds))),
        ];
        (any::<u32>(), any::<u32>(), rotation, any::<Option<u16>>()).prop_map(
            |(failures, grant_failures, rotation, sent)| History {
                failures,
                grant_failures,
                rotation,
                unknown_since: sent.map(|ago| DateTime::UNIX_EPOCH - TimeDelta::seconds(ago.into())),
            },
        )
    }

    proptest! {
        #[test]
        fn the_wait_stays_inside_its_bounds(failure in any_failure(), history in any_history(), random: u64) {
            let now = DateTime::UNIX_EPOCH;
            let decision = policy().after(&failure, &history, now, random);
            let wait = decision.next_attempt_at - now;
            let (shortest, longest) = match decision.state {
                _ if decision.is_attempt_open => (0, 300),
                ConnectionState::Active => (2, 300),
                _ => (2, 900),
            };
            prop_assert!(wait >= TimeDelta::seconds(shortest) && wait <= TimeDelta::seconds(longest), "{wait}");
        }

        #[test]
        fn a_strict_token_that_may_be_spent_is_never_presented_again(
            failure in any_failure(), history in any_history(), random: u64
        ) {
            let decision = policy().after(&failure, &history, DateTime::UNIX_EPOCH, random);
            if failure.may_have_spent && history.rotation == Rotation::Strict {
                prop_assert_eq!(decision.state, ConnectionState::Quarantined);
            }
            let unknown = failure.may_have_spent || history.unknown_since.is_some();
            prop_assert!(decision.state != ConnectionState::Quarantined || unknown);
        }

        #[test]
        fn a_merchant_is_asked_after_refusals_in_a_row_and_for_nothing_else(
            failure in any_failure(), history in any_history(), random: u64
        ) {
            let decision = policy().after(&failure, &history, DateTime::UNIX_EPOCH, random);
            let refused = failure.class == FailureClass::InvalidGrant;
            prop_assert_eq!(decision.grant_failures > 0, refused);
            if decision.state == ConnectionState::NeedsReauth {
                prop_assert!(refused && history.grant_failures >= GRANT_REFUSALS - 1);
            }
        }

        #[test]
        fn a_job_calls_again_for_a_reason_and_not_for_ever(
            failure in any_failure(), history in any_history(), secrets_left in 0_usize..3, repeated in 0_u32..3
        ) {
            let History { rotation, unknown_since, .. } = history;
            let course = Course { rotation, unknown_since, secrets_left, repeated };
            match course.again(&failure, DateTime::UNIX_EPOCH) {
                Some(Again::WithNextSecret) => {
                    prop_assert!(secrets_left > 0 && !failure.may_have_spent);
                    prop_assert!(matches!(
                        failure.class,
                        FailureClass::InvalidClient | FailureClass::InvalidCredentials
                    ));
                }
                Some(Again::InsideLeeway) => {
                    prop_assert!(failure.may_have_spent && repeated == 0);
                    let is_inside = unknown_since.is_some_and(|since| rotation.may_repeat(since, DateTime::UNIX_EPOCH));
                    prop_assert!(matches!(rotation, Rotation::Leeway(_)) && is_inside);
                }
                None => {}
            }
        }

        #[test]
        fn the_first_wait_is_short(random: u64) {
            let failure = Failure::new(FailureClass::ServerError, "");
            let now = DateTime::UNIX_EPOCH;
            let next = policy().after(&failure, &history(0), now, random).next_attempt_at;
            prop_assert!(next <= now + TimeDelta::seconds(4));
        }
    }
}
