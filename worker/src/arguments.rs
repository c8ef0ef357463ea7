//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand};

/// Takes messages about due connections and refreshes their tokens.
#[derive(Debug, Parser)]
#[command(name = "worker", version)]
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
    /// Work until stopped.
    Run,
}
