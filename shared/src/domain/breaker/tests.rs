//! The breaker, by example and by property.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

const FAILS: Evidence = Evidence::Fails { retry_after: None };
const OPEN_FOR: i64 = 30;

fn at(milliseconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::milliseconds(milliseconds)
}

/// Half of at least `minimum` in a minute; open for 30 s, for 5 min at most.
fn policy(minimum: u32) -> BreakerPolicy {
    let seconds = Duration::from_secs;
    BreakerPolicy::new(0.5, minimum, seconds(60), seconds(30), seconds(300)).unwrap()
}

fn call(breaker: &mut Breaker, evidence: Evidence, milliseconds: i64) -> Option<Change> {
    let admission = breaker.admit(at(milliseconds)).unwrap();
    breaker.report(admission, evidence, at(milliseconds))
}

fn opened(seconds: i64) -> Option<Change> {
    Some(Change::Opened { wait: TimeDelta::seconds(seconds) })
}

/// A breaker that opened at 0.
fn open() -> Breaker {
    let mut breaker = Breaker::new(policy(1));
    assert_eq!(call(&mut breaker, FAILS, 0), opened(OPEN_FOR));
    breaker
}

#[test]
fn settings_that_make_no_sense_are_refused_by_their_key() {
    let seconds = Duration::from_secs;
    let cases = [
        ((0.0, 1, 60, 30), "breaker.share"),
        ((-0.5, 1, 60, 30), "breaker.share"),
        ((1.01, 1, 60, 30), "breaker.share"),
        ((f64::NAN, 1, 60, 30), "breaker.share"),
        ((0.5, 0, 60, 30), "breaker.minimum"),
        ((0.5, 1, 0, 30), "breaker.window"),
        ((0.5, 1, 3_601, 30), "breaker.window"),
        ((0.5, 1, u64::MAX, 30), "breaker.window"),
        ((0.5, 1, 60, 0), "breaker.open_for"),
        ((0.5, 1, 60, 3_601), "breaker.open_for"),
    ];
    for ((share, minimum, window, open_for), key) in cases {
        let error = BreakerPolicy::new(share, minimum, seconds(window), seconds(open_for), seconds(300));
        assert!(error.unwrap_err().to_string().starts_with(key), "{key}");
    }
    assert!(BreakerPolicy::new(1.0, 1, seconds(1), seconds(3_600), seconds(1)).is_ok());
}

#[test]
fn the_refusal_of_a_client_that_all_share_is_evidence_against_the_provider() {
    let of = |is_shared| Evidence::of(FailureClass::InvalidClient, is_shared, None);
    assert_eq!(of(true), Evidence::Fails { retry_after: None });
    assert_eq!(of(false), Evidence::Serves);
}

#[test]
fn every_class_of_failure_is_evidence_of_one_kind() {
    for class in FailureClass::ALL {
        let expected = match class {
            FailureClass::RateLimited
            | FailureClass::ServerError
            | FailureClass::Network
            | FailureClass::AnswerLost
            | FailureClass::MalformedAnswer => Evidence::Fails { retry_after: Some(Duration::from_secs(7)) },
            FailureClass::Misconfigured | FailureClass::UnreadableSecret | FailureClass::EgressBlocked => {
                Evidence::Nothing
            }
            _ => Evidence::Serves,
        };
        let of = |is_client_shared| Evidence::of(class, is_client_shared, Some(Duration::from_secs(7)));
        assert_eq!(of(false), expected, "{class}");
        if class != FailureClass::InvalidClient {
            assert_eq!(of(true), expected, "{class}");
        }
    }
}

#[test]
fn it_opens_on_the_share_of_failures_once_there_are_enough_calls() {
    let mut breaker = Breaker::new(policy(6));
    for _ in 0..3 {
        assert_eq!(call(&mut breaker, Evidence::Serves, 0), None);
    }
    assert_eq!(call(&mut breaker, FAILS, 0), None);
    assert_eq!(call(&mut breaker, Evidence::Nothing, 0), None, "counts as no call");
    assert_eq!(call(&mut breaker, FAILS, 0), None, "two of five");
    assert_eq!(call(&mut breaker, FAILS, 0), opened(OPEN_FOR), "three of six");
    assert_eq!(breaker.admit(at(0)), Err(Refusal { until: at(OPEN_FOR * 1_000) }));
    assert_eq!(breaker.admit(at(OPEN_FOR * 1_000 - 1)), Err(Refusal { until: at(OPEN_FOR * 1_000) }));
}

