//! Request rates in Redis: shared by all who ask, kept to by each alone while Redis is away, and shared again after it.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use chrono::DateTime;
use fred::interfaces::KeysInterface;
use freshet_shared::adapters::embedded::clock::ManualClock;
use freshet_shared::adapters::redis::rate_limiter::RedisRateLimiter;
use freshet_shared::adapters::redis::{RedisCache, RedisSettings};
use freshet_shared::domain::limits::{Gcra, Rate};
use freshet_shared::domain::secret::Secret;
use freshet_shared::ports::rate_limiter::{RateLimiter, Taken};
use freshet_tests::isolation::TestKeys;
use freshet_tests::services::Redis;
use freshet_tests::waiting::eventually;
use tokio::task::JoinSet;

/// Where Redis is there, and a loaded machine may take its time.
const PATIENT: Duration = Duration::from_secs(20);
/// Where it goes away.
const COMMAND_TIMEOUT: Duration = Duration::from_millis(500);
/// What a loaded machine adds.
const SLACK: Duration = Duration::from_secs(2);
/// Who does not wait.
const NOW: Duration = Duration::ZERO;
const HOUR: Duration = Duration::from_secs(3_600);
const WORKERS: u32 = 4;

/// The rates as one worker of four keeps them. The cache comes with them: its connections are theirs.
struct Worker {
    cache: RedisCache,
    limiter: RedisRateLimiter,
}

impl Worker {
    fn connect(url: &str, prefix: &str, command_timeout: Duration) -> Result<Self> {
        let settings = RedisSettings {
            url: Secret::new(url),
            key_prefix: prefix.into(),
            command_timeout,
            connections: 2,
        };
        let cache = RedisCache::connect(settings, Arc::new(ManualClock::new(DateTime::UNIX_EPOCH)))?;
        let limiter = cache.rate_limiter(NonZeroU32::MIN.saturating_add(WORKERS - 1));
        Ok(Self { cache, limiter })
    }

    /// One that may go out now.
    async fn take(&self, rate: &Rate) -> Taken {
        self.limiter.take("fynd", rate, NOW).await
    }

    /// Takes one, and asks until there is one.
    async fn insist(&self, rate: &Rate) {
        while let Taken::Refused(wait) = self.take(rate).await {
            tokio::time::sleep(wait).await;
        }
    }
}

fn rate(requests: u32, per: Duration, burst: u32) -> Result<Rate> {
    Ok(Rate::new(requests, per, burst)?)
}

#[tokio::test]
async fn of_two_workers_at_once_exactly_the_burst_is_granted() -> Result<()> {
    let keys = TestKeys::create().await?;
    let rate = rate(1, HOUR, 25)?;
    let mut takes = JoinSet::new();
    for _ in 0..2 {
        let worker = Arc::new(Worker::connect(keys.url(), keys.prefix(), PATIENT)?);
        for _ in 0..40 {
            let worker = worker.clone();
            takes.spawn(async move { worker.take(&rate).await });
        }
    }
    let mut granted = 0;
    while let Some(taken) = takes.join_next().await {
        match taken? {
            Taken::Granted(_) => granted += 1,
            // The refused ones consumed nothing, or this would grow with each.
            Taken::Refused(wait) => ensure!(wait <= HOUR && wait + HOUR / 2 > HOUR, "it says {wait:?}"),
        }
    }
    assert_eq!(granted, 25, "of 80 takes");
    let entries = keys.entries().await?;
    let left = entries.get("freshetPace_fynd").and_then(|entry| entry.time_to_live);
    ensure!(left.is_some_and(|left| left <= 25 * HOUR && left > 24 * HOUR), "there are {entries:?}");
    ensure!(entries.len() == 1, "there are {entries:?}");
    keys.delete_keys().await
}

#[tokio::test]
async fn two_workers_that_wait_as_told_share_the_rate() -> Result<()> {
    const TAKES: u32 = 30;
    const BURST: u32 = 5;
    let keys = TestKeys::create().await?;
    let rate = rate(20, Duration::from_secs(1), BURST)?;
    let connect = || Worker::connect(keys.url(), keys.prefix(), PATIENT);
    let [one, other] = &[connect()?, connect()?];
    let started = Instant::now();
    let taking = async |worker: &Worker| {
        for _ in 0..TAKES / 2 {
            worker.insist(&rate).await;
        }
    };
    tokio::join!(taking(one), taking(other));
    let elapsed = started.elapsed();
    let least = rate.interval() * (TAKES - BURST);
    ensure!(elapsed >= least, "it took {elapsed:?} instead of {least:?}");
    keys.delete_keys().await
}

