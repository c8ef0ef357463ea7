//! The generic cell rate algorithm (ITU-T I.371, annex A): one time stamp per limit, no counters, no windows.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::Rate;

/// What became of a wish to send a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It may go out after this time, and nobody else has that moment. Zero: now.
    Granted(Duration),
    /// It would have to wait for so long, if nobody else takes it. Nothing was consumed.
    Refused(Duration),
}

/// The state of one limit: when the next request would be sent if all were evenly spaced. It lies in the future by as
/// much as has been sent early, and that may be a burst, and by what was promised to who waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gcra {
    /// In microseconds since 1970, as in `rate.lua`.
    arrival: Option<i64>,
}

impl Gcra {
    /// How far ahead a request is promised at most.
    pub const AHEAD: Duration = Duration::from_secs(1);

    /// One whose burst is spent at `now`, and all that can be promised promised.
    pub fn spent(rate: &Rate, now: DateTime<Utc>) -> Self {
        Self { arrival: Some(furthest(rate, now)) }
    }

    /// Takes one request, if it may go out within `patience` from `now`, of which at most [`Gcra::AHEAD`] counts.
    pub fn take(&mut self, rate: &Rate, now: DateTime<Utc>, patience: Duration) -> Taken {
        let (interval, tolerance) = spans(rate);
        let moment = now.timestamp_micros();
        // No request of this rate leaves it further ahead. If it is, the clock went back or the rate was changed, and
        // waiting for that to pass could take for ever.
        let arrival = self.arrival.unwrap_or(moment).min(furthest(rate, now)).max(moment);
        let wait = Duration::from_micros((arrival - tolerance - moment).max(0).unsigned_abs());
        if wait > patience.min(Self::AHEAD) {
            // The same as before, but for such a correction.
            self.arrival = Some(arrival);
            return Taken::Refused(wait);
        }
        self.arrival = Some(arrival.saturating_add(interval));
        Taken::Granted(wait)
    }
}

/// Where the last request that can be taken leaves a limit, in microseconds since 1970.
fn furthest(rate: &Rate, now: DateTime<Utc>) -> i64 {
    let (interval, tolerance) = spans(rate);
    [tolerance, interval, micros(Gcra::AHEAD)].into_iter().fold(now.timestamp_micros(), i64::saturating_add)
}

/// Between two requests, and how much a burst may be ahead, in microseconds.
fn spans(rate: &Rate) -> (i64, i64) {
    let interval = micros(rate.interval());
    (interval, interval.saturating_mul(i64::from(rate.burst().get()) - 1))
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX / 2)
}
