//! What tracing costs: a collector that takes all, at several shares of traces.

use anyhow::Result;

use super::Scale;
use crate::contestant::Contestant;
use crate::drain::{Drained, drain};
use crate::figures::Figure;
use crate::process::Program;
use crate::results::Measured;
use crate::stage::{Setting, Stage};

/// Shares of traces, in percent.
const SHARES: [u32; 4] = [0, 1, 10, 100];

const METHOD: &str = "\
As `throughput`, with an OTLP collector in a process of its own (`tests/benchmarks/bin/collector.rs`) as the endpoint of producer \
and worker, at several values of `telemetry.sample_ratio`. The collector's own work takes place on the same two cores, so the \
rate at 100 % pays for it too; the processor time is the worker's alone.";

pub(super) async fn measure(scale: &Scale) -> Result<Measured> {
    let count = scale.pick(22_000, 9_000);
    let mut stage = Stage::set(scale, Setting::default()).await?;
    stage.add_connections(count).await?;
    let mut drained: [Vec<Drained>; SHARES.len()] = Default::default();
    for _ in 0..scale.runs {
        for (share, drained) in SHARES.into_iter().zip(&mut drained) {
            let collector = Program::beside("bench-collector")?;
            let (_collector, endpoint) = collector.start_speaking(stage.folder.path()).await?;
            let ratio = f64::from(share) / 100.0;
            stage.environment.insert("FRESHET_TELEMETRY__OTLP_ENDPOINT".to_owned(), endpoint);
            stage.environment.insert("FRESHET_TELEMETRY__SAMPLE_RATIO".to_owned(), ratio.to_string());
            drained.push(drain(&stage, Contestant::FRESHET, count, count / 11).await?);
        }
    }
    let rates = drained.each_ref().map(|runs| runs.iter().map(|run| run.rate).collect::<Vec<_>>());
    let cpu = drained.each_ref().map(|runs| runs.iter().map(|run| run.cpu_per_refresh).collect::<Vec<_>>());
    let mut figures = Vec::new();
    for ((share, rates), cpu) in SHARES.into_iter().zip(&rates).zip(&cpu) {
        figures.push(Figure::new(format!("refreshes per second, {share} % sampled"), "/s", rates.clone()));
        figures.push(Figure::new(
            format!("processor time per refresh, {share} % sampled"),
            "µs",
            cpu.clone(),
        ));
    }
    let ([_, _, tenth, _], [none, _, _, _]) = (&cpu, &cpu);
    let bars = vec![
        Figure::ratio("processor time with 10 % sampled, over none", tenth, none)
            .at_most(1.05)
            .or_fail_at(1.5),
    ];
    Ok(Measured { method: METHOD.to_owned(), figures, bars, curves: Vec::new() })
}
