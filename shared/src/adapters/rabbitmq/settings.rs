//! What has to be known of a broker, and whether it can work.

use std::time::Duration;

use lapin::uri::AMQPUri;
use thiserror::Error;

use crate::domain::secret::Secret;

/// With the longest queue name still a consumer tag, which may have 255 bytes.
const LONGEST_CONNECTION_NAME: usize = 128;

/// The longest frame, in bytes, where the URL does not say `frame_max`. The client keeps room for 32 of them in each direction of
/// a connection, which are 8 MiB at the broker's own 128 KiB; a message has some hundred bytes, and a longer one goes in parts.
/// RabbitMQ 4 asks for 8 KiB at least.
const FRAME_MAX: u32 = 16 * 1024;

/// How to reach and use a broker.
pub struct RabbitMqSettings {
    /// `amqp://user:password@host:5672/vhost`, or `amqps`.
    pub url: Secret,
    /// After about twice this long without a sign from the broker the connection counts as lost. Whole seconds.
    pub heartbeat: Duration,
    /// How long the broker may take to answer, and to confirm a batch.
    pub operation_timeout: Duration,
    /// How many times a message may come back before the broker puts it aside.
    pub delivery_limit: u32,
    /// How long a consumer goes on trying to reach a broker that is away.
    pub give_up_after: Duration,
    /// Names this process to the broker's operator.
    pub connection_name: String,
}

/// A setting that cannot work. Never shows the URL, which holds a password.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RabbitMqSettingsError {
    /// Neither `amqp://` nor `amqps://`.
    #[error("the RabbitMQ URL must begin with amqp:// or amqps://")]
    Scheme,
    /// Not a URL of a broker.
    #[error(
        "the RabbitMQ URL cannot be read: it must look like amqp://user:password@host:5672/vhost, with special \
         characters in user, password and vhost percent-encoded"
    )]
    Url,
    /// The client would take it for localhost.
    #[error(
        "the RabbitMQ URL names its host by an IPv6 address, which the client cannot use: give it a name"
    )]
    Ipv6Host,
    /// Not a heartbeat that AMQP can express.
    #[error(
        "the RabbitMQ heartbeat must be whole seconds, from 1 to 65535: without one a lost broker goes unnoticed"
    )]
    Heartbeat,
    /// No time at all.
    #[error("the RabbitMQ operation time-out must be more than zero")]
    OperationTimeout,
    /// Not a name to show.
    #[error("the RabbitMQ connection name must have 1 to {LONGEST_CONNECTION_NAME} bytes")]
    ConnectionName,
    /// Nothing to publish to or to consume.
    #[error("no queue pool is given: at least one provider definition must be loaded")]
    NoPool,
    /// Too long for a queue name.
    #[error("the pool name `{pool}` is too long for a queue name")]
    PoolName {
        /// The pool.
        pool: String,
    },
}

impl RabbitMqSettingsError {
    /// The configuration key that is at fault.
    pub fn key(&self) -> &'static str {
        match self {
            Self::Scheme | Self::Url | Self::Ipv6Host | Self::ConnectionName => "rabbitmq.url",
            Self::Heartbeat => "rabbitmq.heartbeat",
            Self::OperationTimeout => "rabbitmq.operation_timeout",
            Self::NoPool | Self::PoolName { .. } => "provider_directory",
        }
    }
}

impl RabbitMqSettings {
    /// What can be checked without the URL.
    pub(super) fn check(&self) -> Result<(), RabbitMqSettingsError> {
        self.heartbeat_seconds()?;
        if self.operation_timeout.is_zero() {
            return Err(RabbitMqSettingsError::OperationTimeout);
        }
        if self.connection_name.is_empty() || self.connection_name.len() > LONGEST_CONNECTION_NAME {
            return Err(RabbitMqSettingsError::ConnectionName);
        }
        Ok(())
    }

