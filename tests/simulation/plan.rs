//! Capacity: what a fleet needs under a provider's limit, and what an outage does to it.
//!
//! Not one connection is refreshed here. A sample of connections, each standing for many, comes due when the product's own
//! plan says so, waits while the provider is away, comes back when the product's own backoff says so, and is served as fast as
//! limit and workers allow.

use std::collections::{HashMap, VecDeque};
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use clap::Args;
use freshet_shared::adapters::embedded::clock::SeededRandomness;
use freshet_shared::configuration::Configuration;
use freshet_shared::domain::connection::ConnectionId;
use freshet_shared::domain::failure::{Failure, FailureClass};
use freshet_shared::domain::provider::definition::Rotation;
use freshet_shared::domain::retry::{History, RetryPolicy};
use freshet_shared::domain::window::RefreshWindows;
use freshet_shared::ports::randomness::Randomness;

/// Connections that are looked at one by one.
const SAMPLE: i64 = 20_000;
/// Nobody waits longer to see whether a fleet recovers.
const HORIZON: i64 = 14 * 24 * 3_600;

/// `simulate plan`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PlanArguments {
    /// Sizes of the fleet.
    #[arg(long, value_delimiter = ',', default_value = "1000000,10000000")]
    connections: Vec<u64>,
    /// What the provider allows, all workers together: 500/s, 30000/m, 1000000/h.
    #[arg(long, default_value = "2000/s")]
    limit: Limit,
    /// How long the provider is away.
    #[arg(long, default_value = "1h", value_parser = parse_duration)]
    outage: Duration,
    /// How long its tokens live.
    #[arg(long, default_value = "6h", value_parser = parse_duration)]
    lifetime: Duration,
    /// How long a call takes.
    #[arg(long, default_value = "300ms", value_parser = parse_duration)]
    latency: Duration,
    /// Jobs at once in a worker, if not as many as by default: worker.concurrency.
    #[arg(long)]
    concurrency: Option<u32>,
    /// Refreshes in a second that one worker's processor manages; measure yours.
    #[arg(long, default_value_t = 1_500)]
    per_worker: u32,
}

/// Requests in a second.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Limit(f64);

impl FromStr for Limit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let error = || format!("`{text}` is no limit: write 500/s, 30000/m or 1000000/h");
        let (number, unit) = text.split_once('/').ok_or_else(error)?;
        let seconds = match unit {
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3_600.0,
            _ => return Err(error()),
        };
        let number: f64 = number.parse().map_err(|_| error())?;
        if number > 0.0 { Ok(Self(number / seconds)) } else { Err(error()) }
    }
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let split = text.find(|letter: char| letter.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let factor = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" | "min" => 60.0,
        "h" => 3_600.0,
        "d" => 86_400.0,
        _ => return Err(format!("`{text}` is no duration: write 300ms, 20s, 5m, 1h or 2d")),
    };
    let number: f64 = number.parse().map_err(|_| format!("`{text}` is no duration"))?;
    Duration::try_from_secs_f64(number * factor).map_err(|error| error.to_string())
}

/// What comes of it.
#[derive(Debug, Clone, PartialEq)]
struct Forecast {
    /// Refreshes in a second when nothing is wrong.
    steady: f64,
    /// The most connections that wait at one time.
    deepest: f64,
    /// The longest that a token was dead before it was renewed; `None` if none died.
    stalest: Option<TimeDelta>,
    /// From the outage's end until nobody waits; `None` if the limit does not even keep up without one.
    recovery: Option<TimeDelta>,
}

/// A connection of the sample.
#[derive(Clone, Copy)]
struct Member {
    /// From one refresh to the next.
    interval: i64,
    /// From its coming due to its token's death.
    lead: i64,
}

/// Who comes due in a second.
#[derive(Clone, Copy)]
struct Due {
    place: usize,
    /// Since when, where it came due before and was not served.
    since: Option<i64>,
}

/// What the product does where nobody sets it otherwise.
struct Product {
    windows: RefreshWindows,
    retry: RetryPolicy,
    concurrency: u32,
}

impl Product {
    fn by_default() -> Result<Self> {
        let configuration = Configuration::load(None, &HashMap::new())?;
        Ok(Self {
            windows: configuration.scan.windows(),
            retry: configuration.retry.policy()?,
            concurrency: configuration.worker.concurrency.into(),
        })
    }
}

