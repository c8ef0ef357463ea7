//! What it takes to run: memory, processor time while there is nothing to do, and the size of the binaries.

use std::fs;

use anyhow::{Context, Result};
use tokio::time::{Duration, Instant, sleep};

use super::Scale;
use crate::contestant::Contestant;
use crate::drain::drain;
use crate::figures::Figure;
use crate::process::{Process, Usage};
use crate::results::Measured;
use crate::stage::{Setting, Stage};

/// Long enough for a minute's scan of each lane.
const IDLE: Duration = Duration::from_secs(60);

const METHOD: &str = "\
Peak memory is the kernel's count of the most that was ever resident (`VmHWM`), of a worker at full rate and of one that only \
waits. A producer and a worker run beside 1,000,000 connections of which none is due, with the default schedule, for a minute; \
processor time is a share of one core. Binaries are those of `cargo build --release`.";

pub(super) async fn measure(scale: &Scale) -> Result<Measured> {
    let count = scale.pick(22_000, 9_000);
    let busy_stage = Stage::set(scale, Setting::default()).await?;
    busy_stage.add_connections(count).await?;
    let idle_stage = Stage::set(scale, Setting { buffer_pool_mib: 1024, ..Setting::default() }).await?;
    idle_stage.add_platform(scale.pick(1_000_000, 100_000)).await?;
    let mut busy = Vec::new();
    let mut idle = [Vec::new(), Vec::new()];
    for _ in 0..scale.runs {
        busy.push(drain(&busy_stage, Contestant::FRESHET, count, count / 11).await?.peak_mib);
        let folder = idle_stage.folder.path();
        let worker = idle_stage.worker()?.start(folder)?;
        let producer = idle_stage.producer(&["run"])?.start(folder)?;
        for (process, idle) in idled([worker, producer]).await?.into_iter().zip(&mut idle) {
            idle.push(process);
        }
    }
    let peak = Figure::new("peak memory of a worker at full rate", "MiB", busy);
    let mut figures = vec![peak.clone()];
    let mut bars = vec![peak.at_most(96.0)];
    for (name, idle) in ["worker", "producer"].into_iter().zip(&idle) {
        let memory = idle.iter().map(|usage| usage.peak).collect();
        let share = idle.iter().map(|usage| usage.cpu / IDLE.as_secs_f64() * 100.0).collect();
        let share = Figure::new(format!("processor time of an idle {name}"), "% of a core", share);
        figures.push(Figure::new(format!("peak memory of an idle {name}"), "MiB", memory));
        figures.push(share.clone());
        if name == "producer" {
            bars.push(share.at_most(1.0));
        }
    }
    for name in ["producer", "worker", "freshet"] {
        figures.push(Figure::new(format!("size of `{name}`"), "MiB", vec![size(name)?]));
    }
    Ok(Measured { method: METHOD.to_owned(), figures, bars, curves: Vec::new() })
}

/// What they use while they are left alone, once they have started.
async fn idled<const N: usize>(mut processes: [Process; N]) -> Result<Vec<Usage>> {
    sleep(Duration::from_secs(2)).await;
    let mut before = Vec::new();
    for process in &mut processes {
        before.push(process.usage()?);
    }
    let started = Instant::now();
    sleep(IDLE.saturating_sub(started.elapsed())).await;
    let mut used = Vec::new();
    for (process, before) in processes.iter_mut().zip(before) {
        let after = process.usage()?;
        used.push(Usage { cpu: after.cpu - before.cpu, ..after });
    }
    for process in processes {
        process.stop().await?;
    }
    Ok(used)
}

fn size(name: &str) -> Result<f64> {
    let own = std::env::current_exe().context("the benchmark does not know where it is")?;
    Ok(fs::metadata(own.with_file_name(name))?.len() as f64 / 1024.0 / 1024.0)
}
