//! Which of several processes leads. The database's clock decides who holds the lease; each process trusts in its own lease by
//! a clock of its own that nobody sets, and only as long as nothing speaks against it.

use std::time::Duration;

/// What the database says of the lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// We hold it.
    Ours {
        /// The number of our term: one more than the last one's.
        term: i64,
    },
    /// Somebody else holds it.
    Others {
        /// When it is free, unless it is renewed.
        free_in: Duration,
    },
}

/// Whether this process leads. Times are counted from its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Somebody else may lead.
    Following,
    /// Nobody else does.
    Leading {
        /// The number of our term.
        term: i64,
        /// From then on somebody else may.
        until: Duration,
    },
}

impl Standing {
    /// After the database was asked at `asked_at` for a lease of this length; no answer is `None`, and a reason to step down.
    ///
    /// The lease began when the database worked on the question, which was not before we asked: counted from there it never
    /// seems to last longer than it does, however long the answer took.
    pub fn after(answer: Option<Lease>, asked_at: Duration, length: Duration) -> Self {
        match answer {
            Some(Lease::Ours { term }) => Self::Leading { term, until: asked_at.saturating_add(length) },
            Some(Lease::Others { .. }) | None => Self::Following,
        }
    }

    /// The term that we lead in at this time.
    pub fn term_at(self, now: Duration) -> Option<i64> {
        match self {
            Self::Leading { term, until } if now < until => Some(term),
            Self::Leading { .. } | Self::Following => None,
        }
    }
}

/// When to ask again: in time to renew the lease, or as soon as it may be free.
pub fn ask_again_in(answer: Option<Lease>, length: Duration) -> Duration {
    const SOONEST: Duration = Duration::from_millis(20);
    let regularly = length / 3;
    match answer {
        Some(Lease::Others { free_in }) => free_in.clamp(SOONEST, regularly.max(SOONEST)),
        Some(Lease::Ours { .. }) | None => regularly.max(SOONEST),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn milliseconds(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    #[test]
    fn no_answer_and_anothers_lease_are_reasons_to_step_down() {
        let length = milliseconds(900);
        for answer in [None, Some(Lease::Others { free_in: milliseconds(1) })] {
            assert_eq!(Standing::after(answer, milliseconds(5), length), Standing::Following);
        }
    }

    #[test]
    fn a_follower_asks_when_the_lease_may_be_free_and_a_leader_long_before_it_ends() {
        let length = milliseconds(900);
        for (answer, expected) in [
            (None, 300),
            (Some(Lease::Ours { term: 1 }), 300),
            (Some(Lease::Others { free_in: milliseconds(120) }), 120),
            (Some(Lease::Others { free_in: milliseconds(0) }), 20),
            (Some(Lease::Others { free_in: milliseconds(800) }), 300),
        ] {
            assert_eq!(ask_again_in(answer, length), milliseconds(expected), "{answer:?}");
        }
    }

    /// The database's row, by the database's clock.
    #[derive(Default)]
    struct Row {
        holder: usize,
        term: i64,
        expires_at: Duration,
    }

    impl Row {
        fn ask(&mut self, holder: usize, now: Duration, length: Duration) -> Lease {
            let holds = self.holder == holder && self.expires_at > now;
            if !holds && self.expires_at > now {
                return Lease::Others { free_in: self.expires_at - now };
            }
            self.term += i64::from(!holds);
            (self.holder, self.expires_at) = (holder, now + length);
            Lease::Ours { term: self.term }
        }
    }

    proptest! {
        /// Questions of three processes with any delay on the way there and back, also beyond the lease.
        #[test]
        fn two_never_lead_at_the_same_time(
            questions in prop::collection::vec((1_usize..=3, 0_u64..400, 0_u64..400, 0_u64..2_500), 1..60),
        ) {
            let length = milliseconds(1_000);
            let mut row = Row::default();
            let mut time = 0;
            // Who led from when to when.
            let mut reigns: Vec<(usize, i64, Duration, Duration)> = Vec::new();
            for (holder, pause, there, back) in questions {
                // In the order in which the database works on them.
                time += pause;
                let worked_at = milliseconds(time);
                let asked_at = worked_at.saturating_sub(milliseconds(there));
                let answered_at = worked_at + milliseconds(back);
                let answer = row.ask(holder, worked_at, length);
                let standing = Standing::after(Some(answer), asked_at, length);
                if let Standing::Leading { term, until } = standing
                    && standing.term_at(answered_at).is_some()
                {
                    reigns.push((holder, term, answered_at, until));
                }
            }
            for (index, (holder, term, from, until)) in reigns.iter().enumerate() {
                for (other, others_term, others_from, others_until) in &reigns[index + 1..] {
                    let overlap = from < others_until && others_from < until;
                    prop_assert!(holder == other || !overlap, "{holder} and {other} lead at once");
                    prop_assert!(holder == other || term < others_term, "a term is nobody else's");
                }
            }
        }
    }
}
