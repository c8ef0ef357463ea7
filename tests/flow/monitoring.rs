//! What worker and producer show whoever watches them.

mod dashboards;
mod metrics;
mod probes;
