//! Logs, traces and metrics.

mod announcing;
mod lines;
pub mod metrics;
pub mod propagation;
mod setup;

pub use setup::{LOG_CONTEXT, Telemetry, TelemetryError};
