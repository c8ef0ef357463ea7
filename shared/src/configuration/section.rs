//! The sections, each a typed struct that checks itself.

use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use croner::Cron;
use croner::parser::{CronParser, Seconds};
use serde::{Deserialize, Deserializer};

use super::ConfigurationError;
use crate::domain::provider::egress::HostPattern;
use crate::domain::retry::RetryPolicy;
use crate::domain::secret::Secret;
use crate::domain::window::RefreshWindows;

fn wrong(key: &str, problem: impl std::fmt::Display) -> ConfigurationError {
    ConfigurationError::Key(format!("{key}: {problem}"))
}

/// `[database]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseSection {
    /// Where it is; holds a password.
    pub url: Option<Secret>,
    /// Connections per process.
    pub max_connections: u32,
    /// How long a statement waits for a connection of the pool.
    #[serde(with = "humantime_serde")]
    pub acquire_timeout: Duration,
    /// How long a statement waits for its answer, its connection included.
    #[serde(with = "humantime_serde")]
    pub statement_timeout: Duration,
}

impl DatabaseSection {
    pub(super) fn check(&self) -> Result<(), ConfigurationError> {
        let Some(url) = &self.url else { return Ok(()) };
        let is_url = match url.expose().split_once(':') {
            Some(("sqlite", _)) => true,
            // A URL that nobody can read would look like a server that does not answer.
            Some(("mysql" | "mariadb", _)) => {
                reqwest::Url::parse(url.expose()).is_ok_and(|url| url.has_host())
            }
            _ => {
                return Err(wrong("database.url", "must begin with mysql://, mariadb:// or sqlite:"));
            }
        };
        if is_url {
            return Ok(());
        }
        Err(wrong(
            "database.url",
            "cannot be read: it must look like mysql://user:password@host:3306/database, with special characters in \
             user and password percent-encoded",
        ))
    }
}

/// `[encryption]`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EncryptionSection {
    /// Where the keys are; unset: nothing is sealed.
    pub key_file: Option<PathBuf>,
}

/// `[rabbitmq]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RabbitMqSection {
    /// Where it is; holds a password.
    pub url: Option<Secret>,
    /// Interval of heartbeats.
    #[serde(with = "humantime_serde")]
    pub heartbeat: Duration,
    /// The longest wait for any answer of the broker.
    #[serde(with = "humantime_serde")]
    pub operation_timeout: Duration,
    /// How many times a message may come back before the broker dead-letters it.
    pub delivery_limit: u32,
    /// How long a worker goes on without a session.
    #[serde(with = "humantime_serde")]
    pub give_up_after: Duration,
}

/// `[redis]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RedisSection {
    /// Where it is; holds a password.
    pub url: Option<Secret>,
    /// Stands before every key.
    pub key_prefix: String,
    /// The longest wait for an answer.
    #[serde(with = "humantime_serde")]
    pub command_timeout: Duration,
    /// Connections per process.
    pub connections: usize,
    /// How often a worker looks whether Redis lost everything.
    #[serde(with = "humantime_serde")]
    pub check_every: Duration,
}

/// `[scan]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScanSection {
    /// Cron expression of the early lane.
    pub early: String,
    /// Cron expression of the urgent lane.
    pub urgent: String,
    /// Interval of the scan for next attempts.
    #[serde(with = "humantime_serde")]
    pub retry_every: Duration,
    /// Window of the early lane.
    #[serde(with = "humantime_serde")]
    pub early_window: Duration,
    /// Window of the urgent lane.
    #[serde(with = "humantime_serde")]
    pub urgent_window: Duration,
    /// No connection is refreshed again sooner, unless its token would die.
    #[serde(with = "humantime_serde")]
    pub shortest_interval: Duration,
    /// How long before its death a refresh token is warned of.
    #[serde(with = "humantime_serde")]
    pub grant_warning: Duration,
    /// Connections per page.
    pub page_size: u32,
    /// How long a claim holds.
    #[serde(with = "humantime_serde")]
    pub claim: Duration,
    /// How long a producer leads without renewing its lease.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    /// How long the history of failed attempts is kept.
    #[serde(with = "humantime_serde")]
    pub history: Duration,
}

