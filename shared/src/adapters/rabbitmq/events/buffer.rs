//! Events between those who emit them and the broker: so many and no more, the oldest give way.

use std::collections::VecDeque;
use std::mem;

/// What waits, and what is on its way and may come back.
pub(super) struct Buffer<T> {
    waiting: VecDeque<T>,
    limit: usize,
    on_its_way: usize,
    lost: u64,
    lost_and_not_told: u64,
}

impl<T> Buffer<T> {
    pub(super) fn new(limit: usize) -> Self {
        Self { waiting: VecDeque::new(), limit, on_its_way: 0, lost: 0, lost_and_not_told: 0 }
    }

    pub(super) fn put(&mut self, item: T) {
        self.waiting.push_back(item);
        self.trim();
    }

    /// The oldest, at most `count`; nothing where nothing waits.
    pub(super) fn take(&mut self, count: usize) -> Vec<T> {
        let count = count.min(self.waiting.len());
        self.on_its_way += count;
        self.waiting.drain(..count).collect()
    }

    /// Ends what was taken last: `returned` waits again, before all others; `lost` of the rest were given up.
    pub(super) fn settle(&mut self, returned: Vec<T>, lost: u64) {
        self.on_its_way = 0;
        for item in returned.into_iter().rev() {
            self.waiting.push_front(item);
        }
        self.count_lost(lost);
        self.trim();
    }

    /// How many are not told yet.
    pub(super) fn outstanding(&self) -> usize {
        self.waiting.len() + self.on_its_way
    }

    /// How many were lost since the beginning.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    /// How many were lost since this was last asked.
    pub(super) fn newly_lost(&mut self) -> u64 {
        mem::take(&mut self.lost_and_not_told)
    }

    fn trim(&mut self) {
        let surplus = self.waiting.len().saturating_sub(self.limit);
        self.waiting.drain(..surplus);
        self.count_lost(surplus as u64);
    }

    fn count_lost(&mut self, lost: u64) {
        self.lost += lost;
        self.lost_and_not_told += lost;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(limit: usize, items: std::ops::Range<u32>) -> Buffer<u32> {
        let mut buffer = Buffer::new(limit);
        items.for_each(|item| buffer.put(item));
        buffer
    }

    #[test]
    fn the_oldest_give_way_and_are_counted() {
        let mut buffer = filled(3, 0..5);
        assert_eq!((buffer.outstanding(), buffer.lost()), (3, 2));
        assert_eq!(buffer.take(10), [2, 3, 4]);
        assert_eq!((buffer.newly_lost(), buffer.newly_lost(), buffer.lost()), (2, 0, 2));
    }

    #[test]
    fn what_comes_back_stands_first_and_in_order() {
        let mut buffer = filled(10, 0..5);
        assert_eq!(buffer.take(3), [0, 1, 2]);
        assert_eq!(buffer.outstanding(), 5);
        buffer.put(5);
        buffer.settle(vec![0, 2], 0);
        assert_eq!(buffer.take(10), [0, 2, 3, 4, 5]);
        buffer.settle(Vec::new(), 0);
        assert_eq!((buffer.outstanding(), buffer.lost()), (0, 0));
    }

    #[test]
    fn what_comes_back_to_a_full_buffer_is_the_oldest() {
        let mut buffer = filled(3, 0..3);
        assert_eq!(buffer.take(2), [0, 1]);
        (3..5).for_each(|item| buffer.put(item));
        buffer.settle(vec![0, 1], 0);
        assert_eq!((buffer.take(10), buffer.lost()), (vec![2, 3, 4], 2));
    }

    #[test]
    fn what_was_given_up_is_counted() {
        let mut buffer = filled(3, 0..3);
        buffer.take(3);
        buffer.settle(vec![2], 2);
        assert_eq!((buffer.outstanding(), buffer.newly_lost()), (1, 2));
    }
}
