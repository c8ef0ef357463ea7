//! Permits, on a clock that follows the runtime's paused one: nothing here takes time.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use freshet_shared::adapters::embedded::clock::SeededRandomness;
use freshet_shared::adapters::embedded::rate_limiter::InProcessRateLimiter;
use freshet_shared::domain::failure::FailureClass;
use freshet_shared::domain::provider::catalogue::Providers;
use freshet_shared::telemetry::metrics::Metrics;

use tokio::time::sleep;

use super::*;

/// The runtime's time, as a calendar's.
struct RuntimeClock(Instant);

#[async_trait]
impl Clock for RuntimeClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::from_std(self.0.elapsed()).unwrap()
    }

    async fn sleep(&self, duration: Duration) {
        sleep(duration).await;
    }
}

const OPEN_FOR: Duration = Duration::from_secs(30);
/// Jobs that may wait at once.
const WAITING: u32 = 30;
const LONGEST: Duration = Duration::from_secs(300);
const LONGEST_CALL: Duration = Duration::from_secs(15);

struct Bench {
    permits: Arc<Permits>,
    limiter: Arc<InProcessRateLimiter>,
    settings: PermitSettings,
    clock: Arc<RuntimeClock>,
    provider: Arc<Provider>,
    limits: Limits,
}

impl Bench {
    /// With limits as in a definition, for one of so many workers. Four failures of at least four calls open the breaker.
    fn new(workers: u32, rate: Option<(u32, u64, u32)>, concurrency: u32) -> Self {
        let clock = Arc::new(RuntimeClock(Instant::now()));
        let settings = PermitSettings {
            workers: NonZeroU32::new(workers).unwrap(),
            waiting: NonZeroU32::new(WAITING).unwrap(),
            breaker: BreakerPolicy::new(0.5, 4, Duration::from_secs(60), OPEN_FOR, LONGEST).unwrap(),
            longest_spread: TimeDelta::from_std(LONGEST).unwrap(),
            longest_call: LONGEST_CALL,
        };
        let limiter = Arc::new(InProcessRateLimiter::new(clock.clone()));
        let permits = permits(&limiter, &clock, settings);
        let rate = rate.map(|(requests, seconds, burst)| {
            Rate::new(requests, Duration::from_secs(seconds), burst).unwrap()
        });
        Self {
            permits,
            limiter,
            settings,
            clock,
            provider: Providers::new(&[], &BTreeMap::new()).unwrap().get("fynd").unwrap().clone(),
            limits: Limits { rate, concurrency: NonZeroU32::new(concurrency) },
        }
    }

    /// That asks for permits at the same provider.
    fn another_worker(&self) -> Self {
        Self {
            permits: permits(&self.limiter, &self.clock, self.settings),
            limiter: self.limiter.clone(),
            settings: self.settings,
            clock: self.clock.clone(),
            provider: self.provider.clone(),
            limits: self.limits,
        }
    }

    async fn acquire(&self) -> Result<Permit, Deferral> {
        self.permits.acquire(&self.provider, &self.limits).await
    }

    /// The wait of a job that has to be deferred for `reason`.
    async fn deferred(&self, reason: DeferralReason) -> TimeDelta {
        let deferral = self.acquire().await.err().expect("it is not deferred");
        assert_eq!(deferral.reason, reason);
        deferral.until - self.clock.now()
    }

    async fn fail(&self, class: FailureClass) {
        self.acquire()
            .await
            .unwrap_or_else(|_| panic!("it is deferred"))
            .failed(&Failure::new(class, ""), false);
    }

    /// Failures until the breaker opens.
    async fn open(&self) {
        for _ in 0..4 {
            self.fail(FailureClass::ServerError).await;
        }
    }

    fn elapsed(&self) -> Duration {
        self.clock.0.elapsed()
    }
}

fn permits(
    limiter: &Arc<InProcessRateLimiter>,
    clock: &Arc<RuntimeClock>,
    settings: PermitSettings,
) -> Arc<Permits> {
    let randomness = Arc::new(SeededRandomness::new(1));
    Arc::new(Permits::new(limiter.clone(), clock.clone(), randomness, settings))
}

fn seconds(number: i64) -> TimeDelta {
    TimeDelta::seconds(number)
}

