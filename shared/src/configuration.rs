//! The configuration: defaults, then a file, then the environment; read once at start, checked as a whole.

mod limits;
mod monitoring;
mod secrets;
mod section;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use config::{Config, Environment, File, FileFormat};
use serde::Deserialize;
use thiserror::Error;

use crate::domain::provider::ProviderSettings;
use crate::domain::provider::catalogue::{CatalogueError, Providers};
use crate::domain::sealing::KeyRing;
use crate::domain::secret::Secret;

pub use limits::{BreakerSection, LimitsSection};
pub use monitoring::MonitoringSection;
pub use section::{
    CallSection, DatabaseSection, EgressSection, EncryptionSection, EventsSection, LogFormat,
    RabbitMqSection, RedisSection, RetrySection, ScanSection, TelemetrySection, WorkerSection,
};

/// The default configuration, with every key explained.
pub const DEFAULTS: &str = include_str!("../freshet.toml");

/// The prefix of environment variables that override keys.
const PREFIX: &str = "FRESHET";

/// The variable that names the configuration file.
pub const FILE_VARIABLE: &str = "FRESHET_CONFIG";

/// Everything that can be configured. Holds secrets, so it has no `Debug`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Configuration {
    /// Where further provider definitions are.
    #[serde(default)]
    pub provider_directory: Option<PathBuf>,
    /// MySQL, MariaDB or SQLite.
    pub database: DatabaseSection,
    /// Encryption at rest.
    #[serde(default)]
    pub encryption: EncryptionSection,
    /// The broker.
    pub rabbitmq: RabbitMqSection,
    /// The cache.
    pub redis: RedisSection,
    /// The producer's scans.
    pub scan: ScanSection,
    /// The worker's jobs.
    pub worker: WorkerSection,
    /// Calls to providers.
    pub call: CallSection,
    /// Where calls may go to.
    pub egress: EgressSection,
    /// Waiting after failures.
    pub retry: RetrySection,
    /// How the limits of providers are shared.
    pub limits: LimitsSection,
    /// When a provider is left alone.
    pub breaker: BreakerSection,
    /// Telling others what refreshes come to.
    pub events: EventsSection,
    /// Logs and traces.
    pub telemetry: TelemetrySection,
    /// Probes and metrics.
    pub monitoring: MonitoringSection,
    /// Settings per provider.
    #[serde(default)]
    pub providers: BTreeMap<String, ProviderSettings>,
    /// The variables that [`Self::providers`] names as places of secrets.
    #[serde(skip)]
    secrets: secrets::Variables,
}

/// A configuration that cannot be used. Names the key, never a value that may be secret.
#[derive(Debug, Error)]
pub enum ConfigurationError {
    /// The file cannot be read.
    #[error("configuration file {path} cannot be read: {problem}")]
    File {
        /// Its path.
        path: String,
        /// What the system says.
        problem: String,
    },
    /// The file is not TOML.
    #[error("configuration file {path}: line {line}: {problem}")]
    Syntax {
        /// Its path.
        path: String,
        /// Where reading ended.
        line: usize,
        /// What is wrong there.
        problem: String,
    },
    /// A key is unknown, missing or of the wrong form.
    #[error("configuration: {0}")]
    Key(String),
    /// A provider is at fault.
    #[error("configuration")]
    Providers(#[from] CatalogueError),
}

impl Configuration {
    /// Reads defaults, `file` and the variables of `environment` that begin with `FRESHET_`.
    ///
    /// # Errors
    /// Names the file or the key that is at fault.
    pub fn load(
        file: Option<&Path>,
        environment: &HashMap<String, String>,
    ) -> Result<Self, ConfigurationError> {
        let mut builder = Config::builder().add_source(File::from_str(DEFAULTS, FileFormat::Toml));
        if let Some(path) = file {
            let text = std::fs::read_to_string(path).map_err(|error| ConfigurationError::File {
                path: path.display().to_string(),
                problem: error.to_string(),
            })?;
            check_syntax(path, &text)?;
            builder = builder.add_source(File::from_str(&text, FileFormat::Toml));
        }
        let overriding = environment
            .iter()
            .filter(|(name, _)| {
                name.starts_with("FRESHET_") && *name != FILE_VARIABLE && !is_service_link(name)
            })
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        let source =
            Environment::with_prefix(PREFIX).prefix_separator("_").separator("__").source(Some(overriding));
        let merged = builder.add_source(source).build().map_err(|error| key_error(&error.to_string()))?;
        let mut configuration: Self = serde_path_to_error::deserialize(merged).map_err(|error| {
            let path = error.path().to_string();
            key_error(&format!("{path}: {}", error.inner()))
        })?;
        configuration.check()?;
        configuration.secrets = secrets::Variables::named_by(&configuration.providers, environment);
        Ok(configuration)
    }

