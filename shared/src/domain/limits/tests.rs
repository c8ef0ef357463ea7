//! What a rate takes, and what GCRA grants: by example, by property, and against governor.

use chrono::{DateTime, TimeDelta};
use governor::clock::FakeRelativeClock;
use governor::{Quota, RateLimiter};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

fn parse(text: &str) -> Result<Limits, String> {
    toml::from_str(text).map_err(|error| error.to_string())
}

fn rate(requests: u32, per: Duration, burst: u32) -> Rate {
    Rate::new(requests, per, burst).unwrap()
}

/// A manual clock's hand, in microseconds after 1970.
fn at(microseconds: i64) -> DateTime<chrono::Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::microseconds(microseconds)
}

/// Who does not wait.
const NOW: Duration = Duration::ZERO;

fn workers(number: u32) -> NonZeroU32 {
    NonZeroU32::new(number).unwrap()
}

#[test]
fn limits_are_read_with_their_defaults() {
    assert_eq!(parse(""), Ok(Limits::default()));
    let limits = parse("rate = { requests = 2, per = '1s', burst = 10 }\nconcurrency = 16").unwrap();
    assert_eq!(limits.rate, Some(rate(2, Duration::from_secs(1), 10)));
    assert_eq!(limits.concurrency, NonZeroU32::new(16));
    let limits = parse("rate = { requests = 1000, per = '1h' }").unwrap();
    assert_eq!(limits.rate, Some(rate(1_000, Duration::from_secs(3_600), 1)));
    assert_eq!(limits.concurrency, None);
}

#[test]
fn limits_that_cannot_be_kept_are_refused_with_the_reason() {
    let cases = [
        ("rate = { requests = 0, per = '1s' }", "requests must be more than 0"),
        ("rate = { requests = 2, per = '0s' }", "per must be more than 0s"),
        ("rate = { requests = 2, per = '1s', burst = 0 }", "burst must be more than 0"),
        ("rate = { requests = 2000001, per = '2s' }", "one in a microsecond"),
        ("rate = { requests = 1, per = '32 days' }", "more than 31 days"),
        ("rate = { requests = 1, per = '1h', burst = 745 }", "more than 31 days"),
        ("rate = { requests = 1, per = '1s', burst = 4294967295 }", "more than 31 days"),
        ("rate = { requests = 2 }", "per"),
        ("rate = { requests = 2, per = 1 }", "per"),
        ("rate = { requests = -2, per = '1s' }", "requests"),
        ("rate = { requests = 2, per = '1s', bust = 3 }", "bust"),
        ("rate = 2", "rate"),
        ("concurrency = 0", "leave it out"),
        ("concurrency = 'many'", "concurrency"),
        ("concurency = 3", "concurency"),
    ];
    for (text, reason) in cases {
        let error = parse(text).unwrap_err();
        assert!(error.contains(reason), "{text}: {error}");
    }
}

#[test]
fn the_operator_wins_key_by_key() {
    let defined = parse("rate = { requests = 2, per = '1s' }\nconcurrency = 16").unwrap();
    assert_eq!(Limits::default().or(defined), defined);
    let set = parse("concurrency = 3").unwrap().or(defined);
    assert_eq!((set.rate, set.concurrency), (defined.rate, NonZeroU32::new(3)));
}

#[test]
fn a_share_is_a_workers_part_and_at_least_one_request() {
    let whole = rate(10, Duration::from_secs(1), 8);
    for (number, interval, burst) in [(1, 100, 8), (3, 300, 2), (4, 400, 2), (9, 900, 1), (1_000, 100_000, 1)]
    {
        let share = whole.share(workers(number));
        assert_eq!(
            (share.interval(), share.burst().get()),
            (Duration::from_millis(interval), burst),
            "{number}"
        );
    }
}

#[test]
fn a_burst_goes_out_at_once_and_then_one_each_interval() {
    let rate = rate(2, Duration::from_secs(1), 3);
    let mut limit = Gcra::default();
    let takes = [
        (0, Taken::Granted(NOW)),
        (0, Taken::Granted(NOW)),
        (0, Taken::Granted(NOW)),
        (0, Taken::Refused(Duration::from_millis(500))),
        (499_999, Taken::Refused(Duration::from_micros(1))),
        (500_000, Taken::Granted(NOW)),
        (500_000, Taken::Refused(Duration::from_millis(500))),
        // Two are saved up by now, and three after a silence, however long.
        (1_500_000, Taken::Granted(NOW)),
        (1_500_000, Taken::Granted(NOW)),
        (1_500_000, Taken::Refused(Duration::from_millis(500))),
        (90_000_000, Taken::Granted(NOW)),
        (90_000_000, Taken::Granted(NOW)),
        (90_000_000, Taken::Granted(NOW)),
        (90_000_000, Taken::Refused(Duration::from_millis(500))),
    ];
    for (index, (time, expected)) in takes.into_iter().enumerate() {
        assert_eq!(limit.take(&rate, at(time), NOW), expected, "take {index}");
    }
}

#[test]
fn a_clock_that_goes_back_an_hour_does_not_hold_everything_up_for_an_hour() {
    let rate = rate(1, Duration::from_secs(1), 2);
    let mut limit = Gcra::default();
    let hour = 3_600_000_000;
    assert_eq!(limit.take(&rate, at(hour), NOW), Taken::Granted(NOW));
    assert_eq!(
        limit.take(&rate, at(0), NOW),
        Taken::Refused(Duration::from_secs(2)),
        "as if all were promised"
    );
    assert_eq!(limit.take(&rate, at(2_000_000), NOW), Taken::Granted(NOW));
}

