//! How many calls ended well and badly of late, in a few numbers however many there were.

use std::collections::VecDeque;

use chrono::{DateTime, TimeDelta, Utc};

/// Into how many slices the window is cut. What is forgotten is forgotten a slice at a time.
const SLICES: i64 = 10;

/// Counts over a sliding window.
#[derive(Debug)]
pub(super) struct Window {
    /// In microseconds.
    slice: i64,
    slices: VecDeque<Slice>,
    /// Failures since a call ended well, or since the window was empty.
    in_a_row: u32,
}

#[derive(Debug)]
struct Slice {
    /// Slices since 1970.
    number: i64,
    failed: u32,
    total: u32,
}

impl Window {
    pub(super) fn new(length: TimeDelta) -> Self {
        let slice = length.num_microseconds().unwrap_or(i64::MAX) / SLICES;
        Self { slice: slice.max(1), slices: VecDeque::new(), in_a_row: 0 }
    }

    /// Counts one, and forgets what is older than the window.
    pub(super) fn count(&mut self, now: DateTime<Utc>, has_failed: bool) {
        let number = now.timestamp_micros().div_euclid(self.slice);
        // The clock went back: nobody knows how old the others are.
        if self.slices.back().is_some_and(|newest| newest.number > number) {
            self.slices.clear();
        }
        while self.slices.front().is_some_and(|oldest| oldest.number <= number - SLICES) {
            self.slices.pop_front();
        }
        if self.slices.is_empty() || !has_failed {
            self.in_a_row = 0;
        }
        self.in_a_row = self.in_a_row.saturating_add(u32::from(has_failed));
        if self.slices.back().is_none_or(|newest| newest.number < number) {
            self.slices.push_back(Slice { number, failed: 0, total: 0 });
        }
        if let Some(newest) = self.slices.back_mut() {
            newest.failed = newest.failed.saturating_add(u32::from(has_failed));
            newest.total = newest.total.saturating_add(1);
        }
    }

    /// Failures in a row, as of the last call that was counted.
    pub(super) fn in_a_row(&self) -> u32 {
        self.in_a_row
    }

    /// Failures and calls, as of the last one that was counted.
    pub(super) fn counts(&self) -> (u32, u32) {
        self.slices.iter().fold((0, 0), |(failed, total), slice| {
            (slice.failed.saturating_add(failed), slice.total.saturating_add(total))
        })
    }
}
