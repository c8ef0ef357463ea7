//! Logs, traces and metrics.

mod announcing;
pub mod metrics;
pub mod propagation;
mod setup;

pub use setup::{Telemetry, TelemetryError};