#[test]
fn failures_that_lie_before_the_window_do_not_count() {
    let mut breaker = Breaker::new(policy(3));
    assert_eq!(call(&mut breaker, FAILS, 0), None);
    assert_eq!(call(&mut breaker, FAILS, 1_000), None);
    assert_eq!(call(&mut breaker, FAILS, 61_000), None, "the others are forgotten");
    assert_eq!(call(&mut breaker, FAILS, 90_000), None);
    assert_eq!(call(&mut breaker, FAILS, 110_000), opened(OPEN_FOR), "three within a minute");
}

#[test]
fn failures_in_a_row_open_it_however_well_it_served_before() {
    let mut breaker = Breaker::new(policy(3));
    for _ in 0..1_000 {
        assert_eq!(call(&mut breaker, Evidence::Serves, 0), None);
    }
    assert_eq!(call(&mut breaker, FAILS, 1_000), None);
    assert_eq!(call(&mut breaker, FAILS, 1_000), None);
    assert_eq!(call(&mut breaker, Evidence::Serves, 1_000), None, "it serves after all");
    assert_eq!(call(&mut breaker, FAILS, 2_000), None);
    assert_eq!(call(&mut breaker, Evidence::Nothing, 2_000), None, "says nothing");
    assert_eq!(call(&mut breaker, FAILS, 2_000), None);
    assert_eq!(call(&mut breaker, FAILS, 2_000), opened(OPEN_FOR), "three in a row");
}

#[test]
fn a_row_of_failures_ends_where_nobody_called_for_a_window() {
    let mut breaker = Breaker::new(policy(2));
    for minute in 0..10 {
        assert_eq!(call(&mut breaker, FAILS, minute * 61_000), None, "one in a minute");
    }
}

#[test]
fn one_probe_at_a_time_closes_it_or_opens_it_again() {
    let mut breaker = open();
    let now = OPEN_FOR * 1_000;
    let probe = breaker.admit(at(now)).unwrap();
    assert_eq!(breaker.admit(at(now)), Err(Refusal { until: at(now) }), "one is out");
    assert_eq!(breaker.report(probe, FAILS, at(now + 500)), opened(OPEN_FOR));
    assert_eq!(breaker.admit(at(now + 1_000)), Err(Refusal { until: at(2 * now + 500) }));
    let probe = breaker.admit(at(2 * now + 500)).unwrap();
    assert_eq!(breaker.report(probe, Evidence::Serves, at(2 * now + 600)), Some(Change::Closed));
    assert_eq!(call(&mut breaker, Evidence::Serves, 2 * now + 600), None);
    assert_eq!(call(&mut breaker, Evidence::Serves, 2 * now + 600), None);
    assert_eq!(call(&mut breaker, FAILS, 2 * now + 600), None, "it begins to count anew");
}

#[test]
fn it_knows_for_how_long_the_provider_has_failed_over_all_its_probes() {
    let mut breaker = open();
    let failing_for =
        |breaker: &Breaker, seconds: i64| breaker.failing_for(at(seconds * 1_000)).num_seconds();
    assert_eq!(failing_for(&breaker, 20), 20);
    assert_eq!(call(&mut breaker, FAILS, 30_000), opened(OPEN_FOR));
    assert_eq!(failing_for(&breaker, 50), 50);
    assert_eq!(failing_for(&breaker, -10), 0, "the clock went back");
    assert_eq!(call(&mut breaker, Evidence::Serves, 60_000), Some(Change::Closed));
    assert_eq!(failing_for(&breaker, 61), 0);
}

#[test]
fn a_probe_that_says_nothing_makes_way_for_the_next_one() {
    let mut breaker = open();
    let now = OPEN_FOR * 1_000;
    assert_eq!(call(&mut breaker, Evidence::Nothing, now), None);
    assert_eq!(call(&mut breaker, Evidence::Serves, now), Some(Change::Closed));
}

#[test]
fn what_was_sent_before_it_opened_neither_closes_it_nor_holds_it_open() {
    let mut breaker = Breaker::new(policy(1));
    let late: Vec<Admission> = (0..3).map(|_| breaker.admit(at(0)).unwrap()).collect();
    let [well, badly, during] = <[Admission; 3]>::try_from(late).unwrap();
    assert_eq!(call(&mut breaker, FAILS, 0), opened(OPEN_FOR));
    assert_eq!(breaker.report(well, Evidence::Serves, at(1)), None);
    assert_eq!(breaker.report(badly, FAILS, at(1)), None);
    assert!(breaker.admit(at(2)).is_err());
    let probe = breaker.admit(at(OPEN_FOR * 1_000)).unwrap();
    assert_eq!(breaker.report(during, Evidence::Nothing, at(OPEN_FOR * 1_000)), None);
    assert!(breaker.admit(at(OPEN_FOR * 1_000)).is_err(), "the probe is still out");
    assert_eq!(breaker.report(probe, Evidence::Serves, at(OPEN_FOR * 1_000)), Some(Change::Closed));
}