    /// The providers as [`Self::providers`], with the operator's secrets. For those who call them: whoever only scans
    /// needs no secret.
    ///
    /// # Errors
    /// As for [`Self::providers`]; or names the key whose secret is not set or cannot be read.
    pub fn providers_with_secrets(&self) -> Result<Providers, ConfigurationError> {
        self.providers()?.with_secrets(|name, key| self.provider_secret(name, key))
    }

    /// One of the operator's secrets, all of its values in order; `None` where no setting says where it is.
    ///
    /// # Errors
    /// Names the key whose secret cannot be read.
    pub fn provider_secret(
        &self,
        provider: &str,
        key: &str,
    ) -> Result<Option<Vec<Secret>>, ConfigurationError> {
        let sources = self.providers.get(provider).and_then(|settings| settings.secrets.get(key));
        sources.map(|sources| self.secrets.read(provider, key, sources)).transpose()
    }

    /// The providers, with the definitions of [`Self::provider_directory`].
    ///
    /// # Errors
    /// Names the directory, the definition or the key that is at fault.
    pub fn providers(&self) -> Result<Providers, ConfigurationError> {
        let mut more = Vec::new();
        if let Some(directory) = &self.provider_directory {
            let unreadable = |path: &Path, error: std::io::Error| ConfigurationError::File {
                path: path.display().to_string(),
                problem: error.to_string(),
            };
            let entries = std::fs::read_dir(directory).map_err(|error| unreadable(directory, error))?;
            let mut paths = Vec::new();
            for entry in entries {
                paths.push(entry.map_err(|error| unreadable(directory, error))?.path());
            }
            paths.retain(|path| path.extension().is_some_and(|extension| extension == "toml"));
            paths.sort();
            for path in paths {
                let text = std::fs::read_to_string(&path).map_err(|error| unreadable(&path, error))?;
                more.push((path.display().to_string(), text));
            }
        }
        Ok(Providers::new(&more, &self.providers)?)
    }

    /// The keys of [`EncryptionSection::key_file`]; `None` where it is not set.
    ///
    /// # Errors
    /// Names the file, and the key in it that is at fault.
    pub fn key_ring(&self) -> Result<Option<KeyRing>, ConfigurationError> {
        let Some(path) = &self.encryption.key_file else { return Ok(None) };
        let file = path.display().to_string();
        let fail = |problem: String| ConfigurationError::Key(format!("encryption.key_file: {problem}"));
        let text = std::fs::read_to_string(path)
            .map(Secret::new)
            .map_err(|error| fail(format!("{file} cannot be read: {error}")))?;
        KeyRing::parse(&file, &text).map(Some).map_err(|error| fail(error.to_string()))
    }

    /// A URL that this process cannot do without.
    ///
    /// # Errors
    /// Names the key that is not set.
    pub fn required<'a>(key: &str, url: Option<&'a Secret>) -> Result<&'a Secret, ConfigurationError> {
        url.ok_or_else(|| {
            let variable = format!("{PREFIX}_{}", key.replace('.', "__").to_uppercase());
            ConfigurationError::Key(format!("{key}: is not set; set it in the file or as {variable}"))
        })
    }

    fn check(&self) -> Result<(), ConfigurationError> {
        self.database.check()?;
        self.scan.check()?;
        self.worker.check()?;
        self.call.check()?;
        self.egress.hosts()?;
        self.retry.policy()?;
        self.limits.check(self.database.max_connections)?;
        self.breaker.policy(self.retry.longest)?;
        self.telemetry.check()?;
        self.monitoring.check()?;
        let times = [
            ("database.acquire_timeout", self.database.acquire_timeout),
            ("database.statement_timeout", self.database.statement_timeout),
            ("rabbitmq.operation_timeout", self.rabbitmq.operation_timeout),
            ("redis.command_timeout", self.redis.command_timeout),
            ("rabbitmq.give_up_after", self.rabbitmq.give_up_after),
            ("redis.check_every", self.redis.check_every),
        ];
        for (key, value) in times {
            if value.is_zero() {
                return Err(ConfigurationError::Key(format!("{key}: must be more than 0")));
            }
        }
        let limits = [
            ("database.max_connections", u64::from(self.database.max_connections)),
            ("rabbitmq.delivery_limit", u64::from(self.rabbitmq.delivery_limit)),
            ("redis.connections", self.redis.connections as u64),
        ];
        for (key, value) in limits {
            if value == 0 {
                return Err(ConfigurationError::Key(format!("{key}: must be more than 0")));
            }
        }
        Ok(())
    }
}