fn forecast(product: &Product, connections: u64, rate: f64, outage: i64, lifetime: TimeDelta) -> Forecast {
    let members = sample(&product.windows, lifetime);
    // Each stands for so many.
    let weight = connections as f64 / members.len() as f64;
    let steady = members.iter().map(|member| weight / member.interval as f64).sum::<f64>();
    let mut forecast = Forecast { steady, deepest: 0.0, stalest: None, recovery: None };
    if steady > rate {
        return forecast;
    }
    // Spread over their intervals, as a fleet is that has run for a while.
    let longest = members.iter().map(|member| member.interval).max().unwrap_or(1);
    let mut due: VecDeque<Vec<Due>> = vec![Vec::new(); usize::try_from(longest).unwrap_or(0) + 1].into();
    for (place, member) in members.iter().enumerate() {
        let phase = place as i64 * 7_919 % member.interval;
        if let Some(second) = usize::try_from(phase).ok().and_then(|phase| due.get_mut(phase)) {
            second.push(Due { place, since: None });
        }
    }
    let comes_back = comes_back(product.retry);
    let mut coming_back = 0_usize;
    let mut waiting: VecDeque<(i64, usize)> = VecDeque::new();
    let mut may_serve = 0.0;
    let begins = longest;
    for second in 0..begins + outage + HORIZON {
        let arrived = due.pop_front().unwrap_or_default();
        due.push_back(Vec::new());
        coming_back -= arrived.iter().filter(|due| due.since.is_some()).count();
        waiting.extend(arrived.into_iter().map(|due| (due.since.unwrap_or(second), due.place)));
        if second == begins + outage && outage > 0 {
            // Nobody stands in line for a provider that is away: each comes back after its own wait.
            for (since, place) in waiting.drain(..) {
                let in_seconds = comes_back().min(due.len() - 1);
                if let Some(second) = due.get_mut(in_seconds) {
                    second.push(Due { place, since: Some(since) });
                    coming_back += 1;
                }
            }
        }
        let is_away = (begins..begins + outage).contains(&second);
        may_serve = if is_away { 0.0 } else { may_serve + rate };
        while may_serve >= weight {
            let Some((since, place)) = waiting.pop_front() else { break };
            may_serve -= weight;
            let Some(member) = members.get(place) else { continue };
            let dead_for = second - since - member.lead;
            if dead_for > 0 {
                let before = forecast.stalest.map_or(0, |stalest| stalest.num_seconds());
                forecast.stalest = Some(TimeDelta::seconds(before.max(dead_for)));
            }
            if let Some(next) = usize::try_from(member.interval - 1).ok().and_then(|at| due.get_mut(at)) {
                next.push(Due { place, since: None });
            }
        }
        // Nothing saved up beyond a second.
        may_serve = may_serve.min(rate.max(weight));
        if second >= begins {
            forecast.deepest = forecast.deepest.max((waiting.len() + coming_back) as f64 * weight);
        }
        // As few as wait when all is well.
        let left = (waiting.len() + coming_back) as f64 * weight;
        if second >= begins + outage && left <= (2.0 * rate).max(weight) {
            forecast.recovery = Some(TimeDelta::seconds(second - begins - outage));
            break;
        }
    }
    forecast
}

/// When one that failed until the outage's end is tried again, in seconds from then: as after many failures in a row.
fn comes_back(policy: RetryPolicy) -> impl Fn() -> usize {
    let history = History { failures: 20, grant_failures: 0, rotation: Rotation::None, unknown_since: None };
    let (failure, dice) = (Failure::new(FailureClass::ServerError, ""), SeededRandomness::new(1));
    move || {
        let now = DateTime::<Utc>::UNIX_EPOCH;
        let next = policy.after(&failure, &history, now, dice.next()).next_attempt_at;
        usize::try_from((next - now).num_seconds()).unwrap_or(0)
    }
}

fn sample(windows: &RefreshWindows, lifetime: TimeDelta) -> Vec<Member> {
    let granted = DateTime::<Utc>::UNIX_EPOCH;
    let member = |id| {
        let due = windows.refresh_at(ConnectionId(id), Some((granted + lifetime, lifetime)), None, granted);
        let interval = due.map_or(lifetime, |due| due - granted).num_seconds().max(1);
        Member { interval, lead: lifetime.num_seconds() - interval }
    };
    (1..=SAMPLE).map(member).collect()
}

/// Workers that a rate needs: as many calls at once as it makes, and a processor's share of the work.
fn workers(rate: f64, arguments: &PlanArguments, product: &Product) -> u64 {
    let concurrency = arguments.concurrency.unwrap_or(product.concurrency);
    let by_slots = rate * arguments.latency.as_secs_f64() / f64::from(concurrency);
    let by_processor = rate / f64::from(arguments.per_worker);
    by_slots.max(by_processor).ceil().max(1.0) as u64
}