#[test]
fn the_provider_says_how_long_it_wants_to_be_left_alone_within_bounds() {
    for (asked, wait) in [(1, 30), (100, 100), (300, 300), (86_400, 300), (u64::MAX, 300)] {
        let mut breaker = Breaker::new(policy(1));
        let fails = Evidence::Fails { retry_after: Some(Duration::from_secs(asked)) };
        assert_eq!(call(&mut breaker, fails, 0), opened(wait), "{asked} s");
    }
}

#[test]
fn a_clock_that_goes_back_an_hour_does_not_keep_it_open_for_an_hour() {
    let mut breaker = open();
    let back = -3_600_000;
    assert_eq!(breaker.admit(at(back)), Err(Refusal { until: at(back + OPEN_FOR * 1_000) }));
    assert!(breaker.admit(at(back + OPEN_FOR * 1_000)).is_ok());
}

/// What may happen to a breaker.
#[derive(Debug, Clone)]
enum Step {
    Pass(i64),
    Ask,
    /// One of the calls that are out ends.
    End(usize, Evidence),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let evidence = prop_oneof![3 => Just(Evidence::Serves), 4 => Just(FAILS), 1 => Just(Evidence::Nothing)];
    let step = prop_oneof![
        1 => (0..40_000_i64).prop_map(Step::Pass),
        3 => Just(Step::Ask),
        3 => (any::<usize>(), evidence).prop_map(|(index, evidence)| Step::End(index, evidence)),
    ];
    vec(step, 0..300)
}

proptest! {
    #[test]
    fn while_it_is_open_nobody_calls_and_then_one_at_a_time(steps in steps(), minimum in 1..6_u32) {
        let mut breaker = Breaker::new(policy(minimum));
        let (mut now, mut out) = (0, Vec::new());
        // When the last opening ends, and how many were admitted since; `None` while it is closed.
        let mut open: Option<(i64, u32)> = None;
        for step in steps {
            match step {
                Step::Pass(milliseconds) => now += milliseconds,
                Step::Ask => match (breaker.admit(at(now)), &mut open) {
                    (Ok(admission), open) => {
                        if let Some((until, probes)) = open {
                            prop_assert!(now >= *until, "admitted while open");
                            *probes += 1;
                            prop_assert_eq!(*probes, 1, "a second probe");
                        }
                        out.push((admission, open.is_some()));
                    }
                    (Err(_), None) => return Err(TestCaseError::fail("refused while closed")),
                    (Err(refusal), Some((until, probes))) => {
                        let until = if *probes == 0 { *until } else { now };
                        prop_assert_eq!(refusal.until, at(until));
                    }
                },
                Step::End(index, evidence) => {
                    if out.is_empty() {
                        continue;
                    }
                    let (admission, is_probe) = out.swap_remove(index % out.len());
                    match breaker.report(admission, evidence, at(now)) {
                        Some(Change::Opened { .. }) => open = Some((now + OPEN_FOR * 1_000, 0)),
                        Some(Change::Closed) => {
                            prop_assert!(is_probe && evidence == Evidence::Serves);
                            open = None;
                        }
                        None if is_probe && evidence == Evidence::Nothing => {
                            if let Some((_, probes)) = &mut open {
                                *probes = 0;
                            }
                        }
                        None => prop_assert!(!is_probe, "a probe's result changes something"),
                    }
                }
            }
        }
    }

    #[test]
    fn it_opens_exactly_when_the_share_is_reached_or_enough_fail_in_a_row(
        results in vec(any::<bool>(), 1..200),
        percent in 1..=100_u32,
        minimum in 1..50_u32,
    ) {
        let (share, minute) = (f64::from(percent) / 100.0, Duration::from_secs(60));
        let policy = BreakerPolicy::new(share, minimum, minute, minute, minute).unwrap();
        let mut breaker = Breaker::new(policy);
        let (mut failed, mut total, mut in_a_row) = (0, 0, 0);
        for has_failed in results {
            let evidence = if has_failed { FAILS } else { Evidence::Serves };
            failed += u32::from(has_failed);
            total += 1;
            in_a_row = if has_failed { in_a_row + 1 } else { 0 };
            let is_reached = in_a_row >= minimum.max(2) || total >= minimum && failed * 100 >= percent * total;
            let change = call(&mut breaker, evidence, 0);
            // A call that went well lowers the share, so only failures open it.
            prop_assert_eq!(change.is_some(), has_failed && is_reached, "{} of {}", failed, total);
            if change.is_some() {
                break;
            }
        }
    }
}
