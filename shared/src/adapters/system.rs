//! The system's clock and randomness.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use rand::rand_core::{Rng, UnwrapErr};
use rand::rngs::SysRng;

use crate::ports::clock::Clock;
use crate::ports::randomness::Randomness;

/// The system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that everything else takes as a parameter"
    )]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// The system's randomness: every number is the kernel's own, so that it may also make keys and nonces. A generator in the
/// process would be as good until a virtual machine is copied while it runs, and both copies draw the same.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemRandomness;

impl Randomness for SystemRandomness {
    fn next(&self) -> u64 {
        // The kernel refuses only a process that may not ask it at all.
        UnwrapErr(SysRng).next_u64()
    }
}
