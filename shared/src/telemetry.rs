//! Logs and traces.

pub mod propagation;
mod setup;

pub use setup::{Telemetry, TelemetryError};
