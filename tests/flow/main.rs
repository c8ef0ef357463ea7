//! The fleet as a whole, and what these tests stand on, against real services: run by `tests/run`.
#![forbid(unsafe_code)]

mod isolation;
mod private_services;
mod servers;
