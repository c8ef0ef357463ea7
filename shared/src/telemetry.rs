//! Logs and traces.

mod announcing;
pub mod propagation;
mod setup;

pub use setup::{Telemetry, TelemetryError};
