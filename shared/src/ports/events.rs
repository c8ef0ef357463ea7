//! Telling others what became of a connection.

use std::time::Duration;

use async_trait::async_trait;

use super::queue::TraceContext;
use crate::domain::event::Event;

/// Takes events and tells whoever listens.
///
/// Events inform, they decide nothing: telling never holds up a refresh and never makes one fail. An event that was
/// taken is told at least once while the process lives, in the order of emission as far as nothing has to be told
/// again; where there are more than can be kept, the oldest are lost and counted.
#[async_trait]
pub trait Events: Send + Sync {
    /// Takes an event over, with the context of the trace that it belongs to. Never waits.
    fn emit(&self, event: Event, context: TraceContext);

    /// Returns once all that was taken is told, or once `patience` is at its end.
    async fn flush(&self, patience: Duration);
}
