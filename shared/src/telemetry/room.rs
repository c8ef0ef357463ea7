//! Room for ended spans that wait to be sent: bounded, and counted where it does not suffice. The SDK's own queue is bounded too,
//! but says nothing of what it drops.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::Context;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{Span, SpanData, SpanProcessor};

/// The room, shared by who fills it and who empties it.
#[derive(Debug)]
pub(super) struct Room {
    most: usize,
    waiting: AtomicUsize,
    dropped: AtomicU64,
}

impl Room {
    /// For `most` spans.
    pub(super) fn of(most: usize) -> Arc<Self> {
        Arc::new(Self { most, waiting: AtomicUsize::new(0), dropped: AtomicU64::new(0) })
    }

    /// Takes one span in, or counts it as dropped.
    fn enter(&self) -> bool {
        let one_more = |waiting: usize| (waiting < self.most).then_some(waiting + 1);
        let has_room = self.waiting.fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more).is_ok();
        if !has_room {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
        has_room
    }

    /// So many go out, to be sent.
    pub(super) fn leave(&self, spans: usize) {
        self.waiting.fetch_sub(spans, Ordering::AcqRel);
    }

    /// How many were dropped since somebody asked.
    pub(super) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }
}

/// Lets ended spans into the room, or drops them: whoever ends a span never waits.
#[derive(Debug)]
pub(super) struct Bounded<P> {
    processor: P,
    room: Arc<Room>,
}

impl<P> Bounded<P> {
    /// Before `processor`, whose queue has to be as long as the room, and whose exporter lets them out.
    pub(super) fn new(processor: P, room: Arc<Room>) -> Self {
        Self { processor, room }
    }
}

impl<P: SpanProcessor> SpanProcessor for Bounded<P> {
    fn on_start(&self, span: &mut Span, context: &Context) {
        self.processor.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        if self.room.enter() {
            self.processor.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.processor.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.processor.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.processor.set_resource(resource);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, channel};
    use std::sync::{Mutex, PoisonError};

    use opentelemetry::trace::{Span as _, Tracer, TracerProvider};
    use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider, SpanExporter};

    use super::*;
    use crate::telemetry::announcing::Announcing;

    #[test]
    fn what_has_no_room_is_counted_once_and_room_comes_back() {
        let room = Room::of(2);
        assert_eq!([room.enter(), room.enter(), room.enter(), room.enter()], [true, true, false, false]);
        assert_eq!((room.take_dropped(), room.take_dropped()), (2, 0));
        room.leave(2);
        assert_eq!([room.enter(), room.enter(), room.enter()], [true, true, false]);
        assert_eq!(room.take_dropped(), 1);
    }

    /// Stands still in its first batch as long as the other end of the gate is there.
    #[derive(Debug)]
    struct Held {
        gate: Mutex<Receiver<()>>,
        sent: Arc<AtomicUsize>,
    }

    impl SpanExporter for Held {
        async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
            let _ = self.gate.lock().unwrap_or_else(PoisonError::into_inner).recv();
            self.sent.fetch_add(batch.len(), Ordering::Relaxed);
            Ok(())
        }
    }

    #[test]
    fn whoever_ends_a_span_does_not_wait_for_an_exporter_that_stands_still() {
        let (release, gate) = channel();
        let (sent, room) = (Arc::new(AtomicUsize::new(0)), Room::of(8));
        let exporter = Announcing::new(Held { gate: Mutex::new(gate), sent: sent.clone() }, room.clone());
        let config =
            BatchConfigBuilder::default().with_max_queue_size(8).with_max_export_batch_size(4).build();
        let batches = BatchSpanProcessor::new(exporter, config);
        let provider =
            SdkTracerProvider::builder().with_span_processor(Bounded::new(batches, room.clone())).build();
        let tracer = provider.tracer("test");
        for _ in 0..100 {
            tracer.start("span").end();
        }
        assert_eq!(sent.load(Ordering::Relaxed), 0, "all have ended, and nothing was sent");
        drop(release);
        provider.shutdown().unwrap();
        // The queue, and the batch that was under way.
        let sent = sent.load(Ordering::Relaxed);
        assert!((8..=12).contains(&sent), "{sent}");
        assert_eq!(room.waiting.load(Ordering::Relaxed), 0);
    }
}
