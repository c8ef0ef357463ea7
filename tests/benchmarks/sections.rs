//! The sections: each measures one thing, and can be measured alone.

mod footprint;
mod isolation;
mod latency;
mod limited;
mod scale_out;
mod scan;
mod storm;
mod throughput;
mod tracing;

use std::fmt;
use std::future::Future;

use anyhow::Result;
use clap::ValueEnum;
use tokio::runtime::Runtime;
use tokio::task::spawn_blocking;

use crate::results::Measured;

/// One section.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Section {
    /// A worker beside Node, Celery and the floor.
    Throughput,
    /// Finding what is due among millions; claiming and publishing it.
    Scan,
    /// All connections expired at once.
    Storm,
    /// The same at a provider with a limit.
    Limited,
    /// What is added to the provider's own time.
    Latency,
    /// A slow provider beside a fast one.
    Isolation,
    /// Memory, idle processor time, size.
    Footprint,
    /// What tracing costs.
    Tracing,
    /// One, two and four workers.
    ScaleOut,
}

/// How much is measured.
#[derive(Debug, Clone)]
pub(crate) struct Scale {
    pub(crate) runs: usize,
    pub(crate) is_quick: bool,
    /// What the product is told beside its addresses, as variables.
    pub(crate) variables: Vec<(String, String)>,
}

impl Scale {
    pub(crate) fn full(runs: usize) -> Self {
        Self { runs, is_quick: false, variables: Vec::new() }
    }

    pub(crate) fn quick(variables: Vec<(String, String)>) -> Self {
        Self { runs: 3, is_quick: true, variables }
    }

    /// One number for the full form and another for the quick one.
    pub(crate) fn pick(&self, full: u64, quick: u64) -> u64 {
        if self.is_quick { quick } else { full }
    }
}

impl Section {
    pub(crate) const ALL: [Self; 9] = [
        Self::Throughput,
        Self::Scan,
        Self::Storm,
        Self::Limited,
        Self::Latency,
        Self::Isolation,
        Self::Footprint,
        Self::Tracing,
        Self::ScaleOut,
    ];
    /// Those that show ratios within a minute.
    pub(crate) const QUICK: [Self; 2] = [Self::Throughput, Self::Scan];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Throughput => "throughput",
            Self::Scan => "scan",
            Self::Storm => "storm",
            Self::Limited => "limited",
            Self::Latency => "latency",
            Self::Isolation => "isolation",
            Self::Footprint => "footprint",
            Self::Tracing => "tracing",
            Self::ScaleOut => "scale-out",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Throughput => "Throughput and processor time of a worker",
            Self::Scan => "Finding, claiming and publishing what is due",
            Self::Storm => "All connections expired at once",
            Self::Limited => "All connections expired at once, at a provider with a limit",
            Self::Latency => "Time that a refresh takes beyond its provider's",
            Self::Isolation => "A slow provider beside a fast one",
            Self::Footprint => "Memory, idle processor time and size",
            Self::Tracing => "Cost of tracing",
            Self::ScaleOut => "More workers",
        }
    }

    pub(crate) async fn measure(self, scale: &Scale) -> Result<Measured> {
        match self {
            Self::Throughput => throughput::measure(scale).await,
            Self::Scan => scan::measure(scale).await,
            Self::Storm => storm::measure(scale).await,
            Self::Limited => limited::measure(scale).await,
            Self::Latency => latency::measure(scale).await,
            Self::Isolation => isolation::measure(scale).await,
            Self::Footprint => footprint::measure(scale).await,
            Self::Tracing => tracing::measure(scale).await,
            Self::ScaleOut => scale_out::measure(scale).await,
        }
    }
}

/// Runs it on a runtime with a thread per core, as the product's binaries have one; ours has a single thread.
pub(crate) async fn on_all_cores<T: Send + 'static>(
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    spawn_blocking(move || Runtime::new()?.block_on(work)).await?
}

impl fmt::Display for Section {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}
