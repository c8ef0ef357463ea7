//! What Freshet needs of the outside. A trait stands only where the process ends.

pub mod cache;
pub mod clock;
pub mod events;
pub mod parking;
pub mod provider;
pub mod queue;
pub mod randomness;
pub mod rate_limiter;
pub mod secrets;
pub mod store;