/// Kubernetes gives every pod variables like `FRESHET_WORKER_SERVICE_HOST` and `FRESHET_WORKER_PORT_80_TCP` for a service
/// called `freshet-worker`. None of our keys looks like that.
fn is_service_link(name: &str) -> bool {
    !name.contains("__")
        && (name.contains("_SERVICE_HOST")
            || name.contains("_SERVICE_PORT")
            || name.ends_with("_PORT")
            || name.contains("_PORT_"))
}

/// Says where the file is no TOML. The library's whole message would quote the line, with the password that may be in it.
fn check_syntax(path: &Path, text: &str) -> Result<(), ConfigurationError> {
    let Err(error) = text.parse::<toml::Table>() else { return Ok(()) };
    let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
    Err(ConfigurationError::Syntax {
        path: path.display().to_string(),
        line: before.matches('\n').count() + 1,
        problem: error.message().to_owned(),
    })
}

/// The libraries' words without the value, which they quote and which may be a password that was put at the wrong key.
fn key_error(text: &str) -> ConfigurationError {
    ConfigurationError::Key(match (text.find('"'), text.rfind('"')) {
        (Some(first), Some(last)) if first < last => format!("{}…{}", &text[..first], &text[last + 1..]),
        _ => text.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use super::*;
    use crate::domain::provider::catalogue::SHIPPED;

    fn environment(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn refused(pairs: &[(&str, &str)]) -> String {
        Configuration::load(None, &environment(pairs))
            .err()
            .map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn the_defaults_are_complete_and_without_contradiction() {
        let configuration = Configuration::load(None, &HashMap::new()).ok().unwrap();
        assert!(configuration.database.url.is_none());
        assert_eq!(configuration.scan.windows().early, chrono::TimeDelta::minutes(30));
        assert_eq!(configuration.providers().unwrap().iter().count(), SHIPPED.len());
    }

    #[test]
    fn the_environment_overrides_and_foreign_variables_are_left_alone() {
        let configuration = Configuration::load(
            None,
            &environment(&[
                ("FRESHET_DATABASE__URL", "mysql://u:p@h/d"),
                ("FRESHET_WORKER__CONCURRENCY", "7"),
                ("FRESHET_SCAN__EARLY_WINDOW", "45m"),
                ("FRESHET_PROVIDERS__VERY__INTEGRATION_TYPE", "21"),
                ("FRESHET_CONFIG", "/nowhere"),
                ("FRESHETTE", "x"),
                ("FRESHET_WORKER_SERVICE_HOST", "10.0.0.1"),
                ("FRESHET_WORKER_SERVICE_PORT_HTTP", "80"),
                ("FRESHET_WORKER_PORT", "tcp://10.0.0.1:80"),
                ("FRESHET_WORKER_PORT_80_TCP_ADDR", "10.0.0.1"),
                ("FRESHET_REDIS__KEY_PREFIX", "007"),
                ("FRESHET_TELEMETRY__SAMPLE_RATIO", "0.25"),
                ("FRESHET_EGRESS__ALLOW", "platform:8080, 127.0.0.1"),
                ("FRESHET_LIMITS__WORKERS", "12"),
                ("FRESHET_PROVIDERS__VERY__LIMITS__CONCURRENCY", "16"),
                ("FRESHET_PROVIDERS__VERY__LIMITS__RATE__REQUESTS", "1000"),
                ("FRESHET_PROVIDERS__VERY__LIMITS__RATE__PER", "1h"),
                ("PATH", "/bin"),
            ]),
        )
        .ok()
        .unwrap();
        assert_eq!(configuration.database.url.as_ref().unwrap().expose(), "mysql://u:p@h/d");
        assert_eq!(configuration.worker.concurrency, 7);
        assert_eq!(configuration.redis.key_prefix, "007");
        assert_eq!(configuration.limits.workers.get(), 12);
        assert!((configuration.telemetry.sample_ratio - 0.25).abs() < f64::EPSILON);
        assert_eq!(configuration.scan.windows().early, chrono::TimeDelta::minutes(45));
        let allowed: Vec<_> = configuration.egress.hosts().unwrap().iter().map(ToString::to_string).collect();
        assert_eq!(allowed, ["platform:8080", "127.0.0.1"]);
        let providers = configuration.providers().unwrap();
        let very = providers.get("very").unwrap();
        assert_eq!(very.integration_type.as_deref(), Some("21"));
        assert_eq!(very.limits().concurrency.map(NonZeroU32::get), Some(16));
        assert_eq!(very.limits().rate.map(|rate| rate.interval()), Some(Duration::from_millis(3_600)));
    }

    #[test]
    fn secrets_are_fetched_for_who_calls_and_named_where_they_are_missing() {
        let folder = std::env::temp_dir().join(format!("freshet-secrets-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("definitions")).unwrap();
        let definition = r#"
name = "app"
title = "App"
integration_type = "77"
[[secrets]]
key = "client_secret"
[token.request]
method = "POST"
url = "https://app.test/token"
form = [["client_secret", "{secret.client_secret}"]]
[token.response]
access_token = "/access_token"
lifetime = { fixed = "1h" }
"#;
        std::fs::write(folder.join("definitions/app.toml"), definition).unwrap();
        std::fs::write(folder.join("secret"), "from a file\n").unwrap();
        let file = folder.join("freshet.toml");
        let path = folder.join("secret").display().to_string();
        let load = |list: &str| {
            let directory = folder.join("definitions");
            let text = format!(
                "provider_directory = {directory:?}\n[providers.app.secrets]\nclient_secret = {list}\n"
            );
            std::fs::write(&file, text).unwrap();
            let configuration =
                Configuration::load(Some(&file), &environment(&[("APP_SECRET", "from a variable")]))?;
            assert_eq!(
                configuration.providers()?.get("app").unwrap().secret_choices(),
                1,
                "a scan needs none"
            );
            configuration.providers_with_secrets()
        };
        let providers = load(&format!("[\"env:APP_SECRET\", \"file:{path}\"]")).unwrap();
        assert_eq!(providers.get("app").unwrap().secret_choices(), 2);
        for (list, part) in [
            ("\"env:NOT_SET\"", "providers.app.secrets.client_secret: env:NOT_SET is not set"),
            (
                "\"file:/nowhere/at-all\"",
                "providers.app.secrets.client_secret: file:/nowhere/at-all cannot be read",
            ),
            ("\"s3cret\"", "providers.app.secrets.client_secret"),
            ("[]", "secrets.client_secret"),
        ] {
            let error = load(list).map(drop).unwrap_err();
            let text = format!("{error} {:?}", std::error::Error::source(&error).map(ToString::to_string));
            assert!(text.contains(part) && !text.contains("s3cret"), "{list}: {text}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn wrong_configuration_is_refused_by_name_and_without_its_value() {
        let cases: [(&[(&str, &str)], &str); 39] = [
            (&[("FRESHET_WORKER__CONCURENCY", "7")], "worker"),
            (&[("FRESHET_WORKR__CONCURRENCY", "7")], "workr"),
            (&[("FRESHET_WORKER__CONCURRENCY", "s3cret")], "worker.concurrency"),
            (&[("FRESHET_WORKER__CONCURRENCY", "0")], "worker.concurrency"),
            (&[("FRESHET_SCAN__EARLY_WINDOW", "s3cret")], "scan.early_window"),
            (&[("FRESHET_SCAN__EARLY_WINDOW", "5m")], "scan.early_window"),
            (&[("FRESHET_SCAN__EARLY", "61 * * * *")], "scan.early"),
            (&[("FRESHET_SCAN__URGENT", "0 0 30 2 *")], "scan.urgent: never comes"),
            (&[("FRESHET_WORKER__CONCURRENCY", "pa\"ss3cret\"word")], "worker.concurrency"),
            (&[("FRESHET_TELEMETRY__FORMAT", "s3cret")], "telemetry.format"),
            (&[("FRESHET_SCAN__CLAIM", "40m")], "scan.claim"),
            (&[("FRESHET_SCAN__LEASE", "500ms")], "scan.lease"),
            (&[("FRESHET_SCAN__LEASE", "11m")], "scan.lease"),
            (&[("FRESHET_CALL__CONNECT_TIMEOUT", "60s")], "call.connect_timeout"),
            (&[("FRESHET_RETRY__LONGEST", "1s")], "retry.longest"),
            (
                &[("FRESHET_EGRESS__ALLOW", "platform,http://u:s3cret@platform")],
                "egress.allow[1]: must be a host alone",
            ),
            (&[("FRESHET_EGRESS__ALLOW", "platform:s3cret")], "egress.allow[0]: its port"),
            (&[("FRESHET_EGRESS__ALLOW", "*.platform.test")], "egress.allow[0]: must be one host"),
            (&[("FRESHET_EGRESS__ALLOWED", "platform")], "egress"),
            (&[("FRESHET_TELEMETRY__SAMPLE_RATIO", "2")], "telemetry.sample_ratio"),
            (&[("FRESHET_TELEMETRY__SPAN_QUEUE", "0")], "telemetry.span_queue"),
            (&[("FRESHET_REDIS__CONNECTIONS", "0")], "redis.connections"),
            (&[("FRESHET_REDIS__COMMAND_TIMEOUT", "0s")], "redis.command_timeout"),
            (&[("FRESHET_REDIS__CHECK_EVERY", "0s")], "redis.check_every"),
            (&[("FRESHET_DATABASE__ACQUIRE_TIMEOUT", "0s")], "database.acquire_timeout"),
            (&[("FRESHET_DATABASE__STATEMENT_TIMEOUT", "0s")], "database.statement_timeout"),
            (&[("FRESHET_RABBITMQ__OPERATION_TIMEOUT", "0s")], "rabbitmq.operation_timeout"),
            (&[("FRESHET_LIMITS__WORKERS", "0")], "limits.workers"),
            (&[("FRESHET_LIMITS__WORKERS", "1001")], "limits.workers"),
            (&[("FRESHET_LIMITS__RATE", "2")], "limits"),
            (&[("FRESHET_PROVIDERS__FYND__LIMITS__CONCURRENCY", "0")], "providers.fynd.limits.concurrency"),
            (&[("FRESHET_PROVIDERS__FYND__LIMITS__RATE__PER", "1s")], "providers.fynd.limits.rate"),
            (
                &[
                    ("FRESHET_PROVIDERS__FYND__LIMITS__RATE__REQUESTS", "0"),
                    ("FRESHET_PROVIDERS__FYND__LIMITS__RATE__PER", "1s"),
                ],
                "providers.fynd.limits.rate: requests must be more than 0",
            ),
            (&[("FRESHET_BREAKER__SHARE", "0")], "breaker.share"),
            (&[("FRESHET_BREAKER__SHARE", "s3cret")], "breaker.share"),
            (&[("FRESHET_BREAKER__MINIMUM", "0")], "breaker.minimum"),
            (&[("FRESHET_BREAKER__MINIMUM", "-1")], "breaker.minimum"),
            (&[("FRESHET_BREAKER__WINDOW", "0s")], "breaker.window"),
            (&[("FRESHET_BREAKER__OPEN_FOR", "2h")], "breaker.open_for"),
        ];
        for (pairs, key) in cases {
            let error = refused(pairs);
            assert!(error.contains(key), "{pairs:?}: {error}");
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn hosts_are_listed_in_a_file_too() {
        let allow = |text: &str| {
            let section = toml::from_str::<EgressSection>(text).map_err(|error| error.to_string())?;
            Ok::<_, String>(section.allow)
        };
        assert_eq!(allow("allow = []"), Ok(Vec::new()));
        assert_eq!(allow("allow = \"\""), Ok(Vec::new()));
        assert_eq!(allow("allow = [\"a\", \"b:1\"]"), Ok(vec!["a".into(), "b:1".into()]));
        assert!(allow("allow = 1").unwrap_err().contains("must be a list of texts"));
    }

    #[test]
    fn a_file_that_is_missing_or_wrong_is_named() {
        let missing = Configuration::load(Some(Path::new("/nowhere/freshet.toml")), &HashMap::new());
        assert!(missing.err().unwrap().to_string().contains("/nowhere/freshet.toml"));
    }
}
