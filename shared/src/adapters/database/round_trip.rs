//! How a round trip with gathered questions is made.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use super::Database;

/// Makes round trips otherwise than by waiting for them as they come: for a database that is part of a process whose time is
/// not the world's.
pub trait RoundTrips: Send + Sync {
    /// Makes this one. One that is dropped before its end is not known to have been made, and whoever asks is told so.
    fn make<'t>(&'t self, trip: BoxFuture<'t, ()>) -> BoxFuture<'t, ()>;
}

impl Database {
    /// Makes the round trips of gathered questions in this way, and gathers by itself.
    #[must_use]
    pub fn with_round_trips(self, trips: Arc<dyn RoundTrips>) -> Self {
        Self { round_trips: Some(trips), ..self }.gathering_anew()
    }

    /// The answers of a round trip; none where it was not made.
    pub(super) async fn round_trip<A: Send>(&self, trip: impl Future<Output = Vec<A>> + Send) -> Vec<A> {
        let Some(trips) = &self.round_trips else { return trip.await };
        let answers = Mutex::new(Vec::new());
        let noted = async { *answers.lock().unwrap_or_else(PoisonError::into_inner) = trip.await };
        trips.make(noted.boxed()).await;
        answers.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}
