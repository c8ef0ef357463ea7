//! What went wrong, in words that hold no value.
//!
//! Redis quotes the arguments of a command that it does not know, a token for example, so its messages are not
//! passed on; only the code that they begin with is.

use fred::error::{Error, ErrorKind};

use crate::ports::cache::CacheError;

/// Why a command did not do what was asked.
#[derive(Clone)]
pub(super) struct Problem(String);

impl Problem {
    pub(super) fn new(problem: &str) -> Self {
        Self(problem.to_owned())
    }

    /// There is no connection. What connecting failed with is said where it is more than that nobody is there.
    pub(super) fn not_connected(error: Option<Error>) -> Self {
        match error {
            Some(error) if matches!(error.kind(), ErrorKind::Auth | ErrorKind::Tls) => error.into(),
            Some(error) if code(error.details()).is_some() => error.into(),
            _ => Self::new("there is no connection to Redis: check that it runs and that its URL is right"),
        }
    }

    /// What Redis itself said, down to its code.
    pub(super) fn of_message(message: &str) -> Self {
        Error::new(ErrorKind::Unknown, message.to_owned()).into()
    }

    /// The problem as the port's error.
    pub(super) fn during(self, operation: &'static str) -> CacheError {
        CacheError { operation, problem: self.0 }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let words = match (error.kind(), code(error.details())) {
            (ErrorKind::Auth, _) => "Redis refuses our user or password: correct them in its URL",
            (ErrorKind::Timeout, _) => "Redis did not answer in time",
            (ErrorKind::IO | ErrorKind::Canceled, _) => "the connection to Redis was lost",
            (ErrorKind::Backpressure, _) => "too many commands wait for Redis: it is slow or away",
            (ErrorKind::Tls, _) => {
                "no TLS with Redis: check its certificate and the system's CA certificates"
            }
            (_, Some(code)) => {
                return Self(format!("Redis answers {code}: look for its cause on the server"));
            }
            // So fred calls it, too, when there is nowhere to send a command to.
            (ErrorKind::Unknown | ErrorKind::Routing, None) => "the connection to Redis was lost",
            (kind, None) => kind.to_str(),
        };
        Self::new(words)
    }
}

/// The code that an error of Redis begins with, `OOM` for example.
fn code(message: &str) -> Option<&str> {
    let code = message.split(' ').next()?;
    let is_code = (2..=20).contains(&code.len()) && code.bytes().all(|byte| byte.is_ascii_uppercase());
    is_code.then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_that_quotes_a_token_is_cut_to_its_code() {
        let message = "ERR unknown command 'EVALSHA', with args beginning with: 's3cret' 's3cret'";
        let error = Problem::from(Error::new(ErrorKind::Unknown, message)).during("store a token");
        assert_eq!(
            error.to_string(),
            "the cache did not store a token: Redis answers ERR: look for its cause on the server"
        );
    }

    #[test]
    fn what_is_no_code_is_left_out() {
        for message in ["s3cret", "S3CRET", "", "X", "Err s3cret", "ABCDEFGHIJKLMNOPQRSTUVWXYZ"] {
            assert_eq!(code(message), None, "{message}");
        }
        assert_eq!(code("OOM command not allowed"), Some("OOM"));
    }
}
