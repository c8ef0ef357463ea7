//! What the tests of the fleet stand on: real services of their own, isolation between tests that run at the
//! same moment, and waiting for conditions instead of sleeping.
#![forbid(unsafe_code)]

pub mod binaries;
pub mod chart;
pub mod command;
pub mod environment;
pub mod fleet;
pub mod isolation;
pub mod management;
pub mod model_provider;
pub mod monitoring;
pub mod otlp;
pub mod provider_calls;
pub mod services;
pub mod smoke;
pub mod waiting;
