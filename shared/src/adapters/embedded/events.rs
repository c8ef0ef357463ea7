//! Events inside one process: the last ones, for whoever looks.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;

use crate::domain::event::Event;
use crate::ports::events::Events;
use crate::ports::queue::TraceContext;

/// Keeps the last events.
#[derive(Debug)]
pub struct InProcessEvents {
    last: Mutex<VecDeque<Event>>,
    limit: usize,
}

impl InProcessEvents {
    /// Keeps at most `limit` of them; with 0 they are told to nobody.
    pub fn keeping(limit: usize) -> Self {
        Self { last: Mutex::default(), limit }
    }

    /// The last ones, the oldest first.
    pub fn last(&self) -> Vec<Event> {
        self.events().iter().cloned().collect()
    }

    fn events(&self) -> MutexGuard<'_, VecDeque<Event>> {
        // No code that holds it can leave it half changed.
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Events for InProcessEvents {
    fn emit(&self, event: Event, _context: TraceContext) {
        let mut last = self.events();
        last.push_back(event);
        let surplus = last.len().saturating_sub(self.limit);
        last.drain(..surplus);
    }

    async fn flush(&self, _patience: Duration) {}
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::domain::connection::{ConnectionId, Generation};
    use crate::domain::event::EventKind;

    #[test]
    fn it_keeps_the_last_ones() {
        for (limit, expected) in [(0, &[][..]), (2, &[3, 4]), (9, &[1, 2, 3, 4])] {
            let events = InProcessEvents::keeping(limit);
            for id in 1..=4 {
                let event = Event {
                    kind: EventKind::Refreshed,
                    provider: "fynd".into(),
                    connection_id: ConnectionId(id),
                    generation: Generation(1),
                    expires_at: None,
                    class: None,
                    at: DateTime::UNIX_EPOCH,
                };
                events.emit(event, TraceContext::new());
            }
            let ids: Vec<i64> = events.last().iter().map(|event| event.connection_id.0).collect();
            assert_eq!(ids, expected);
        }
    }
}
