//! Turns for what was refused, one behind the other.

use chrono::{DateTime, TimeDelta, Utc};

/// Where a queue of turns ends. It passes by itself, with time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turns {
    end: Option<DateTime<Utc>>,
}

impl Turns {
    /// When the next turn begins, `spacing` long: at `earliest`, or behind those that were given before. `None` where the
    /// queue would be longer than `longest`; nothing is given then.
    pub fn next(
        &mut self,
        earliest: DateTime<Utc>,
        spacing: TimeDelta,
        longest: TimeDelta,
    ) -> Option<DateTime<Utc>> {
        let begin = self.end.map_or(earliest, |end| end.max(earliest));
        let end = begin.checked_add_signed(spacing)?;
        if end - earliest > longest {
            return None;
        }
        self.end = Some(end);
        Some(begin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(second)
    }

    #[test]
    fn turns_follow_each_other_pass_with_time_and_never_get_too_many() {
        let mut turns = Turns::default();
        let mut next = |earliest| turns.next(at(earliest), TimeDelta::seconds(2), TimeDelta::seconds(6));
        assert_eq!([next(1), next(1), next(1)], [at(1), at(3), at(5)].map(Some));
        assert_eq!(next(1), None);
        assert_eq!(next(3), Some(at(7)), "the first of them is over");
        assert_eq!(next(60), Some(at(60)), "the queue is over");
    }

    #[test]
    fn a_turn_that_is_too_long_is_not_given() {
        let mut turns = Turns::default();
        let longest = TimeDelta::minutes(5);
        assert_eq!(turns.next(at(0), TimeDelta::MAX, longest), None);
        assert_eq!(turns.next(at(0), longest, longest), Some(at(0)));
    }
}
