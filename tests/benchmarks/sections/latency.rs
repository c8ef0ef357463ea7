//! How long a refresh takes beyond what its provider takes, at several shares of full load.

use std::time::Duration;

use anyhow::Result;
use hdrhistogram::Histogram;

use super::Scale;
use crate::contestant::Contestant;
use crate::drain::drain;
use crate::figures::Figure;
use crate::load::Listener;
use crate::results::Measured;
use crate::stage::{Setting, Stage};

const PROVIDER: Duration = Duration::from_millis(20);
/// Percent of full load.
const SHARES: [u32; 3] = [10, 50, 90];
const QUANTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

const METHOD: &str = "\
The provider takes 20 ms for each answer. Full load is the rate at which a worker empties a full queue of 20,000 messages in the \
same run. Then messages come evenly at a share of that rate for ten seconds, the first two of which, in which connections are \
opened, are not measured. A refresh counts from the time at which its message \
was to be published until a subscriber of `freshet.events` has heard that the token is stored: publishing, queue, load, call, \
commit, cache and event, less 20 ms. Publisher and subscriber share the two cores too.";

pub(super) async fn measure(scale: &Scale) -> Result<Measured> {
    let count = scale.pick(60_000, 10_000);
    let seconds = scale.pick(10, 4) as f64;
    let stage = Stage::set(scale, Setting { provider_delay: PROVIDER, ..Setting::default() }).await?;
    stage.add_connections(count).await?;
    let mut full = Vec::new();
    let mut added: [[Vec<f64>; QUANTILES.len()]; SHARES.len()] = Default::default();
    for _ in 0..scale.runs {
        let all = count / 3;
        full.push(drain(&stage, Contestant::FRESHET, all, all / 10).await?.rate);
        let full = full.last().copied().unwrap_or_default();
        for (share, added) in SHARES.into_iter().zip(&mut added) {
            let rate = full * f64::from(share) / 100.0;
            let times = under_load(&stage, rate, ((rate * seconds) as u64).min(count)).await?;
            for ((_, quantile), added) in QUANTILES.into_iter().zip(added) {
                let micros = times.value_at_quantile(quantile) as f64;
                added.push(micros / 1e3 - PROVIDER.as_secs_f64() * 1e3);
            }
        }
    }
    let mut figures = vec![Figure::new("refreshes per second at full load", "/s", full)];
    for (share, added) in SHARES.into_iter().zip(&added) {
        for ((name, _), added) in QUANTILES.into_iter().zip(added) {
            figures.push(Figure::new(
                format!("added at {share} % of full load, {name}"),
                "ms",
                added.clone(),
            ));
        }
    }
    let [_, [median, high, _], _] = &added;
    let bars = vec![
        Figure::new("added at half load, p50", "ms", median.clone()).at_most(10.0),
        Figure::new("added at half load, p99", "ms", high.clone()).at_most(50.0),
    ];
    Ok(Measured { method: METHOD.to_owned(), figures, bars, curves: Vec::new() })
}

/// Microseconds from publish to event.
async fn under_load(stage: &Stage, rate: f64, count: u64) -> Result<Histogram<u64>> {
    stage.expire(count).await?;
    let worker = stage.worker()?.start(stage.folder.path())?;
    stage.until_consumed_by(1).await?;
    let listener = Listener::start(stage).await?;
    let times = listener.put_under_load(1..=i64::try_from(count)?, rate).await?;
    worker.stop().await?;
    Ok(times)
}