impl ScanSection {
    /// The windows of both lanes.
    pub fn windows(&self) -> RefreshWindows {
        // `check` has refused what does not fit.
        let convert = |duration| TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
        RefreshWindows {
            early: convert(self.early_window),
            urgent: convert(self.urgent_window),
            shortest_interval: convert(self.shortest_interval),
        }
    }

    /// The cron expressions of early and urgent lane.
    ///
    /// # Errors
    /// Names the expression that is wrong.
    pub fn crons(&self) -> Result<(Cron, Cron), ConfigurationError> {
        let parse = |key, text: &str| {
            let cron = CronParser::builder()
                .seconds(Seconds::Optional)
                .build()
                .parse(text)
                .map_err(|_| wrong(key, "is not a cron expression, like */5 * * * *"))?;
            // Any day will do to find out whether it ever comes, for example not on 30 February.
            let comes = cron.find_next_occurrence(&DateTime::UNIX_EPOCH, true).is_ok();
            if comes { Ok(cron) } else { Err(wrong(key, "never comes")) }
        };
        Ok((parse("scan.early", &self.early)?, parse("scan.urgent", &self.urgent)?))
    }

    pub(super) fn check(&self) -> Result<(), ConfigurationError> {
        const LONGEST: Duration = Duration::from_secs(3_650 * 24 * 3_600);
        self.crons()?;
        if self.urgent_window.is_zero() {
            return Err(wrong("scan.urgent_window", "must be more than 0"));
        }
        if self.early_window <= self.urgent_window || self.early_window > LONGEST {
            return Err(wrong(
                "scan.early_window",
                "must be longer than scan.urgent_window, and at most 10 years",
            ));
        }
        if self.claim.is_zero() || self.claim > self.early_window {
            return Err(wrong(
                "scan.claim",
                "must be more than 0 and at most scan.early_window, or a lost message lets a token die",
            ));
        }
        for (key, time) in [
            ("scan.history", self.history),
            ("scan.shortest_interval", self.shortest_interval),
            ("scan.grant_warning", self.grant_warning),
        ] {
            if time > LONGEST {
                return Err(wrong(key, "must be at most 10 years"));
            }
        }
        if !(Duration::from_secs(1)..=Duration::from_secs(600)).contains(&self.lease) {
            return Err(wrong("scan.lease", "must be between 1s and 10m"));
        }
        if self.retry_every.is_zero() {
            return Err(wrong("scan.retry_every", "must be more than 0"));
        }
        if !(1..=10_000).contains(&self.page_size) {
            return Err(wrong("scan.page_size", "must be between 1 and 10000"));
        }
        Ok(())
    }
}

/// `[worker]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkerSection {
    /// Refreshes in flight at once.
    pub concurrency: u16,
    /// How long a refresh in flight may take to finish after SIGTERM.
    #[serde(with = "humantime_serde")]
    pub shutdown_grace: Duration,
}

impl WorkerSection {
    pub(super) fn check(&self) -> Result<(), ConfigurationError> {
        if self.concurrency == 0 {
            return Err(wrong("worker.concurrency", "must be more than 0"));
        }
        Ok(())
    }
}

/// `[call]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CallSection {
    /// To reach a provider.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// For a whole call with its answer.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// How long a connection is one worker's from before a call that spends its refresh token.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
    /// A longer answer is no token.
    pub max_answer_bytes: usize,
}

impl CallSection {
    pub(super) fn check(&self) -> Result<(), ConfigurationError> {
        if self.timeout.is_zero() || self.timeout > Duration::from_secs(300) {
            return Err(wrong("call.timeout", "must be more than 0 and at most 5m"));
        }
        if self.connect_timeout.is_zero() || self.connect_timeout >= self.timeout {
            return Err(wrong("call.connect_timeout", "must be more than 0 and shorter than call.timeout"));
        }
        if self.max_answer_bytes == 0 {
            return Err(wrong("call.max_answer_bytes", "must be more than 0"));
        }
        Ok(())
    }
}

