//! The command line: `freshet dev` runs everything in one process, the other commands are an operator's.
#![forbid(unsafe_code)]

pub mod app;
pub mod arguments;
pub mod check;
pub mod dev;
pub mod migrate;
pub mod providers;
pub mod secrets;
pub mod simulator;