/// Whoever waits asks once, so nothing of the rate is lost between two questions.
#[tokio::test]
async fn those_that_wait_have_moments_one_after_another_and_none_is_left_out() -> Result<()> {
    const TAKES: u32 = 20;
    let keys = TestKeys::create().await?;
    let rate = rate(25, Duration::from_secs(1), 1)?;
    let workers = [
        Worker::connect(keys.url(), keys.prefix(), PATIENT)?,
        Worker::connect(keys.url(), keys.prefix(), PATIENT)?,
    ];
    // The scripts are there, and the connections.
    for worker in &workers {
        worker.insist(&rate).await;
    }
    let mut moments = Vec::new();
    for worker in workers.iter().cycle().take(TAKES as usize) {
        let asked = Instant::now();
        let wait = match worker.limiter.take("fynd", &rate, Gcra::AHEAD).await {
            Taken::Granted(wait) => wait,
            Taken::Refused(wait) => bail!("it would have to wait for {wait:?}"),
        };
        // Its moment lies between these two.
        moments.push((asked + wait, Instant::now() + wait, wait));
    }
    for pair in moments.windows(2) {
        let ([earlier, later], interval) = ([&pair[0], &pair[1]], rate.interval());
        ensure!(later.1 - earlier.0 >= interval, "the same moment twice: {moments:?}");
        // Whoever waits at all stands right behind the one before.
        let is_next = later.0 <= earlier.1 + interval;
        ensure!(later.2.is_zero() || is_next, "a moment is left out: {moments:?}");
    }
    keys.delete_keys().await
}

#[tokio::test]
async fn after_the_wait_that_it_names_one_is_granted() -> Result<()> {
    let keys = TestKeys::create().await?;
    let worker = Worker::connect(keys.url(), keys.prefix(), PATIENT)?;
    let rate = rate(10, Duration::from_secs(1), 3)?;
    for _ in 0..5 {
        let wait = loop {
            if let Taken::Refused(wait) = worker.take(&rate).await {
                break wait;
            }
        };
        ensure!(wait <= rate.interval(), "it says {wait:?}");
        tokio::time::sleep(wait).await;
        assert_eq!(worker.take(&rate).await, Taken::Granted(NOW));
    }
    keys.delete_keys().await
}

#[tokio::test]
async fn what_stands_in_its_key_by_mistake_does_not_hold_everything_up() -> Result<()> {
    let keys = TestKeys::create().await?;
    let worker = Worker::connect(keys.url(), keys.prefix(), PATIENT)?;
    let name = format!("{}freshetPace_fynd", keys.prefix());
    let rate = rate(1, Duration::from_millis(100), 1)?;
    // The second is the year 2255: a clock that went back leaves such a time behind.
    for mistake in ["no number", "9000000000000000", ""] {
        keys.client().set::<(), _, _>(name.as_str(), mistake, None, None, false).await?;
        match worker.take(&rate).await {
            Taken::Granted(_) => {}
            Taken::Refused(wait) => {
                // As if all were promised that may be.
                ensure!(wait <= rate.interval() + Gcra::AHEAD, "{mistake}: it says {wait:?}");
                tokio::time::sleep(wait).await;
                assert_eq!(worker.take(&rate).await, Taken::Granted(NOW), "{mistake}");
            }
        }
    }
    keys.delete_keys().await
}

#[tokio::test]
async fn what_several_workers_put_off_has_one_queue_and_each_alone_has_one_while_redis_is_away() -> Result<()>
{
    const LONGEST: Duration = Duration::from_secs(3 * 3_600);
    let redis = Redis::start().await?;
    let rate = rate(1, HOUR, 1)?;
    let workers = [
        Worker::connect(&redis.url(), "", COMMAND_TIMEOUT)?,
        Worker::connect(&redis.url(), "", COMMAND_TIMEOUT)?,
    ];
    let turn = async |worker: &Worker| worker.limiter.turn("fynd", &rate, HOUR / 2, LONGEST).await;
    eventually("Redis gives turns", Duration::from_secs(30), async || {
        let turn = workers[0].limiter.turn("somebody else", &rate, HOUR / 2, LONGEST).await;
        ensure!(turn.is_some_and(|turn| turn.lasts == HOUR), "it is {turn:?}");
        Ok(())
    })
    .await?;
    // Each an hour long, behind the other's.
    for (worker, hours) in workers.iter().zip([0.5, 1.5]).chain([(&workers[0], 2.5)]) {
        let turn = turn(worker).await.context("there is none")?;
        assert_eq!(turn.lasts, HOUR);
        let behind = HOUR.mul_f64(hours).saturating_sub(turn.begins_in);
        ensure!(behind < PATIENT, "a turn that begins in {:?} in place of {hours} h", turn.begins_in);
    }
    assert_eq!(turn(&workers[1]).await, None, "the queue is as long as it may be");
    redis.freeze()?;
    // A worker's share of the rate: four hours between two.
    assert_eq!(turn(&workers[1]).await, None, "longer than the longest queue");
    let alone = workers[1].limiter.turn("fynd", &rate, HOUR / 2, LONGEST * 2).await;
    assert_eq!(alone.map(|turn| (turn.begins_in, turn.lasts)), Some((HOUR / 2, HOUR * WORKERS)));
    redis.thaw()?;
    Ok(())
}

