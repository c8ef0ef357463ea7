//! Randomness.

/// Randomness, as a parameter: the system's, or a seeded one.
pub trait Randomness: Send + Sync {
    /// A number drawn uniformly.
    fn next(&self) -> u64;
}