    /// The URL, with the heartbeat of the settings.
    pub(super) fn uri(&self) -> Result<AMQPUri, RabbitMqSettingsError> {
        let url = self.url.expose();
        let rest = url.strip_prefix("amqp://").or_else(|| url.strip_prefix("amqps://"));
        let authority =
            rest.ok_or(RabbitMqSettingsError::Scheme)?.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        if host.starts_with('[') {
            return Err(RabbitMqSettingsError::Ipv6Host);
        }
        // The client's own words are dropped: some of them quote the URL.
        let mut uri: AMQPUri = url.parse().map_err(|_| RabbitMqSettingsError::Url)?;
        if host.is_empty() || uri.authority.host.is_empty() {
            return Err(RabbitMqSettingsError::Url);
        }
        // To the letter of its rules a URL that ends in a slash names a virtual host without a name. Nobody has one.
        if uri.vhost.is_empty() {
            uri.vhost = "/".into();
        }
        uri.query.heartbeat = Some(self.heartbeat_seconds()?);
        uri.query.frame_max.get_or_insert(FRAME_MAX);
        Ok(uri)
    }

    fn heartbeat_seconds(&self) -> Result<u16, RabbitMqSettingsError> {
        match u16::try_from(self.heartbeat.as_secs()) {
            Ok(seconds) if seconds > 0 && self.heartbeat.subsec_nanos() == 0 => Ok(seconds),
            _ => Err(RabbitMqSettingsError::Heartbeat),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(url: &str) -> RabbitMqSettings {
        RabbitMqSettings {
            url: Secret::new(url),
            heartbeat: Duration::from_secs(10),
            operation_timeout: Duration::from_secs(5),
            delivery_limit: 50,
            give_up_after: Duration::from_secs(300),
            connection_name: "freshet-worker-1".into(),
        }
    }

    #[test]
    fn the_url_names_the_broker_and_the_settings_its_heartbeat() {
        let cases = [
            ("amqp://user:p%40ss@rabbit", "rabbit", 5672, "/"),
            ("amqp://user:p%40ss@rabbit/", "rabbit", 5672, "/"),
            ("amqp://user:p%40ss@10.0.0.7:5673/%2f", "10.0.0.7", 5673, "/"),
            ("amqps://user:p%40ss@rabbit/test%2Fone?heartbeat=0", "rabbit", 5671, "test/one"),
        ];
        for (url, host, port, vhost) in cases {
            let uri = settings(url).uri().unwrap();
            assert_eq!(
                (uri.authority.host.as_str(), uri.authority.port, uri.vhost.as_str()),
                (host, port, vhost)
            );
            assert_eq!(uri.authority.userinfo.password, "p@ss");
            assert_eq!(uri.query.heartbeat, Some(10));
            assert_eq!(uri.query.frame_max, Some(FRAME_MAX));
        }
    }

    #[test]
    fn a_bad_url_is_named_and_not_shown() {
        use RabbitMqSettingsError as Error;
        let cases = [
            ("", Error::Scheme),
            ("s3cret", Error::Scheme),
            ("http://user:s3cret@rabbit", Error::Scheme),
            ("amqp:s3cret", Error::Scheme),
            ("amqp://", Error::Url),
            ("amqp://user:s3cret@", Error::Url),
            ("amqp://user:s3cret@rabbit:port", Error::Url),
            ("amqp://user:s3cret@rabbit:99999", Error::Url),
            ("amqp://user:s3cret%FF@rabbit", Error::Url),
            ("amqp://user:s3cret@rabbit?auth_mechanism=s3cret", Error::Url),
            ("amqp://user:s3cret@[::1]:5672", Error::Ipv6Host),
        ];
        for (url, expected) in cases {
            let error = settings(url).uri().map(|_| ()).unwrap_err();
            assert_eq!(error, expected, "{url}");
            assert!(!error.to_string().contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn other_settings_are_checked() {
        use RabbitMqSettingsError as Error;
        let good = || settings("amqp://rabbit");
        assert_eq!(good().check(), Ok(()));
        for heartbeat in [Duration::ZERO, Duration::from_millis(1_500), Duration::from_secs(70_000)] {
            assert_eq!(RabbitMqSettings { heartbeat, ..good() }.check(), Err(Error::Heartbeat));
        }
        let timeout = RabbitMqSettings { operation_timeout: Duration::ZERO, ..good() };
        assert_eq!(timeout.check(), Err(Error::OperationTimeout));
        for connection_name in [String::new(), "x".repeat(200)] {
            assert_eq!(RabbitMqSettings { connection_name, ..good() }.check(), Err(Error::ConnectionName));
        }
    }
}