/// The whole rate's next request is an hour away at most, that of a worker's share more than that.
fn is_of_a_share(taken: Taken) -> Result<bool> {
    match taken {
        Taken::Refused(wait) if wait <= HOUR => Ok(false),
        Taken::Refused(wait) if wait <= HOUR * WORKERS + Gcra::AHEAD => Ok(true),
        other => bail!("it says {other:?}"),
    }
}

async fn spend_the_burst(worker: &Worker, rate: &Rate) -> Result<()> {
    eventually("the shared burst is spent", Duration::from_secs(30), async || {
        while worker.take(rate).await == Taken::Granted(NOW) {}
        ensure!(!is_of_a_share(worker.take(rate).await)?, "Redis is not asked");
        Ok(())
    })
    .await
}

/// Falls back within `within`, and then nobody waits for Redis.
async fn keeps_to_its_share(worker: &Worker, rate: &Rate, within: Duration) -> Result<()> {
    let started = Instant::now();
    ensure!(is_of_a_share(worker.take(rate).await)?, "Redis was asked");
    let elapsed = started.elapsed();
    ensure!(elapsed < within, "it took {elapsed:?}");
    let started = Instant::now();
    for _ in 0..200 {
        ensure!(is_of_a_share(worker.take(rate).await)?, "more than the share");
    }
    let elapsed = started.elapsed();
    ensure!(elapsed < COMMAND_TIMEOUT, "200 takes took {elapsed:?}");
    Ok(())
}

#[tokio::test]
async fn while_redis_hangs_a_worker_keeps_to_its_share_and_then_shares_again() -> Result<()> {
    let redis = Redis::start().await?;
    let worker = Worker::connect(&redis.url(), "", COMMAND_TIMEOUT)?;
    let rate = rate(1, HOUR, 3)?;
    spend_the_burst(&worker, &rate).await?;
    redis.freeze()?;
    keeps_to_its_share(&worker, &rate, COMMAND_TIMEOUT + SLACK).await?;
    redis.thaw()?;
    // What was spent before is still known.
    eventually("the rate is shared again", Duration::from_secs(30), async || {
        ensure!(!is_of_a_share(worker.take(&rate).await)?, "it is not");
        Ok(())
    })
    .await?;
    worker.cache.close().await;
    Ok(())
}

#[tokio::test]
async fn a_redis_that_comes_late_or_goes_away_costs_the_rest_of_the_rate_and_no_more() -> Result<()> {
    let mut redis = Redis::start().await?;
    redis.kill()?;
    let worker = Worker::connect(&redis.url(), "", COMMAND_TIMEOUT)?;
    let rate = rate(1, HOUR, 3)?;
    keeps_to_its_share(&worker, &rate, COMMAND_TIMEOUT + SLACK).await?;
    redis.restart().await?;
    spend_the_burst(&worker, &rate).await?;
    redis.kill()?;
    keeps_to_its_share(&worker, &rate, 2 * COMMAND_TIMEOUT + SLACK).await?;
    redis.restart().await?;
    spend_the_burst(&worker, &rate).await
}

#[tokio::test]
async fn a_share_is_granted_as_slowly_as_it_says() -> Result<()> {
    let redis = Redis::start().await?;
    let worker = Worker::connect(&redis.url(), "", COMMAND_TIMEOUT)?;
    // A hundredth of a second for all, 40 ms for one of four.
    let rate = rate(100, Duration::from_secs(1), 1)?;
    worker.insist(&rate).await;
    redis.freeze()?;
    let _ = worker.take(&rate).await;
    let share = rate.interval() * WORKERS;
    let started = Instant::now();
    for _ in 0..11 {
        worker.insist(&rate).await;
    }
    let (elapsed, least) = (started.elapsed(), share * 10);
    ensure!(elapsed >= least, "eleven took {elapsed:?}, with {share:?} between two");
    Ok(())
}
