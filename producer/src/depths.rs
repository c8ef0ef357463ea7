//! How many messages wait, for whoever watches the fleet.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::queue::{QueueDepth, QueueObserver};
use freshet_shared::telemetry::metrics::names::Instrument;
use freshet_shared::telemetry::metrics::{Metrics, names};
use tokio_util::sync::CancellationToken;

/// How often the broker is asked.
const EVERY: Duration = Duration::from_secs(5);

/// What the broker said last; nothing where it did not answer, so that an old number is never taken for a new one.
#[derive(Clone, Default)]
pub struct Depths(Arc<Mutex<Vec<QueueDepth>>>);

impl Depths {
    /// Asks again and again until `shutdown`.
    pub async fn run(&self, queues: &dyn QueueObserver, clock: &dyn Clock, shutdown: &CancellationToken) {
        let mut is_away = false;
        while !shutdown.is_cancelled() {
            let depths = queues.depths().await;
            if let (Err(error), false) = (&depths, is_away) {
                tracing::warn!(%error, "the depth of the queues is not known");
            }
            is_away = depths.is_err();
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = depths.unwrap_or_default();
            tokio::select! {
                () = clock.sleep(EVERY) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// Shows them among the metrics.
    pub fn show(&self, metrics: &Metrics) {
        self.observe(metrics, &names::QUEUE_READY, |depth| depth.ready);
        self.observe(metrics, &names::QUEUE_CONSUMERS, |depth| depth.consumers);
    }

    fn observe(&self, metrics: &Metrics, instrument: &'static Instrument, of: fn(&QueueDepth) -> u32) {
        let depths = self.0.clone();
        metrics.observed(instrument, move |observe| {
            for depth in depths.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                observe(f64::from(of(depth)), &[&depth.queue]);
            }
        });
    }
}
