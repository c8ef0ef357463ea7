//! Logs, traces and metrics.

mod announcing;
mod lines;
pub mod metrics;
pub mod propagation;
mod room;
mod setup;

pub use setup::{LOG_CONTEXT, SCHEMA_URL, Telemetry, TelemetryError};
