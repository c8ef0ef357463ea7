//! The worker: consume, refresh, store, cache.
//!
//! `decode → load → decide → (journal) → call → commit → cache → settle`: [`refresh`] reads top to bottom as one function, and the
//! pool around it bounds how many run at once.
#![forbid(unsafe_code)]

pub mod app;
pub mod arguments;
pub mod cache_entries;
pub mod channel_details;
pub mod events;
mod failing;
mod granting;
mod in_flight;
pub mod job;
mod job_span;
pub mod metrics;
mod parked;
mod parking;
pub mod permit;
pub mod pool;
pub mod refresh;
mod repairing;
mod sizes;
mod storing;
pub mod warming;
pub mod working;

#[cfg(test)]
mod tests;
