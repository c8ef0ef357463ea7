//! The command line's arguments.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use freshet_shared::domain::sealing::is_key_id;

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
    /// Print what follows from a configuration (queues, sums of connections, shares of limits, how long a stop may take);
    /// the exit code is 1 if so many processes are too many. Asks nobody.
    Check(FleetCheckArguments),
    /// Create the companion tables and the recommended indexes; a second run changes nothing.
    Migrate(MigrateArguments),
    /// Look at provider definitions before the fleet uses them: check, list, show, try.
    Providers(ProvidersArguments),
    /// Encryption at rest: make keys, and bring stored secrets under a new one.
    #[command(subcommand)]
    Secrets(SecretsCommand),
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
    /// For people.
    Text,
    /// One JSON object on one line.
    Json,
}

/// `freshet check`.
#[derive(Debug, Clone, Args)]
pub struct FleetCheckArguments {
    /// Configuration file; environment variables override it.
    #[arg(long, env = "FRESHET_CONFIG")]
    pub config: Option<PathBuf>,
    /// Worker processes that run at once, those of a rolling update included; without it limits.workers.
    #[arg(long)]
    pub workers: Option<NonZeroU32>,
    /// Producer processes that run at once; without it limits.producers.
    #[arg(long)]
    pub producers: Option<NonZeroU32>,
    /// How the report looks.
    #[arg(long, value_enum, default_value_t = ReportForm::Text)]
    pub report: ReportForm,
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

/// `freshet providers`.
#[derive(Debug, Clone, Args)]
pub struct ProvidersArguments {
    /// What to do.
    #[command(subcommand)]
    pub command: ProvidersCommand,
    /// Configuration file; environment variables override it.
    #[arg(long, env = "FRESHET_CONFIG", global = true)]
    pub config: Option<PathBuf>,
}

/// What to do with definitions.
#[derive(Debug, Clone, Subcommand)]
pub enum ProvidersCommand {
    /// Find every fault of every definition; the exit code is 1 if there is one.
    Check(CheckArguments),
    /// One line per provider.
    List,
    /// Print the request that would be sent, its values masked, and how the answer is read.
    Show(ShowArguments),
    /// Make one real call, explain the answer and store nothing; the exit code is 0 only if a token was granted.
    Try(TryArguments),
}

/// `freshet providers check`.
#[derive(Debug, Clone, Args)]
pub struct CheckArguments {
    /// Folder with definitions (*.toml); without it the shipped ones and those of provider_directory.
    pub directory: Option<PathBuf>,
}

/// `freshet providers show`.
#[derive(Debug, Clone, Args)]
pub struct ShowArguments {
    /// The provider.
    pub name: String,
    /// The environment, in place of the default one.
    #[arg(long)]
    pub environment: Option<String>,
}

/// `freshet providers try`.
#[derive(Debug, Clone, Args)]
pub struct TryArguments {
    /// The provider.
    pub name: String,
    /// JSON file with what the merchant entered. Secrets of the operator's that no setting names are read from it too.
    #[arg(long)]
    pub input: PathBuf,
    /// The environment, in place of the one that the input chooses.
    #[arg(long)]
    pub environment: Option<String>,
    /// File with the refresh token, for a provider that spends one.
    #[arg(long)]
    pub refresh_token_file: Option<PathBuf>,
    /// Spend a refresh token that is replaced when it is used: the new one is thrown away.
    #[arg(long)]
    pub spend: bool,
}

/// `freshet secrets`.
#[derive(Debug, Clone, Subcommand)]
pub enum SecretsCommand {
    /// Seal with the primary key all stored secrets that are in plain text or under another key, while the fleet runs.
    Rotate(RotateArguments),
    /// Print a line with a new key for the key file.
    GenerateKey(GenerateKeyArguments),
}

/// `freshet secrets rotate`.
#[derive(Debug, Clone, Args)]
pub struct RotateArguments {
    /// Configuration file; environment variables override it.
    #[arg(long, env = "FRESHET_CONFIG")]
    pub config: Option<PathBuf>,
    /// Connections that are read at once.
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub batch: u32,
    /// Begin behind this connection id: where a run before this one says that it stands.
    #[arg(long, value_name = "ID")]
    pub after: Option<i64>,
    /// Count only; write nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Turn encryption off: write all sealed secrets in plain text. The key file's `primary` has to be "".
    #[arg(long)]
    pub to_plaintext: bool,
}

/// `freshet secrets generate-key`.
#[derive(Debug, Clone, Args)]
pub struct GenerateKeyArguments {
    /// The key's id: up to 32 letters, digits, `-`, `_` or `.`; without it, today's date.
    #[arg(long, value_parser = key_id)]
    pub id: Option<String>,
}

fn key_id(text: &str) -> Result<String, String> {
    if is_key_id(text) {
        return Ok(text.to_owned());
    }
    Err("must be 1 to 32 letters, digits, `-`, `_` or `.`".into())
}

fn token_lifetime(text: &str) -> Result<Duration, String> {
    let lifetime = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    // Expiries are whole seconds, and windows are fractions of the life.
    if lifetime < Duration::from_secs(6) || lifetime > Duration::from_secs(7 * 24 * 3_600) {
        return Err("must be between 6s and 7days".into());
    }
    Ok(lifetime)
}
