//! What tracing costs: a collector that takes all, at several shares of traces.

use anyhow::{Context, Result, ensure};

use super::Scale;
use crate::contestant::Contestant;
use crate::drain::{Drained, drain};
use crate::figures::Figure;
use crate::process::{Process, Program};
use crate::results::Measured;
use crate::stage::{Setting, Stage};

/// Shares of traces, in percent.
const SHARES: [u32; 4] = [0, 1, 10, 100];

const METHOD: &str = "\
As `throughput`, with an OTLP collector in a process of its own (`tests/benchmarks/bin/collector.rs`) as the endpoint of producer \
and worker, at several values of `telemetry.sample_ratio`. The collector's own work takes place on the same two cores, so the \
rate at 100 % pays for it too; the processor time is the worker's alone. What the collector has of the worker at the end is \
counted: without traces, or with more or fewer than were asked for, the run is an error.";

/// What the collector has of the worker's.
struct Arrived {
    /// Traces for a hundred refreshes.
    traces: f64,
    /// Spans of the worker in each.
    spans: f64,
}

pub(super) async fn measure(scale: &Scale) -> Result<Measured> {
    let count = scale.pick(22_000, 9_000);
    let mut stage = Stage::set(scale, Setting::default()).await?;
    stage.add_connections(count).await?;
    let mut drained: [Vec<Drained>; SHARES.len()] = Default::default();
    let mut arrived: [Vec<Arrived>; SHARES.len()] = Default::default();
    for _ in 0..scale.runs {
        for ((share, drained), arrived) in SHARES.into_iter().zip(&mut drained).zip(&mut arrived) {
            let collector = Program::beside("bench-collector")?;
            let (collector, endpoint) = collector.start_speaking(stage.folder.path()).await?;
            let ratio = f64::from(share) / 100.0;
            stage.environment.insert("FRESHET_TELEMETRY__OTLP_ENDPOINT".to_owned(), endpoint);
            stage.environment.insert("FRESHET_TELEMETRY__SAMPLE_RATIO".to_owned(), ratio.to_string());
            drained.push(drain(&stage, Contestant::FRESHET, count, count / 11).await?);
            let of_run = told(collector, count).await?;
            // The sampler decides by chance.
            let wanted = f64::from(share) * 0.5..=f64::from(share) * 1.5;
            ensure!(wanted.contains(&of_run.traces), "{share} % sampled: {} % arrived", of_run.traces);
            arrived.push(of_run);
        }
    }
    let rates = drained.each_ref().map(|runs| runs.iter().map(|run| run.rate).collect::<Vec<_>>());
    let cpu = drained.each_ref().map(|runs| runs.iter().map(|run| run.cpu_per_refresh).collect::<Vec<_>>());
    let mut figures = Vec::new();
    for (((share, rates), cpu), arrived) in SHARES.into_iter().zip(&rates).zip(&cpu).zip(&arrived) {
        figures.push(Figure::new(format!("refreshes per second, {share} % sampled"), "/s", rates.clone()));
        figures.push(Figure::new(
            format!("processor time per refresh, {share} % sampled"),
            "µs",
            cpu.clone(),
        ));
        if share > 0 {
            let traces = arrived.iter().map(|run| run.traces).collect();
            figures.push(Figure::new(
                format!("traces of a hundred refreshes, {share} % sampled"),
                "",
                traces,
            ));
            let spans = arrived.iter().map(|run| run.spans).collect();
            figures.push(Figure::new(format!("spans in a trace, {share} % sampled"), "", spans));
        }
    }
    let ([_, _, tenth, _], [none, _, _, _]) = (&cpu, &cpu);
    let bars = vec![
        Figure::ratio("processor time with 10 % sampled, over none", tenth, none)
            .at_most(1.05)
            .or_fail_at(1.5),
    ];
    Ok(Measured { method: METHOD.to_owned(), figures, bars, curves: Vec::new() })
}

/// What it says at its end.
async fn told(collector: Process, count: u64) -> Result<Arrived> {
    let words = collector.stop().await?;
    let line = words.lines().last().context("the collector says nothing")?;
    let (traces, spans) = line.split_once(' ').with_context(|| format!("the collector says {line}"))?;
    let (traces, spans): (f64, f64) = (traces.parse()?, spans.parse()?);
    Ok(Arrived { traces: traces * 100.0 / count as f64, spans: spans / traces.max(1.0) })
}
