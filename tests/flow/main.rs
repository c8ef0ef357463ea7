//! The fleet as a whole, and what these tests stand on, against real services: run by `tests/run`.
#![forbid(unsafe_code)]

mod cache;
mod configuration;
mod dev;
mod early;
mod isolation;
mod many;
mod private_services;
mod processes;
mod queue;
mod servers;
mod tracing;
mod urgent;
mod very;
