//! The generic cell rate algorithm (ITU-T I.371, annex A): one time stamp per limit, no counters, no windows.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Rate;

/// What became of a wish to send a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It may go out now.
    Granted,
    /// Not now: one would be granted after this time, if nobody else takes it. Nothing was consumed.
    Wait(Duration),
}

/// The state of one limit: when the next request would be sent if all were evenly spaced. It lies in the future by as
/// much as has been sent early, and that may be a burst.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gcra {
    /// In microseconds since 1970, as in `rate.lua`.
    arrival: Option<i64>,
}

impl Gcra {
    /// Takes one request, if it may go out at `now`.
    pub fn take(&mut self, rate: &Rate, now: DateTime<Utc>) -> Taken {
        let interval = i64::try_from(rate.interval().as_micros()).unwrap_or(i64::MAX / 2);
        let tolerance = interval.saturating_mul(i64::from(rate.burst().get()) - 1);
        let now = now.timestamp_micros();
        // No request of this rate leaves it further ahead. If it is, the clock went back or the rate was changed, and
        // waiting for that to pass could take for ever.
        let furthest = now.saturating_add(tolerance).saturating_add(interval);
        let arrival = self.arrival.unwrap_or(now).min(furthest).max(now);
        let too_early = arrival - tolerance - now;
        if too_early > 0 {
            // The same as before, but for such a correction.
            self.arrival = Some(arrival);
            return Taken::Wait(Duration::from_micros(too_early.unsigned_abs()));
        }
        self.arrival = Some(arrival.saturating_add(interval));
        Taken::Granted
    }
}
