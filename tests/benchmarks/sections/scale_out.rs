//! More workers on the same queue.

use anyhow::Result;

use super::Scale;
use crate::contestant::Contestant;
use crate::drain::{Drained, drain};
use crate::figures::Figure;
use crate::results::Measured;
use crate::stage::{Setting, Stage};

const WORKERS: [usize; 3] = [1, 2, 4];

const METHOD: &str = "\
As `throughput`, with one, two and four workers on the same queue. The two cores are full with one of them already, so the rate \
cannot grow here; what workers had in common, a lock or a row, would show as processor time per refresh that grows with their \
number, or as a rate that falls.";

pub(super) async fn measure(scale: &Scale) -> Result<Measured> {
    let count = scale.pick(22_000, 9_000);
    let stage = Stage::set(scale, Setting::default()).await?;
    stage.add_connections(count).await?;
    let mut drained: [Vec<Drained>; WORKERS.len()] = Default::default();
    for _ in 0..scale.runs {
        for (workers, drained) in WORKERS.into_iter().zip(&mut drained) {
            drained.push(drain(&stage, Contestant::Freshet { workers }, count, count / 5).await?);
        }
    }
    let values = |value: fn(&Drained) -> f64| {
        drained.each_ref().map(|runs| runs.iter().map(value).collect::<Vec<_>>())
    };
    let (rates, cpu) = (values(|run| run.rate), values(|run| run.cpu_per_refresh));
    let mut figures = Vec::new();
    for ((workers, rates), cpu) in WORKERS.into_iter().zip(&rates).zip(&cpu) {
        let name = if workers == 1 { "1 worker".to_owned() } else { format!("{workers} workers") };
        figures.push(Figure::new(format!("refreshes per second, {name}"), "/s", rates.clone()));
        figures.push(Figure::new(format!("processor time per refresh, {name}"), "µs", cpu.clone()));
    }
    let [one, _, four] = &cpu;
    let bars = vec![
        Figure::ratio("processor time per refresh of four workers, over one", four, one)
            .at_most(1.2)
            .or_fail_at(2.0),
    ];
    Ok(Measured { method: METHOD.to_owned(), figures, bars, curves: Vec::new() })
}
