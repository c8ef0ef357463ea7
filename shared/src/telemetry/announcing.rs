//! Sending spans, and saying so where it does not work: the SDK itself loses them in silence.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{SpanData, SpanExporter};
use tokio::time::Instant;

use super::room::Room;

/// Dropped spans are told of this often at most.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// An exporter that logs when sending begins to fail, when it succeeds again, and how many spans had no room meanwhile.
#[derive(Debug)]
pub(super) struct Announcing<E> {
    exporter: E,
    room: Arc<Room>,
    is_failing: AtomicBool,
    told: Mutex<Option<Instant>>,
}

impl<E> Announcing<E> {
    /// Lets what it sends out of the room.
    pub(super) fn new(exporter: E, room: Arc<Room>) -> Self {
        Self { exporter, room, is_failing: AtomicBool::new(false), told: Mutex::default() }
    }

    /// Here, and not where a span ends: whoever drops one is in the middle of something else.
    fn tell_of_dropped(&self, is_last: bool) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_last && told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        let dropped = self.room.take_dropped();
        if dropped > 0 {
            *told = Some(Instant::now());
            tracing::warn!(
                dropped,
                "spans were dropped: the collector takes them more slowly than they end; refreshes go on. If it should \
                 take them: telemetry.span_queue, or a smaller telemetry.sample_ratio"
            );
        }
    }
}

impl<E: SpanExporter> SpanExporter for Announcing<E> {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        self.room.leave(batch.len());
        self.tell_of_dropped(false);
        let result = self.exporter.export(batch).await;
        let failed_before = self.is_failing.swap(result.is_err(), Ordering::Relaxed);
        match &result {
            Err(error) if !failed_before => {
                tracing::warn!(%error, "the collector does not take spans; they are lost until it does");
            }
            Ok(()) if failed_before => tracing::info!("the collector takes spans again"),
            Ok(()) | Err(_) => {}
        }
        result
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.tell_of_dropped(true);
        self.exporter.shutdown_with_timeout(timeout)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.exporter.force_flush()
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.exporter.set_resource(resource);
    }
}
