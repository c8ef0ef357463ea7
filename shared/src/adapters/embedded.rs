//! Adapters that need no server: for `freshet dev`, small installations and simulation. The store's embedded form is
//! SQLite, through the same adapter as MySQL.

pub mod cache;
pub mod clock;
pub mod events;
pub mod parking;
pub mod provider;
pub mod queue;
pub mod rate_limiter;