/// `[egress]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EgressSection {
    /// Hosts, with or without a port, that may be called without TLS and at any address.
    #[serde(deserialize_with = "list")]
    pub allow: Vec<String>,
}

impl EgressSection {
    /// As checked patterns.
    ///
    /// # Errors
    /// Names the entry that is no host, and does not repeat it.
    pub fn hosts(&self) -> Result<Vec<HostPattern>, ConfigurationError> {
        let parse = |(index, text): (usize, &String)| {
            let key = format!("egress.allow[{index}]");
            let host: HostPattern = text.parse().map_err(|error| wrong(&key, error))?;
            if host.is_wildcard() {
                return Err(wrong(&key, "must be one host, not all below a domain: name each"));
            }
            Ok(host)
        };
        self.allow.iter().enumerate().map(parse).collect()
    }
}

/// A list, or a text with its entries separated by commas, as an environment variable has it.
fn list<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged, expecting = "must be a list of texts, or a text with commas")]
    enum List {
        Entries(Vec<String>),
        Text(String),
    }
    Ok(match List::deserialize(deserializer)? {
        List::Entries(entries) => entries,
        List::Text(text) if text.trim().is_empty() => Vec::new(),
        List::Text(text) => text.split(',').map(|entry| entry.trim().to_owned()).collect(),
    })
}

/// `[retry]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RetrySection {
    /// The shortest wait.
    #[serde(with = "humantime_serde")]
    pub shortest: Duration,
    /// The longest wait.
    #[serde(with = "humantime_serde")]
    pub longest: Duration,
    /// How often a misconfigured connection is looked at.
    #[serde(with = "humantime_serde")]
    pub recheck: Duration,
}

impl RetrySection {
    /// As a checked policy.
    ///
    /// # Errors
    /// If the bounds contradict each other.
    pub fn policy(&self) -> Result<RetryPolicy, ConfigurationError> {
        RetryPolicy::new(self.shortest, self.longest, self.recheck)
            .map_err(|error| ConfigurationError::Key(error.to_string()))
    }
}

/// `[events]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsSection {
    /// Whether workers tell others what refreshes come to.
    pub enabled: bool,
}

/// `[telemetry]`. Its endpoint may hold a password, so it has no `Debug`.
#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetrySection {
    /// How log lines look.
    pub format: LogFormat,
    /// What is logged.
    pub filter: String,
    /// Where traces go.
    #[serde(default)]
    pub otlp_endpoint: Option<String>,
    /// Share of traces that is sampled.
    pub sample_ratio: f64,
    /// How many ended spans may wait to be sent.
    pub span_queue: usize,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum LogFormat {
    /// One JSON object per line.
    Json,
    /// For people.
    Pretty,
    /// Pretty on a terminal, JSON elsewhere.
    Auto,
}

impl TryFrom<String> for LogFormat {
    type Error = &'static str;

    fn try_from(word: String) -> Result<Self, Self::Error> {
        match word.as_str() {
            "json" => Ok(Self::Json),
            "pretty" => Ok(Self::Pretty),
            "auto" => Ok(Self::Auto),
            _ => Err("must be json, pretty or auto"),
        }
    }
}

impl TelemetrySection {
    pub(super) fn check(&self) -> Result<(), ConfigurationError> {
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err(wrong("telemetry.sample_ratio", "must be between 0 and 1"));
        }
        if !(1..=1_000_000).contains(&self.span_queue) {
            return Err(wrong("telemetry.span_queue", "must be between 1 and 1000000"));
        }
        if let Err(error) = self.filter.parse::<tracing_subscriber::EnvFilter>() {
            return Err(wrong("telemetry.filter", error));
        }
        Ok(())
    }
}
