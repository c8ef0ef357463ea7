//! One worker with every guarantee and its default telemetry, beside others that do the same work with none.

use anyhow::Result;

use super::Scale;
use crate::contestant::Contestant;
use crate::drain::{Drained, drain};
use crate::figures::Figure;
use crate::results::Measured;
use crate::stage::{Setting, Stage};

/// The bar for the processor time of a refresh, in microseconds, unless the floor is higher.
const CPU_BAR: f64 = 110.0;
/// What the guarantees may add to the floor's processor time.
const CPU_OVER_FLOOR: f64 = 1.15;

const METHOD: &str = "\
Each contestant finds a quorum queue with a message for every one of the expired connections, and takes from it until the \
tokens of all of them are renewed. For each it reads the inputs and the channel from MariaDB, calls a provider on loopback \
that answers at once, stores token, expiry and time in MariaDB, puts details and token into Redis, and acknowledges. After \
each run every row and key is looked at. The first part of a run, in which processes start, is not counted. Everything shares \
the machine: servers, provider and contestant.

- **Freshet**: one worker process as it comes: default configuration, log lines to a file, metrics, events, fence, marks, \
breaker. Only addresses are set.
- **grouped floor** (`tests/benchmarks/bin/floor.rs`): the same crates without any guarantee, grouped: one query, one update, \
one pipeline and one acknowledgement for up to 256 refreshes, four groups at once.
- **Node** (`tests/peers/node`): one process, prefetch 256, prepared statements on 16 connections, 64 keep-alive connections to \
the provider, commands to Redis pipelined automatically.
- **Celery** (`tests/peers/celery`): prefork pool of 4, each process keeping its connections, prefetch 64, late \
acknowledgement, no results, no events, no heartbeats. It gets fewer connections per run, because it takes longer.";

pub(super) async fn measure(scale: &Scale) -> Result<Measured> {
    let mut contestants = vec![Contestant::FRESHET, Contestant::Floor, Contestant::Node];
    if !scale.is_quick {
        contestants.push(Contestant::Celery);
    }
    for contestant in &contestants {
        contestant.prepare().await?;
    }
    let count = scale.pick(22_000, 9_000);
    let stage = Stage::set(scale, Setting::default()).await?;
    stage.add_connections(count).await?;
    let mut drained: Vec<Vec<Drained>> = vec![Vec::new(); contestants.len()];
    for _ in 0..scale.runs {
        for (contestant, drained) in contestants.iter().zip(&mut drained) {
            let (count, warm_up) = match contestant {
                Contestant::Celery => (count / 10, count / 100),
                _ => (count, count / 11),
            };
            drained.push(drain(&stage, *contestant, count, warm_up).await?);
        }
    }
    let all = |which: Contestant, value: fn(&Drained) -> f64| -> Vec<f64> {
        let runs = contestants.iter().zip(&drained).filter(|(contestant, _)| **contestant == which);
        runs.flat_map(|(_, runs)| runs.iter().map(value)).collect()
    };
    let mut figures = Vec::new();
    for (name, unit, value) in COLUMNS {
        for contestant in &contestants {
            figures.push(Figure::new(
                format!("{name}, {}", contestant.name()),
                unit,
                all(*contestant, value),
            ));
        }
    }
    let rate = |which| all(which, |drained| drained.rate);
    let cpu = |which| all(which, |drained| drained.cpu_per_refresh);
    let (ours, floor) = (rate(Contestant::FRESHET), rate(Contestant::Floor));
    let allowed: Vec<f64> =
        cpu(Contestant::Floor).into_iter().map(|floor| (CPU_OVER_FLOOR * floor).max(CPU_BAR)).collect();
    let mut bars = vec![
        Figure::ratio("refreshes per second, over Node's", &ours, &rate(Contestant::Node))
            .at_least(2.5)
            .or_fail_at(0.9),
        Figure::ratio("refreshes per second, over the floor's", &ours, &floor).at_least(0.9).or_fail_at(0.16),
        Figure::ratio(
            "processor time per refresh, over the larger of 110 µs and 1.15 × the floor's",
            &cpu(Contestant::FRESHET),
            &allowed,
        )
        .at_most(1.0),
        Figure::ratio(
            "processor time per refresh, over the floor's",
            &cpu(Contestant::FRESHET),
            &cpu(Contestant::Floor),
        )
        .at_most(CPU_OVER_FLOOR)
        // The same stack without grouping needs 4.5 times the floor's time and more.
        .or_fail_at(4.4),
    ];
    if !scale.is_quick {
        bars.push(
            Figure::ratio("refreshes per second, over Celery's", &ours, &rate(Contestant::Celery))
                .at_least(20.0),
        );
    }
    Ok(Measured { method: METHOD.to_owned(), figures, bars, curves: Vec::new() })
}

type Column = (&'static str, &'static str, fn(&Drained) -> f64);

const COLUMNS: [Column; 3] = [
    ("refreshes per second", "/s", |drained| drained.rate),
    ("processor time per refresh", "µs", |drained| drained.cpu_per_refresh),
    ("peak memory", "MiB", |drained| drained.peak_mib),
];