#[tokio::test(start_paused = true)]
async fn without_limits_everybody_goes_at_once() {
    let bench = Bench::new(4, None, 0);
    let mut permits = Vec::new();
    for _ in 0..1_000 {
        permits.push(bench.acquire().await.ok().unwrap());
    }
    assert_eq!(bench.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_short_wait_for_the_rate_is_waited_for_and_a_long_one_is_not() {
    let bench = Bench::new(1, Some((2, 1, 1)), 0);
    for expected in [0, 500, 1_000, 1_500] {
        assert!(bench.acquire().await.is_ok());
        assert_eq!(bench.elapsed(), Duration::from_millis(expected));
    }
    let slow = Bench::new(1, Some((1, 10, 1)), 0);
    assert!(slow.acquire().await.is_ok());
    let wait = slow.deferred(DeferralReason::RateLimited).await;
    assert_eq!(slow.elapsed(), Duration::ZERO, "nobody waited");
    assert!((seconds(10)..seconds(20)).contains(&wait), "{wait}");
    tokio::time::advance(Duration::from_secs(10)).await;
    assert!(slow.acquire().await.is_ok(), "who was deferred consumed nothing");
}

#[tokio::test(start_paused = true)]
async fn those_that_stood_still_past_their_moments_do_not_all_go_together() {
    let bench = Bench::new(1, Some((10, 1, 1)), 0);
    assert!(bench.acquire().await.is_ok());
    let waiting = futures_util::future::join_all((0..5).map(|_| bench.acquire()));
    let (late, ()) = tokio::join!(waiting, tokio::time::advance(Duration::from_secs(60)));
    let (gone, put_off): (Vec<_>, Vec<_>) = late.into_iter().partition(Result::is_ok);
    assert_eq!((gone.len(), put_off.len()), (1, 4));
    for deferral in put_off.into_iter().filter_map(Result::err) {
        assert_eq!(deferral.reason, DeferralReason::RateLimited);
        assert!(deferral.until - bench.clock.now() < seconds(1), "{deferral:?}");
    }
    // A little late is not too late.
    let (late, ()) = tokio::join!(bench.acquire(), tokio::time::advance(LATENESS));
    assert!(late.is_ok());
}

#[tokio::test(start_paused = true)]
async fn waits_are_counted_whether_they_end_with_leave_or_not() {
    let metrics = Metrics::collected("test").unwrap();
    let bench = Bench::new(1, Some((2, 1, 1)), 0);
    bench.permits.count_waits(Waits::new(&metrics, ["fynd", "very"]));
    let shown = |line: &str| metrics.render().unwrap().lines().any(|shown| shown == line);
    assert!(shown(r#"freshet_permit_wait_seconds_count{provider="very"} 0"#));
    // At once, and after half a second.
    for _ in 0..2 {
        assert!(bench.acquire().await.is_ok());
    }
    assert!(shown(r#"freshet_permit_wait_seconds_bucket{provider="fynd",le="0.005"} 1"#));
    assert!(shown(r#"freshet_permit_wait_seconds_bucket{provider="fynd",le="0.5"} 2"#));
    assert!(shown(r#"freshet_permit_wait_seconds_sum{provider="fynd"} 0.5"#));
    bench.open().await;
    let before = bench.elapsed();
    assert!(bench.deferred(DeferralReason::BreakerOpen).await > seconds(1));
    assert_eq!(bench.elapsed(), before);
    // Four failures waited half a second each.
    assert!(shown(r#"freshet_permit_wait_seconds_count{provider="fynd"} 7"#));
    assert!(shown(r#"freshet_permit_wait_seconds_sum{provider="fynd"} 2.5"#));
}

#[tokio::test(start_paused = true)]
async fn of_many_that_wait_for_the_rate_those_go_that_it_allows_within_a_second() {
    let bench = Bench::new(1, Some((10, 1, 1)), 0);
    let jobs = (0..40).map(|_| bench.acquire());
    let outcomes = futures_util::future::join_all(jobs).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 11, "at 0 and then each 100 ms");
    assert!(bench.elapsed() <= PATIENCE, "{:?}", bench.elapsed());
}

#[tokio::test(start_paused = true)]
async fn no_more_jobs_wait_than_may_and_the_others_are_deferred_at_once() {
    // For the rate they would all be in time, for a slot nobody knows.
    let of_rate = Bench::new(1, Some((1_000, 1, 1)), 0);
    let of_slots = Bench::new(1, None, 1);
    let _permits = [of_rate.acquire().await.ok().unwrap(), of_slots.acquire().await.ok().unwrap()];
    for bench in [of_rate, of_slots] {
        let begun = bench.elapsed();
        let jobs = (0..500).map(async |_| {
            let is_deferred = bench.acquire().await.is_err();
            (is_deferred, bench.elapsed())
        });
        let ends = futures_util::future::join_all(jobs).await;
        let at_once = ends.iter().filter(|end| **end == (true, begun)).count();
        assert_eq!(at_once, 500 - WAITING as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn who_would_wait_in_vain_behind_the_others_does_not_wait() {
    let bench = Bench::new(1, Some((10, 1, 1)), 0);
    assert!(bench.acquire().await.is_ok());
    let jobs = (0..20).map(async |_| (bench.acquire().await.is_ok(), bench.elapsed()));
    let ends = futures_util::future::join_all(jobs).await;
    let refused = ends.iter().filter(|end| **end == (false, Duration::ZERO)).count();
    assert_eq!(refused, 10, "only ten can be granted within a second");
}

#[tokio::test(start_paused = true)]
async fn jobs_deferred_together_come_back_as_the_rate_allows() {
    // One request each 2 s, of all workers together.
    let bench = Bench::new(2, Some((1, 2, 1)), 0);
    assert!(bench.acquire().await.is_ok());
    let mut waits = Vec::new();
    for _ in 0..50 {
        waits.push(bench.deferred(DeferralReason::RateLimited).await);
    }
    for (turn, wait) in (0..).zip(&waits) {
        let begin = 2 + 2 * turn;
        assert!((seconds(begin)..seconds(begin + 2)).contains(wait), "turn {turn}: {wait}");
    }
    let in_step = waits.windows(2).all(|pair| pair[1] - pair[0] == seconds(2));
    assert!(!in_step, "within its turn each comes at a moment of its own");
    for _ in 0..200 {
        let wait = bench.deferred(DeferralReason::RateLimited).await;
        assert!(wait <= seconds(2 + 300), "however many there are: {wait}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_two_workers_of_many_defer_comes_back_as_fast_as_the_whole_rate() {
    let first = Bench::new(20, Some((1, 2, 1)), 0);
    let second = first.another_worker();
    assert!(first.acquire().await.is_ok());
    let mut waits = Vec::new();
    for _ in 0..25 {
        for bench in [&first, &second] {
            waits.push(bench.deferred(DeferralReason::RateLimited).await);
        }
    }
    for (turn, wait) in (0..).zip(&waits) {
        let begin = 2 + 2 * turn;
        assert!((seconds(begin)..seconds(begin + 2)).contains(wait), "turn {turn}: {wait}");
    }
}

/// As the fleet does it: what was put off comes again with the first scan after its time, of which there is one a second.
#[tokio::test(start_paused = true)]
async fn a_backlog_of_two_workers_uses_nearly_all_of_the_rate_and_no_more() {
    const JOBS: usize = 6_000;
    let rate = 50;
    let first = Bench::new(4, Some((rate, 1, 1)), 0);
    let workers = [Arc::new(first.another_worker()), Arc::new(first)];
    let clock = workers[0].clock.clone();
    let begun = clock.now();
    let (mut due, mut granted) = (vec![clock.now(); JOBS], Vec::new());
    let mut asking = tokio::task::JoinSet::new();
    while granted.len() < JOBS {
        let now = clock.now();
        assert!(now - begun < seconds(2 * JOBS as i64 / i64::from(rate)), "{} are granted", granted.len());
        let (coming, later): (Vec<_>, Vec<_>) = due.into_iter().partition(|at| *at <= now);
        due = later;
        for number in 0..coming.len() {
            let worker = workers[number % 2].clone();
            asking.spawn(async move { (worker.acquire().await.map(drop), worker.clock.now()) });
        }
        let scan = sleep(Duration::from_secs(1));
        tokio::pin!(scan);
        loop {
            tokio::select! {
                () = &mut scan => break,
                Some(ended) = asking.join_next() => match ended.unwrap() {
                    (Ok(()), at) => granted.push(at),
                    (Err(deferral), _) => due.push(deferral.until),
                },
            }
        }
    }
    let took = (*granted.last().unwrap() - *granted.first().unwrap()).as_seconds_f64();
    let ideal = JOBS as f64 / f64::from(rate);
    assert!(took >= ideal * 0.99 && took < ideal * 1.02, "{took} s in place of {ideal} s");
}

#[tokio::test(start_paused = true)]
async fn a_workers_part_of_the_concurrency_is_never_exceeded() {
    for (workers, concurrency, part) in [(1, 3, 3), (4, 16, 4), (4, 7, 1), (4, 1, 1)] {
        let bench = Bench::new(workers, None, concurrency);
        let mut permits = Vec::new();
        for _ in 0..part {
            permits.push(bench.acquire().await.ok().unwrap());
        }
        assert_eq!(bench.elapsed(), Duration::ZERO);
        let wait = bench.deferred(DeferralReason::Concurrency).await;
        assert_eq!(bench.elapsed(), PATIENCE, "{concurrency} of {workers}");
        assert!((seconds(1)..seconds(3)).contains(&wait), "{wait}");
        // Whichever way a call ends, its slot is free for the next one.
        let ends: [fn(Permit); 3] = [
            Permit::succeeded,
            |permit| _ = permit.failed(&Failure::new(FailureClass::InvalidGrant, ""), false),
            drop,
        ];
        for end in ends {
            end(permits.pop().unwrap());
            permits.push(bench.acquire().await.ok().unwrap());
        }
        assert_eq!(bench.elapsed(), PATIENCE);
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_is_given_back_in_time_goes_to_who_waits() {
    let bench = Bench::new(1, None, 1);
    let permit = bench.acquire().await.ok().unwrap();
    let (waiting, ()) = tokio::join!(bench.acquire(), async {
        sleep(Duration::from_millis(700)).await;
        permit.succeeded();
    });
    assert!(waiting.is_ok());
    assert_eq!(bench.elapsed(), Duration::from_millis(700));
}

#[tokio::test(start_paused = true)]
async fn jobs_that_found_no_slot_come_back_at_different_times() {
    let bench = Bench::new(1, None, 2);
    let _permits = [bench.acquire().await.ok().unwrap(), bench.acquire().await.ok().unwrap()];
    let outcomes = futures_util::future::join_all((0..20).map(|_| bench.acquire())).await;
    let untils: BTreeSet<_> = outcomes.into_iter().map(|outcome| outcome.err().unwrap().until).collect();
    assert_eq!(untils.len(), 20);
    assert!(*untils.last().unwrap() - *untils.first().unwrap() > seconds(8), "two in a second");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_stood_still_with_its_process_puts_no_other_off_for_as_long() {
    let bench = Bench::new(1, None, 1);
    let permit = bench.acquire().await.ok().unwrap();
    sleep(Duration::from_secs(600)).await;
    permit.succeeded();
    let _permit = bench.acquire().await.ok().unwrap();
    for _ in 0..3 {
        let wait = bench.deferred(DeferralReason::Concurrency).await;
        assert!(wait < seconds(50), "{wait}");
    }
}

#[tokio::test(start_paused = true)]
async fn jobs_that_found_no_slot_come_back_as_fast_as_calls_end() {
    for (call, number) in [(Duration::from_millis(100), 2), (Duration::from_secs(6), 3)] {
        let bench = Bench::new(1, None, number);
        for _ in 0..50 {
            let permit = bench.acquire().await.ok().unwrap();
            sleep(call).await;
            permit.succeeded();
        }
        let _permits = [bench.acquire().await.ok().unwrap(), bench.acquire().await.ok().unwrap()];
        let _third = bench.acquire().await;
        let jobs = (0..40).map(|_| bench.deferred(DeferralReason::Concurrency));
        let waits = futures_util::future::join_all(jobs).await;
        let spread = *waits.iter().max().unwrap() - *waits.iter().min().unwrap();
        let expected = TimeDelta::from_std(call / number * 40).unwrap();
        assert!(spread > expected / 2 && spread < expected * 3 / 2, "{spread} where calls take {call:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_request_is_counted_for_who_finds_no_slot() {
    let bench = Bench::new(1, Some((1, 3_600, 2)), 1);
    let permit = bench.acquire().await.ok().unwrap();
    bench.deferred(DeferralReason::Concurrency).await;
    drop(permit);
    assert!(bench.acquire().await.is_ok(), "the second request of the burst is still there");
    bench.deferred(DeferralReason::RateLimited).await;
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_fails_is_left_alone_until_one_probe_is_answered() {
    let bench = Bench::new(4, None, 0);
    bench.open().await;
    let mut waits = BTreeSet::new();
    for _ in 0..50 {
        let wait = bench.deferred(DeferralReason::BreakerOpen).await;
        assert!((seconds(30)..seconds(60)).contains(&wait), "{wait}");
        waits.insert(wait);
    }
    assert_eq!(waits.len(), 50, "they do not come back together");
    assert_eq!(bench.elapsed(), Duration::ZERO, "and nobody waits here");

    tokio::time::advance(OPEN_FOR).await;
    let probe = bench.acquire().await.ok().unwrap();
    let wait = bench.deferred(DeferralReason::BreakerOpen).await;
    assert!((seconds(1)..seconds(31)).contains(&wait), "{wait}");
    probe.failed(&Failure::new(FailureClass::Network, ""), false);
    assert!(bench.deferred(DeferralReason::BreakerOpen).await >= seconds(30), "open again");

    tokio::time::advance(OPEN_FOR).await;
    drop(bench.acquire().await.ok().unwrap());
    let probe =
        bench.acquire().await.unwrap_or_else(|_| panic!("a probe of which nothing is known is repeated"));
    bench.deferred(DeferralReason::BreakerOpen).await;
    probe.succeeded();
    for _ in 0..3 {
        bench.fail(FailureClass::ServerError).await;
    }
    assert!(bench.acquire().await.is_ok(), "it begins to count anew");
}

#[tokio::test(start_paused = true)]
async fn the_longer_a_provider_fails_the_wider_its_jobs_are_spread_but_for_one_that_probes() {
    let bench = Bench::new(4, None, 0);
    bench.open().await;
    for _ in 0..10 {
        tokio::time::advance(OPEN_FOR).await;
        bench.fail(FailureClass::ServerError).await;
    }
    let first = bench.deferred(DeferralReason::BreakerOpen).await;
    assert!((seconds(30)..seconds(60)).contains(&first), "somebody probes soon: {first}");
    let mut waits = Vec::new();
    for _ in 0..100 {
        waits.push(bench.deferred(DeferralReason::BreakerOpen).await);
    }
    let soon = waits.iter().filter(|wait| **wait < seconds(60)).count();
    assert!(soon < 30, "{soon} of a hundred come back as soon as the probe");
    assert!(waits.iter().all(|wait| (seconds(30)..seconds(330)).contains(wait)), "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_has_to_wait_for_the_rate_makes_way_for_the_next_one() {
    let bench = Bench::new(1, Some((1, 60, 4)), 0);
    bench.open().await;
    tokio::time::advance(OPEN_FOR).await;
    bench.deferred(DeferralReason::RateLimited).await;
    tokio::time::advance(OPEN_FOR).await;
    assert!(bench.acquire().await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn failures_that_are_not_the_providers_open_nothing() {
    let bench = Bench::new(4, None, 0);
    for class in FailureClass::ALL.into_iter().filter(|class| !class.is_providers()) {
        for _ in 0..20 {
            bench.fail(class).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn one_merchants_request_limit_is_not_the_others_but_a_providers_is() {
    let bench = Bench::new(4, None, 0);
    let refused = Failure {
        retry_after: Some(Duration::from_secs(86_400)),
        ..Failure::new(FailureClass::RateLimited, "")
    };
    let answered_429 = async || bench.acquire().await.ok().unwrap().failed(&refused, false);
    for _ in 0..4 {
        bench.acquire().await.ok().unwrap().succeeded();
    }
    for _ in 0..3 {
        answered_429().await;
    }
    assert!(bench.acquire().await.is_ok(), "three of seven");
    answered_429().await;
    let wait = bench.deferred(DeferralReason::BreakerOpen).await;
    assert!(wait >= seconds(300), "as long as it asked, within bounds: {wait}");
}

#[tokio::test(start_paused = true)]
async fn each_provider_has_a_gate_of_its_own() {
    let bench = Bench::new(1, None, 1);
    bench.open().await;
    bench.deferred(DeferralReason::BreakerOpen).await;
    let very = Providers::new(&[], &BTreeMap::new()).unwrap().get("very").unwrap().clone();
    assert!(bench.permits.acquire(&very, &bench.limits).await.is_ok());
}

#[test]
fn each_reason_has_its_word() {
    assert_eq!(
        DeferralReason::ALL.map(DeferralReason::as_str),
        ["rate_limited", "concurrency", "breaker_open"]
    );
}
