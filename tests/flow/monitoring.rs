//! What worker and producer show whoever watches them.

mod metrics;
mod probes;