prop_compose! {
    /// Rates of all sizes, of intervals that are no whole microseconds too.
    fn rates()(requests in 1..5_000_u32, milliseconds in 5..100_000_u64, burst in 1..20_u32) -> Rate {
        rate(requests, Duration::from_millis(milliseconds), burst)
    }
}

/// Pauses between takes, in hundredths of the interval: many short ones, some long ones.
fn pauses() -> impl Strategy<Value = Vec<u64>> {
    vec(prop_oneof![3 => Just(0_u64), 5 => 0..300_u64, 1 => 0..3_000_u64], 1..200)
}

/// In no stretch of time there are more than the burst and one per interval.
fn keep_to(rate: &Rate, moments: &[i64]) -> Result<(), TestCaseError> {
    let interval = i64::try_from(rate.interval().as_micros()).unwrap();
    for (first, begin) in moments.iter().enumerate() {
        for (last, end) in moments.iter().enumerate().skip(first) {
            let most = i64::from(rate.burst().get()) + (end - begin) / interval;
            let count = i64::try_from(last - first + 1).unwrap();
            prop_assert!(count <= most, "{count} in {} us, {rate:?}", end - begin);
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn in_no_stretch_of_time_more_is_granted_than_the_burst_and_one_per_interval(
        rate in rates(),
        pauses in pauses(),
    ) {
        let interval = i64::try_from(rate.interval().as_micros()).unwrap();
        let (mut limit, mut now, mut granted) = (Gcra::default(), 0, Vec::new());
        for pause in pauses {
            now += i64::try_from(pause).unwrap() * interval / 100;
            if limit.take(&rate, at(now), NOW) == Taken::Granted(NOW) {
                granted.push(now);
            }
        }
        keep_to(&rate, &granted)?;
    }

    #[test]
    fn what_is_promised_ahead_keeps_to_the_rate_too(
        rate in rates(),
        pauses in pauses(),
        patience in vec(0..1_500_u64, 1..20),
    ) {
        let interval = i64::try_from(rate.interval().as_micros()).unwrap();
        let (mut limit, mut now, mut moments) = (Gcra::default(), 0, Vec::new());
        for (pause, patience) in pauses.into_iter().zip(patience.into_iter().cycle()) {
            now += i64::try_from(pause).unwrap() * interval / 100;
            let patience = Duration::from_millis(patience);
            match limit.take(&rate, at(now), patience) {
                Taken::Granted(wait) => {
                    prop_assert!(wait <= patience.min(Gcra::AHEAD));
                    moments.push(now + i64::try_from(wait.as_micros()).unwrap());
                }
                Taken::Refused(wait) => prop_assert!(wait > patience.min(Gcra::AHEAD)),
            }
        }
        prop_assert!(moments.is_sorted(), "nobody is promised a moment before another's");
        keep_to(&rate, &moments)?;
    }

    #[test]
    fn the_whole_rate_is_granted_to_who_waits_as_told(rate in rates(), count in 1..100_u32) {
        let (mut limit, mut now) = (Gcra::default(), 0);
        let mut taken = 0;
        while taken < rate.burst().get() + count {
            match limit.take(&rate, at(now), NOW) {
                Taken::Granted(_) => taken += 1,
                Taken::Refused(wait) => {
                    let wait = i64::try_from(wait.as_micros()).unwrap();
                    // Not a microsecond too long.
                    prop_assert_ne!(limit.take(&rate, at(now + wait - 1), NOW), Taken::Granted(NOW));
                    now += wait;
                }
            }
        }
        prop_assert_eq!(now, i64::from(count) * i64::try_from(rate.interval().as_micros()).unwrap());
    }

    #[test]
    fn a_refused_take_consumes_nothing(rate in rates(), attempts in 1..50_u32) {
        let mut limit = Gcra::default();
        for _ in 0..rate.burst().get() {
            prop_assert_eq!(limit.take(&rate, at(0), NOW), Taken::Granted(NOW));
        }
        let before = limit;
        for _ in 0..attempts {
            prop_assert_eq!(limit.take(&rate, at(0), NOW), Taken::Refused(rate.interval()));
        }
        prop_assert_eq!(limit, before);
    }

    #[test]
    fn governor_decides_the_same(rate in rates(), pauses in pauses()) {
        let clock = FakeRelativeClock::default();
        let quota = Quota::with_period(rate.interval()).unwrap().allow_burst(rate.burst());
        let oracle = RateLimiter::direct_with_clock(quota, clock.clone());
        let (mut limit, mut now) = (Gcra::default(), Duration::ZERO);
        for pause in pauses {
            let pause = rate.interval() * u32::try_from(pause).unwrap() / 100;
            let pause = Duration::from_micros(u64::try_from(pause.as_micros()).unwrap());
            clock.advance(pause);
            now += pause;
            let expected = match oracle.check() {
                Ok(()) => Taken::Granted(NOW),
                Err(until) => Taken::Refused(until.wait_time_from(governor::clock::Clock::now(&clock))),
            };
            prop_assert_eq!(limit.take(&rate, at(i64::try_from(now.as_micros()).unwrap()), NOW), expected);
        }
    }

    #[test]
    fn the_shares_of_all_workers_are_never_more_than_the_whole(rate in rates(), number in 1..1_000_u32) {
        let share = rate.share(workers(number));
        prop_assert!(share.interval() >= rate.interval() * number - Duration::from_micros(1) * number);
        prop_assert!(share.burst() <= rate.burst());
        prop_assert!(share.burst().get() == 1 || share.burst().get() * number <= rate.burst().get());
    }
}
