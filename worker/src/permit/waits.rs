//! How long jobs wait for leave, for whoever counts.

use std::collections::HashMap;
use std::time::Duration;

use freshet_shared::telemetry::metrics::{BoundHistogram, Histograms, Metrics, names};

/// Up to the second after which a job is put off. Below the first nobody waited for more than an answer of Redis.
const WAIT: [f64; 8] = [0.005, 0.025, 0.1, 0.25, 0.5, 0.75, 1.0, 2.0];

/// Waits for permits, by provider.
pub struct Waits {
    family: Histograms,
    providers: HashMap<String, BoundHistogram<f64>>,
}

impl Waits {
    /// With all series of these providers at zero. Those of another one are made with its first wait.
    pub fn new<'a>(metrics: &Metrics, providers: impl IntoIterator<Item = &'a str>) -> Self {
        let family = metrics.histogram(&names::PERMIT_WAIT, &WAIT);
        let bound = providers.into_iter().map(|name| (name.to_owned(), family.with(&[name]))).collect();
        Self { family, providers: bound }
    }

    /// A job has leave, or is put off, after this.
    pub(super) fn note(&self, provider: &str, waited: Duration) {
        let waited = waited.as_secs_f64();
        match self.providers.get(provider) {
            Some(bound) => bound.record(waited),
            None => self.family.with(&[provider]).record(waited),
        }
    }
}
