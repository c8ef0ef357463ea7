//! What Freshet needs of the outside. A trait stands only where the process ends.

pub mod cache;
pub mod clock;
pub mod provider;
pub mod queue;
pub mod randomness;
pub mod secrets;
pub mod store;
