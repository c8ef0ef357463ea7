//! Time.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

/// Time, as a parameter: the system's, or one that a test moves by hand.
#[async_trait]
pub trait Clock: Send + Sync {
    /// What time it is.
    fn now(&self) -> DateTime<Utc>;

    /// Returns once `duration` has passed.
    async fn sleep(&self, duration: Duration);
}
