//! The mark that a refresh is in flight. It fails open: the fence guards the effect, the mark only saves a call.

use freshet_shared::domain::connection::IdempotencyKey;
use freshet_shared::domain::message::RefreshMessage;

use crate::refresh::Refresher;

/// One refresh's mark.
pub(crate) struct Mark {
    key: IdempotencyKey,
    holder: String,
}

impl Mark {
    pub(crate) fn of(refresher: &Refresher, message: &RefreshMessage) -> Self {
        // Two copies of a message may meet in one process, so the process's name alone is not enough.
        let holder = format!("{}:{:016x}", refresher.holder, refresher.randomness.next());
        Self { key: message.idempotency_key(), holder }
    }

    /// `false` if another refresh of this generation is in flight.
    pub(crate) async fn begin(&self, refresher: &Refresher, redelivered: bool) -> bool {
        match refresher.cache.begin(self.key, &self.holder, refresher.in_flight).await {
            Ok(true) => true,
            // The mark may be that of a worker which died with this message.
            Ok(false) => redelivered,
            Err(error) => {
                tracing::warn!(key = %self.key, %error, "refresh goes on without its in-flight mark");
                true
            }
        }
    }

    /// Makes way for the next attempt at this generation.
    pub(crate) async fn finish(&self, refresher: &Refresher) {
        if let Err(error) = refresher.cache.finish(self.key, &self.holder).await {
            tracing::warn!(key = %self.key, %error, "in-flight mark left to expire");
        }
    }
}
