//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};
use freshet_shared::domain::lane::Lane;

use crate::scan::Target;

/// Finds the connections whose tokens are due and publishes one message for each.
#[derive(Debug, Parser)]
#[command(name = "producer", version)]
pub struct Arguments {
    /// Configuration file; environment variables override it.
    #[arg(long, global = true, env = "FRESHET_CONFIG")]
    pub config: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Scan on the configured cron expressions until stopped.
    Run,
    /// Scan once, print its report and exit: 0 if all that was claimed was published.
    Once {
        /// What for.
        #[arg(long)]
        lane: LaneArgument,
    },
}

/// A target, as an argument.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum LaneArgument {
    /// Tokens that expire within the early window.
    Early,
    /// Tokens that expire within the urgent window or have expired.
    Urgent,
    /// Connections whose next attempt after a failure, or a repair of their cache entries, is due.
    Retry,
}

impl From<LaneArgument> for Target {
    fn from(argument: LaneArgument) -> Self {
        match argument {
            LaneArgument::Early => Self::Lane(Lane::Early),
            LaneArgument::Urgent => Self::Lane(Lane::Urgent),
            LaneArgument::Retry => Self::NextAttempts,
        }
    }
}
