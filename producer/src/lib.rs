//! The producer: when to scan, what is due, publish.
//!
//! `scan → claim → publish`: a scan decides from the database alone and may run in any number of processes at once.
#![forbid(unsafe_code)]

pub mod activity;
pub mod app;
pub mod arguments;
pub mod census;
pub mod depths;
pub mod grants;
pub mod leadership;
pub mod metrics;
pub mod publish;
pub mod scan;
pub mod schedule;
pub mod settled;

#[cfg(test)]
mod tests;
