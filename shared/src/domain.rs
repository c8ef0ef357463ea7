//! The decisions of Freshet, free of I/O: time, randomness and everything read come in as parameters.

pub mod breaker;
pub mod channel;
pub mod connection;
pub mod decision;
pub mod event;
pub mod failure;
pub(crate) mod fingerprint;
pub mod input_fields;
pub mod kept_answer;
pub mod lane;
pub mod leadership;
pub mod limits;
pub mod message;
pub mod outcome;
pub mod provider;
pub mod retry;
pub mod sealing;
pub mod secret;
pub mod watch;
pub mod window;
