//! The command line.

use std::num::NonZeroUsize;

use clap::Parser;
use freshet_shared::failpoints::Guard;

use crate::plan::PlanArguments;

/// Runs fleets with seeded faults, and looks for what must never happen.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
pub(crate) struct Arguments {
    /// What to do; without a command: run seeds.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// How many seeds to run.
    #[arg(long, default_value_t = 100, conflicts_with = "seed")]
    pub(crate) seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1, conflicts_with = "seed")]
    pub(crate) from: u64,
    /// One seed, with all that happens printed.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Virtual hours that each runs.
    #[arg(long, default_value_t = 5)]
    pub(crate) hours: u32,
    /// Runs at once; 0 for one on each processor.
    #[arg(long, default_value_t = 0)]
    pub(crate) jobs: usize,
    /// Turns a guard of the product off, to see that it is missed.
    #[arg(long, value_enum)]
    pub(crate) without: Option<Without>,
}

/// Something else than running seeds.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Says what a fleet needs under a provider's limit, and what an outage does to it.
    Plan(PlanArguments),
}

/// A guard of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Without {
    /// The preconditions of a commit.
    Fence,
    /// The note of a call that spends a refresh token, before it is sent.
    Journal,
}

impl From<Without> for Guard {
    fn from(without: Without) -> Self {
        match without {
            Without::Fence => Self::Fence,
            Without::Journal => Self::Journal,
        }
    }
}

impl Arguments {
    /// Runs at once.
    pub(crate) fn jobs(&self) -> usize {
        match self.jobs {
            0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            jobs => jobs,
        }
    }
}
