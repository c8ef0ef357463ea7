//! The command line's arguments.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Keeps the access tokens of marketplace connections fresh.
#[derive(Debug, Parser)]
#[command(name = "freshet", version)]
pub struct Arguments {
    /// What to do; without a command: `dev`.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process: a simulated fleet, or with --config the operator's own SQLite file.
    Dev(DevArguments),
    /// Create the companion tables and the recommended indexes; a second run changes nothing.
    Migrate(MigrateArguments),
}

/// `freshet dev`.
#[derive(Debug, Clone, Args)]
pub struct DevArguments {
    /// Simulated connections, half of them Fynd's and half Very's.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000), conflicts_with = "config")]
    pub connections: u32,
    /// How long to run, for example 20s; the default is 60s, and with --config until stopped.
    #[arg(long, value_parser = humantime::parse_duration)]
    pub duration: Option<Duration>,
    /// Life of a simulated token, at least 6s; an hour scaled down, and everything that follows from it with it.
    #[arg(long, default_value = "60s", value_parser = token_lifetime, conflicts_with = "config")]
    pub token_lifetime: Duration,
    /// What the last line of standard output is.
    #[arg(long, value_enum, default_value_t = ReportForm::Text)]
    pub report: ReportForm,
    /// Run on this configuration's SQLite file and the real providers, without RabbitMQ and Redis.
    #[arg(long)]
    pub config: Option<PathBuf>,
}

/// How the report looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReportForm {
    /// A table.
    Text,
    /// One JSON object on one line.
    Json,
}

/// `freshet migrate`.
#[derive(Debug, Clone, Args)]
pub struct MigrateArguments {
    /// Configuration file; environment variables override it.
    #[arg(long, env = "FRESHET_CONFIG")]
    pub config: Option<PathBuf>,
    /// Create the platform's own tables too, where they are missing: for an empty database of your own.
    #[arg(long)]
    pub platform_tables: bool,
}

fn token_lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    // Expiries are whole seconds, and windows are fractions of the life.
    if lifetime < Duration::from_secs(6) || lifetime > Duration::from_secs(7 * 24 * 3_600) {
        return Err("must be between 6s and 7days".into());
    }
    Ok(lifetime)
}
