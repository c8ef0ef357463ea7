//! Connections and channels, every step of them against the clock.

use std::collections::BTreeMap;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use lapin::protocol::{AMQPErrorKind, AMQPSoftError};
use lapin::{Channel, Connection, ConnectionProperties, ConnectionStatus, ErrorKind};
use thiserror::Error;
use tokio::time::timeout;

use super::RabbitMq;

/// The last connection of each purpose.
pub(super) type Sessions = BTreeMap<&'static str, Option<ConnectionStatus>>;

/// A step that the broker did not go along with.
#[derive(Debug, Error)]
pub(super) enum LinkError {
    /// No answer at all.
    #[error("cannot {action} `{subject}`: no answer from the broker within {limit:?}")]
    TimedOut { action: &'static str, subject: String, limit: Duration },
    /// An error of the broker's or of the client's.
    #[error("cannot {action} `{subject}`: {problem}")]
    Failed { action: &'static str, subject: String, problem: lapin::Error },
    /// Trying again does not help here.
    #[error(
        "cannot {action} `{subject}`: it exists with other arguments ({problem}). If all processes run with the \
         same settings, let it run empty, delete it, and it is declared anew"
    )]
    OtherArguments { action: &'static str, subject: String, problem: lapin::Error },
}

impl LinkError {
    /// A precondition that fails while declaring means other arguments; elsewhere it can mean other things, such
    /// as an acknowledgement that took too long.
    pub(super) fn of_declaration(self) -> Self {
        match self {
            Self::Failed { action, subject, problem } if is_precondition(&problem) => {
                Self::OtherArguments { action, subject, problem }
            }
            other => other,
        }
    }

    /// Whether trying again can help. A refused login counts: whoever changes the password does so on two sides.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::Failed { .. } => true,
            Self::OtherArguments { .. } => false,
        }
    }
}

fn is_precondition(error: &lapin::Error) -> bool {
    match error.kind() {
        ErrorKind::ProtocolError(error) => {
            *error.kind() == AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED)
        }
        _ => false,
    }
}

/// Waits for the broker no longer than `limit`. The words are for the error.
pub(super) async fn timed<T>(
    limit: Duration,
    action: &'static str,
    subject: &str,
    step: impl Future<Output = lapin::Result<T>>,
) -> Result<T, LinkError> {
    match timeout(limit, step).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(problem)) => Err(LinkError::Failed { action, subject: subject.into(), problem }),
        Err(_) => Err(LinkError::TimedOut { action, subject: subject.into(), limit }),
    }
}

impl RabbitMq {
    /// A connection of its own for one purpose, by whose name the broker's operator finds it.
    pub(super) async fn connect(&self, purpose: &'static str) -> Result<Connection, LinkError> {
        self.sessions().entry(purpose).or_default();
        let name = format!("{} {purpose}", self.connection_name);
        let properties = ConnectionProperties::default().with_connection_name(name.into());
        let connection = Connection::connect_uri(self.uri.clone(), properties);
        let connection = timed(self.operation_timeout, "connect to", &self.address(), connection).await?;
        self.sessions().insert(purpose, Some(connection.status().clone()));
        Ok(connection)
    }

    /// The purposes for which a connection was wanted so far, each with whether there is one, as far as the client has
    /// noticed.
    pub fn connections(&self) -> Vec<(&'static str, bool)> {
        let is_there =
            |status: &Option<ConnectionStatus>| status.as_ref().is_some_and(ConnectionStatus::connected);
        self.sessions().iter().map(|(purpose, status)| (*purpose, is_there(status))).collect()
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        // No code that holds it can leave it half changed.
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more channel.
    pub(super) async fn open_channel(&self, connection: &Connection) -> Result<Channel, LinkError> {
        let channel = connection.create_channel();
        timed(self.operation_timeout, "open a channel on", &self.address(), channel).await
    }
}

#[cfg(test)]
mod tests {
    use lapin::protocol::{AMQPError, AMQPHardError};

    use super::*;

    fn failed(kind: AMQPErrorKind) -> LinkError {
        let problem = ErrorKind::ProtocolError(AMQPError::new(kind, "told so".into())).into();
        LinkError::Failed { action: "declare queue", subject: "q".into(), problem }
    }

    #[test]
    fn other_arguments_are_final_and_say_what_to_do() {
        let error = failed(AMQPErrorKind::Soft(AMQPSoftError::PRECONDITIONFAILED));
        assert!(error.is_transient());
        let error = error.of_declaration();
        assert!(!error.is_transient());
        let words = error.to_string();
        assert!(
            words.contains("`q`") && words.contains("other arguments") && words.contains("delete it"),
            "{words}"
        );
    }

    #[test]
    fn anything_else_may_pass() {
        for kind in [
            AMQPErrorKind::Soft(AMQPSoftError::NOTFOUND),
            AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED),
            AMQPErrorKind::Hard(AMQPHardError::CONNECTIONFORCED),
        ] {
            assert!(failed(kind).of_declaration().is_transient());
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_broker_is_named() {
        let limit = Duration::from_secs(5);
        let error = timed(limit, "declare queue", "q", std::future::pending::<lapin::Result<()>>())
            .await
            .unwrap_err();
        assert!(error.is_transient());
        assert_eq!(error.to_string(), "cannot declare queue `q`: no answer from the broker within 5s");
    }
}
