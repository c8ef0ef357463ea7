//! What the simulation leaves to chance, drawn from a seed and a counter.
//!
//! A hash of the counter instead of a generator with state: no lock between requests, and the n-th draw of a seed
//! is always the same.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::settings::{Latency, Settings};

/// A fault that a marketplace answers with instead of a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// 429.
    RateLimited,
    /// 500.
    ServerError,
}

/// The draws of one simulation.
pub(super) struct Chance {
    seed: u64,
    drawn: AtomicU64,
    latency: Latency,
    /// Below it a draw means 429.
    rate_limited_below: f64,
    /// Below it, and not below the other, a draw means 500.
    failing_below: f64,
}

impl Chance {
    pub(super) fn new(settings: &Settings) -> Self {
        Self {
            seed: mix(settings.seed),
            drawn: AtomicU64::new(0),
            latency: settings.latency,
            rate_limited_below: settings.rate_limited_share,
            failing_below: settings.rate_limited_share + settings.server_error_share,
        }
    }

    /// Whether this request fails, and how.
    pub(super) fn fault(&self) -> Option<Fault> {
        if self.failing_below <= 0.0 {
            return None;
        }
        let drawn = self.uniform();
        if drawn < self.rate_limited_below {
            Some(Fault::RateLimited)
        } else if drawn < self.failing_below {
            Some(Fault::ServerError)
        } else {
            None
        }
    }

    /// How long this answer takes.
    pub(super) fn latency(&self) -> Duration {
        let Latency { min, max } = self.latency;
        if max <= min {
            return min;
        }
        min + (max - min).mul_f64(self.uniform())
    }

    /// The next draw, in `0.0..1.0`.
    fn uniform(&self) -> f64 {
        let count = self.drawn.fetch_add(1, Ordering::Relaxed);
        // 53 bits are what an f64 holds exactly.
        (hash(self.seed, count) >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// A hash of the `count`-th place in the sequence of `seed` (the SplitMix64 generator, addressed by index).
pub(super) fn hash(seed: u64, count: u64) -> u64 {
    mix(seed.wrapping_add(count.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15)))
}

fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::tests::settings;

    #[test]
    fn shares_hold_over_many_draws() {
        for seed in [0, 1, 2, 42, u64::MAX] {
            let chance = Chance::new(&Settings {
                rate_limited_share: 0.1,
                server_error_share: 0.02,
                seed,
                ..settings()
            });
            let (mut limited, mut failed) = (0, 0);
            for _ in 0..10_000 {
                match chance.fault() {
                    Some(Fault::RateLimited) => limited += 1,
                    Some(Fault::ServerError) => failed += 1,
                    None => {}
                }
            }
            // More than four standard deviations (30 and 14) to either side.
            assert!((870..=1130).contains(&limited), "seed {seed}: {limited} of 10,000 were 429");
            assert!((140..=260).contains(&failed), "seed {seed}: {failed} of 10,000 were 500");
        }
    }

    #[test]
    fn the_extremes_are_exact() {
        let never = Chance::new(&settings());
        let always = Chance::new(&Settings { server_error_share: 1.0, ..settings() });
        for _ in 0..1_000 {
            assert_eq!(never.fault(), None);
            assert_eq!(always.fault(), Some(Fault::ServerError));
        }
    }

    #[test]
    fn a_seed_repeats_itself() {
        let faults = |seed| {
            let chance = Chance::new(&Settings { rate_limited_share: 0.5, seed, ..settings() });
            (0..64).map(|_| chance.fault()).collect::<Vec<_>>()
        };
        assert_eq!(faults(7), faults(7));
        assert_ne!(faults(7), faults(8));
    }

    #[test]
    fn latency_stays_inside_its_range() {
        let (min, max) = (Duration::from_millis(10), Duration::from_millis(30));
        let chance = Chance::new(&Settings { latency: Latency { min, max }, ..settings() });
        let drawn: Vec<_> = (0..10_000).map(|_| chance.latency()).collect();
        assert!(drawn.iter().all(|latency| (min..=max).contains(latency)));
        let mean = drawn.iter().sum::<Duration>() / 10_000;
        assert!((Duration::from_micros(19_700)..Duration::from_micros(20_300)).contains(&mean), "{mean:?}");
    }
}