/// Prints one line for each size.
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "the table is what was asked for")]
pub(crate) fn plan(arguments: &PlanArguments) -> ExitCode {
    let Ok(lifetime) = TimeDelta::from_std(arguments.lifetime) else { return ExitCode::FAILURE };
    let product = match Product::by_default() {
        Ok(product) => product,
        Err(error) => {
            eprintln!("simulate: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let outage = i64::try_from(arguments.outage.as_secs()).unwrap_or(HORIZON).min(HORIZON);
    let rate = arguments.limit.0;
    println!(
        "tokens of {} min, an outage of {} min, {:.1} requests a second allowed",
        lifetime.num_minutes(),
        outage / 60,
        rate
    );
    println!(
        "{:>12} {:>12} {:>8} {:>14} {:>16} {:>14}",
        "connections", "refreshes/s", "workers", "deepest queue", "worst staleness", "recovers in"
    );
    for connections in &arguments.connections {
        let forecast = forecast(&product, *connections, rate, outage, lifetime);
        if forecast.steady > rate {
            println!(
                "{connections:>12} {:>12.1} {:>8} the limit does not keep up: at least {:.1}/s is needed, and more to catch up",
                forecast.steady, "-", forecast.steady
            );
            continue;
        }
        let minutes = |time: Option<TimeDelta>, none: &str| {
            time.map_or(none.to_owned(), |time| format!("{:.1} min", time.num_seconds() as f64 / 60.0))
        };
        println!(
            "{connections:>12} {:>12.1} {:>8} {:>14.0} {:>16} {:>14}",
            forecast.steady,
            workers(rate, arguments, &product),
            forecast.deepest,
            minutes(forecast.stalest, "none dies"),
            minutes(forecast.recovery, "never")
        );
    }
    ExitCode::SUCCESS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_an_outage_nothing_piles_up_and_nothing_dies() {
        let forecast = forecast(&Product::by_default().unwrap(), 1_000_000, 1_000.0, 0, TimeDelta::hours(1));
        // An hour's token is renewed after 25 to 30 minutes.
        assert!(forecast.steady > 1_000_000.0 / 1_800.0 && forecast.steady < 1_000_000.0 / 1_500.0);
        assert_eq!((forecast.stalest, forecast.recovery), (None, Some(TimeDelta::zero())));
    }

    #[test]
    fn what_came_due_in_an_outage_waits_for_its_turn() {
        let (connections, rate, outage) = (1_000_000, 1_000.0, 3_600);
        let forecast =
            forecast(&Product::by_default().unwrap(), connections, rate, outage, TimeDelta::hours(6));
        let piled_up = forecast.steady * 3_600.0;
        assert!((forecast.deepest - piled_up).abs() < piled_up * 0.05, "{forecast:?}");
        // Served at the rate, while others come due; and the last of them comes back after five minutes.
        let expected = piled_up / (rate - forecast.steady);
        let recovery = forecast.recovery.unwrap().num_seconds() as f64;
        let latest = expected * 1.1 + 300.0;
        assert!((expected.max(280.0)..=latest).contains(&recovery), "{forecast:?}, expected {expected}");
        // Whoever came due first, half an hour and up to as much again before its death, waited for the whole hour and then
        // for its next attempt, up to five minutes.
        let stalest = forecast.stalest.unwrap();
        assert!(stalest >= TimeDelta::minutes(30) && stalest <= TimeDelta::minutes(36), "{forecast:?}");
    }

    #[test]
    fn a_limit_that_does_not_keep_up_is_told() {
        let forecast = forecast(&Product::by_default().unwrap(), 10_000_000, 500.0, 60, TimeDelta::hours(1));
        assert!(forecast.steady > 500.0 && forecast.recovery.is_none());
    }

    #[test]
    fn limits_and_durations_are_read() {
        assert_eq!("30000/m".parse(), Ok(Limit(500.0)));
        for text in ["", "500", "500/d", "-1/s", "x/s"] {
            assert!(text.parse::<Limit>().is_err(), "{text}");
        }
        assert_eq!(parse_duration("1.5h"), Ok(Duration::from_secs(5_400)));
        assert_eq!(parse_duration("300ms"), Ok(Duration::from_millis(300)));
        assert!(parse_duration("5").is_err() && parse_duration("x s").is_err());
    }
}
