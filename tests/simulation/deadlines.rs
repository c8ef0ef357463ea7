//! The rule that no token dies without a reason, judged at every step and not after a time of grace.
//!
//! A token is renewed long before its death, so one that dies does so because something happened. The run knows all that
//! happened, for it made it happen. So each fault **excuses** those connections that it concerns, from its moment on and for
//! as long as the product's own settings say that it may take until somebody tries again ([`Wait`]): the longest backoff
//! after a failed call, the rest of a claim after a lost message, the lease and the mark of a process that died. While
//! the provider is away, paused, or the database does not answer, all are excused, and for such a wait after that.
//!
//! **The exact rule**: an active connection whose token is dead at a time at which it is not excused is a violation. With no
//! fault there is no excuse at all, and the moment of the token's death is the moment of the violation. Each wait ends with
//! a stored token or with another fault: that one thing follows the other without a gap is what this shows.
//!
//! What is known to strike one connection excuses no other: a call that fails, a message that is lost or comes twice, a
//! statement for one row, a command of the cache, a reconnect, a job that is put off or stands still. The end or the
//! standstill of a process excuses all until another may be at work, and for longer those whose message or claim was in its
//! hands. A scan that fails, a breaker that may be open, and jobs that stand still in all slots excuse all, for whoever else
//! waits for them is not followed up. So in a storm little is judged, and a defect that shows in storms alone is found where
//! the excuses leave a gap or when they end: [`Judged`] says how much of the time that is.
//!
//! The limit is a reason like a fault, where it was used up: a job that was put off is excused until its turn. But what
//! the limit allows has to be made use of: who is put off [`PUT_OFF_AT_MOST`] times in a row, with neither a call nor
//! a fault between, is no longer excused by that.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::invariants::Row;

/// The urgent scan comes every minute, the retry scan in no more; beside that a clock that is wrong by 3 s each way, and all
/// round trips from the scan to the commit.
const PICKED_UP: TimeDelta = TimeDelta::seconds(75);
/// `scan.claim`.
pub(crate) const CLAIM: TimeDelta = TimeDelta::minutes(5);
/// `retry.longest`, also what a `Retry-After` is clamped to.
pub(crate) const BACKOFF: Duration = Duration::from_secs(300);
/// `breaker`: open for at most so long, and what was put off comes back spread over as long again.
const BREAKER: TimeDelta = TimeDelta::seconds(300 + 300);
/// The lease, or the mark, of who does not go on; and whoever meets it comes back after as long.
const HELD: TimeDelta = TimeDelta::seconds(2 * 90);
/// A database that does not answer is asked again every few seconds.
const ASKED_AGAIN: TimeDelta = TimeDelta::seconds(30);
/// From the end of a process to the start of the next, its grace period included.
const RESTARTED: TimeDelta = TimeDelta::seconds(30 + 38);
/// The queue for the rate: every connection once, at the share of the slowest fleet.
const TURN: TimeDelta = TimeDelta::seconds(90);

/// Jobs that are put off may be put off again by others, but not for ever.
const PUT_OFF_AT_MOST: u32 = 6;

/// Why somebody has to wait, and so for how long at most.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wait {
    /// The fleet has just been started.
    Start,
    /// A call failed: the row's backoff.
    CallFailed,
    /// Many failed: the breaker may be open.
    BreakerOpen,
    /// A message is in no queue, or nobody knows: the claim runs out.
    MessageLost,
    /// A message is there twice, or comes again: the one copy meets the other's lease or mark.
    MessageTwice,
    /// The database did not answer one question.
    StoreFailed,
    /// It did, and whoever claimed does not know.
    ClaimUnknown,
    /// It did not say who leads.
    LeaseUnknown,
    /// The cache did not answer: a mark may stay.
    CacheFailed,
    /// The producer that leads died.
    LeaderGone,
    /// It was asked to end, and releases its lease.
    LeaderEnds,
    /// The last worker died, or was asked to end.
    NoWorker,
    /// The message, or the claim, was in the hands of who did.
    GoneWithIt,
    /// A producer stands still for so long.
    ProducerStopped(Duration),
    /// A worker does, or jobs do that hold all that jobs may hold.
    Stopped(Duration),
    /// The message, or the claim, is in the hands of who stands still for so long.
    InStillHands(Duration),
    /// What all need is away.
    Away,
    /// The provider answers again.
    ProviderBack,
    /// The database does.
    DatabaseBack,
    /// The provider is not paused any more.
    Resumed,
    /// The merchant authorised again in the middle of a refresh.
    Reconnected,
    /// The limit is used up: put off until then.
    PutOff,
}

impl Wait {
    fn longest(self, leaderless: TimeDelta) -> TimeDelta {
        let more = match self {
            Self::Start => leaderless,
            Self::CallFailed => delta(BACKOFF),
            Self::BreakerOpen => BREAKER,
            Self::MessageLost | Self::ClaimUnknown | Self::Reconnected | Self::Resumed => CLAIM,
            Self::MessageTwice | Self::CacheFailed => HELD,
            Self::StoreFailed => ASKED_AGAIN,
            // Who leads, or would, asks again after a third of the lease, which is a quarter of that.
            Self::LeaseUnknown => leaderless / 4,
            Self::LeaderGone => RESTARTED + leaderless,
            Self::LeaderEnds => RESTARTED + leaderless / 4,
            Self::NoWorker => RESTARTED,
            Self::GoneWithIt => RESTARTED + HELD + CLAIM,
            Self::ProducerStopped(pause) => delta(pause) + leaderless,
            Self::Stopped(pause) => delta(pause),
            Self::InStillHands(pause) => delta(pause) + HELD + CLAIM,
            // As long as it is away, and not by a time.
            Self::Away => TimeDelta::zero(),
            Self::ProviderBack => delta(BACKOFF) + BREAKER,
            Self::DatabaseBack => ASKED_AGAIN + leaderless + HELD + CLAIM,
            Self::PutOff => TURN,
        };
        more + PICKED_UP
    }

    /// Whether a call may have been sent, or answered, and nobody knows.
    pub(crate) fn may_hide_a_call(self) -> bool {
        matches!(self, Self::StoreFailed | Self::GoneWithIt | Self::InStillHands(_))
    }

    /// Whether something that was away is there again.
    fn is_return(self) -> bool {
        matches!(self, Self::ProviderBack | Self::DatabaseBack | Self::Resumed)
    }
}

fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX)
}

/// How a connection stands, as far as it was last looked at.
struct Standing {
    /// When its token dies; `None`: it has none.
    dies_at: Option<DateTime<Utc>>,
    is_active: bool,
    excused_until: DateTime<Utc>,
    excuse: Wait,
    put_off: u32,
    /// Told once for each token.
    is_told: bool,
}

/// Time of active connections, each counted by itself: all of it, and that in which nothing would have excused a dead token.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Judged {
    pub(crate) calm: Share,
    pub(crate) stormy: Share,
}

/// A part of a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Share {
    pub(crate) of: TimeDelta,
    pub(crate) unexcused: TimeDelta,
}

impl Judged {
    /// Adds another run's.
    pub(crate) fn add(&mut self, other: Self) {
        for (share, more) in [(&mut self.calm, other.calm), (&mut self.stormy, other.stormy)] {
            share.of += more.of;
            share.unexcused += more.unexcused;
        }
    }
}

impl fmt::Display for Judged {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of calm and {} of storms", self.calm, self.stormy)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hours = |time: TimeDelta| time.as_seconds_f64() / 3_600.0;
        write!(formatter, "{:.1} of {:.1} connection-hours", hours(self.unexcused), hours(self.of))
    }
}

/// How all connections stand.
#[derive(Default)]
pub(crate) struct Deadlines {
    judged: Judged,
    /// Until when that is counted.
    judged_until: Option<DateTime<Utc>>,
    standings: BTreeMap<i64, Standing>,
    /// Things that all need and that are away.
    away: u32,
    /// From a leader's last renewal of its lease until somebody else leads.
    leaderless: TimeDelta,
}

impl Deadlines {
    /// How long a leader leads without renewing its lease (`scan.lease`); others ask after a third of it, at the latest.
    pub(crate) fn lease_lasts(&mut self, lease: TimeDelta) {
        self.leaderless = lease + lease / 3;
    }

    /// Looks at the rows as they are.
    pub(crate) fn update(&mut self, rows: &[Row], now: DateTime<Utc>) {
        for row in rows {
            let is_active = matches!(row.state.as_deref(), None | Some("active"));
            let standing = self.standings.entry(row.id).or_insert(Standing {
                dies_at: row.expires_at,
                is_active,
                excused_until: now + Wait::Start.longest(self.leaderless),
                excuse: Wait::Start,
                put_off: 0,
                is_told: false,
            });
            if standing.dies_at != row.expires_at {
                (standing.put_off, standing.is_told) = (0, false);
            }
            (standing.dies_at, standing.is_active) = (row.expires_at, is_active);
        }
    }

    /// Something happened to this connection, or to all.
    pub(crate) fn excuse(&mut self, whom: Option<i64>, wait: Wait, now: DateTime<Utc>) {
        match wait {
            Wait::Away => self.away += 1,
            _ if wait.is_return() => self.away = self.away.saturating_sub(1),
            _ => {}
        }
        let until = now + wait.longest(self.leaderless);
        for (id, standing) in &mut self.standings {
            if whom.is_some_and(|whom| whom != *id) {
                continue;
            }
            if let Wait::PutOff = wait {
                standing.put_off += 1;
                if standing.put_off > PUT_OFF_AT_MOST {
                    continue;
                }
            } else if whom.is_some() || wait.is_return() {
                standing.put_off = 0;
            }
            if standing.excused_until < until {
                (standing.excused_until, standing.excuse) = (until, wait);
            }
        }
    }

    /// Counts the time since it was last called, at every step and at least every second.
    pub(crate) fn judge(&mut self, now: DateTime<Utc>, is_stormy: bool) {
        let Some(since) = self.judged_until.replace(now) else { return };
        let share = if is_stormy { &mut self.judged.stormy } else { &mut self.judged.calm };
        for standing in self.standings.values().filter(|standing| standing.is_active) {
            share.of += now - since;
            // As it was in all of that time; what excuses now may have begun in it.
            if self.away == 0 && since > standing.excused_until {
                share.unexcused += now - since;
            }
        }
    }

    /// What that came to.
    pub(crate) fn judged(&self) -> Judged {
        self.judged
    }

    /// Whether anybody's token seems to be dead without an excuse: then the rows have to be looked at.
    pub(crate) fn seems_broken(&self, now: DateTime<Utc>) -> bool {
        self.away == 0 && self.standings.values().any(|standing| standing.is_broken(now))
    }

    /// Those whose token is dead without an excuse, each told once.
    pub(crate) fn broken(&mut self, now: DateTime<Utc>) -> Vec<String> {
        let mut broken = Vec::new();
        for (id, standing) in self.standings.iter_mut().filter(|(_, standing)| standing.is_broken(now)) {
            standing.is_told = true;
            let died = standing.dies_at.map_or("it never had a token".to_owned(), |at| {
                format!("its token died at {}", at.format("%dd %H:%M:%S"))
            });
            broken.push(format!(
                "connection {id}: {died}, its provider answers and the limit allows: the last excuse, {:?}, ended at {}",
                standing.excuse,
                standing.excused_until.format("%dd %H:%M:%S")
            ));
        }
        broken
    }
}

impl Standing {
    fn is_broken(&self, now: DateTime<Utc>) -> bool {
        self.is_active
            && !self.is_told
            && now > self.excused_until
            && self.dies_at.is_none_or(|dies_at| dies_at <= now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(seconds)
    }

    fn row(id: i64, state: &str, dies_at: i64) -> Row {
        Row { id, state: Some(state.into()), expires_at: Some(at(dies_at)), ..Row::default() }
    }

    /// Looked at in time 0; what the start excuses is over by 1,000.
    fn deadlines(rows: &[Row]) -> Deadlines {
        let mut deadlines = Deadlines::default();
        deadlines.update(rows, at(0));
        deadlines
    }

    #[test]
    fn a_token_that_dies_for_no_reason_is_told_in_that_moment_and_once() {
        let mut deadlines = deadlines(&[row(1, "active", 1_000), row(2, "needs_reauth", 1_000)]);
        assert!(!deadlines.seems_broken(at(999)));
        assert!(deadlines.seems_broken(at(1_000)));
        let broken = deadlines.broken(at(1_000));
        assert!(broken.len() == 1 && broken[0].starts_with("connection 1: its token died"), "{broken:?}");
        assert!(!deadlines.seems_broken(at(1_001)));
        // The next token's death is another one's.
        deadlines.update(&[row(1, "active", 2_000)], at(1_500));
        assert!(deadlines.seems_broken(at(2_000)));
    }

    #[test]
    fn a_fault_excuses_whom_it_concerns_and_no_longer_than_the_settings_say() {
        let rows = [row(1, "active", 1_000), row(2, "active", 1_000)];
        let mut deadlines = deadlines(&rows);
        deadlines.excuse(Some(1), Wait::CallFailed, at(900));
        let names =
            |broken: Vec<String>| broken.iter().filter_map(|what| what.chars().nth(11)).collect::<String>();
        assert_eq!(names(deadlines.broken(at(1_000))), "2");
        assert_eq!(names(deadlines.broken(at(900 + 300 + 75))), "");
        assert_eq!(names(deadlines.broken(at(900 + 300 + 76))), "1");
    }

    #[test]
    fn who_was_in_the_hands_of_the_last_worker_waits_for_more_than_the_next_one() {
        let mut deadlines = deadlines(&[row(1, "active", 1_000), row(2, "active", 1_000)]);
        deadlines.lease_lasts(TimeDelta::seconds(480));
        deadlines.excuse(None, Wait::NoWorker, at(1_000));
        deadlines.excuse(Some(1), Wait::GoneWithIt, at(1_000));
        let next = 1_000 + 68 + 75;
        assert!(!deadlines.seems_broken(at(next)));
        assert_eq!(deadlines.broken(at(next + 1)).len(), 1, "no worker waits for a leader");
        assert!(!deadlines.seems_broken(at(next + 180 + 300)));
        assert_eq!(deadlines.broken(at(next + 180 + 300 + 1)).len(), 1);
    }

    /// Each excuses whom it concerns, and nobody for longer than what it names.
    #[test]
    fn each_reason_has_its_time() {
        let pause = Duration::from_secs(100);
        let lease = 60;
        for (wait, seconds) in [
            (Wait::CallFailed, 300),
            (Wait::BreakerOpen, 600),
            (Wait::MessageLost, 300),
            (Wait::ClaimUnknown, 300),
            (Wait::Reconnected, 300),
            (Wait::MessageTwice, 180),
            (Wait::CacheFailed, 180),
            (Wait::StoreFailed, 30),
            (Wait::LeaseUnknown, lease / 3),
            (Wait::LeaderEnds, 68 + lease / 3),
            (Wait::LeaderGone, 68 + lease + lease / 3),
            (Wait::NoWorker, 68),
            (Wait::GoneWithIt, 68 + 180 + 300),
            (Wait::ProducerStopped(pause), 100 + lease + lease / 3),
            (Wait::Stopped(pause), 100),
            (Wait::InStillHands(pause), 100 + 180 + 300),
            (Wait::PutOff, 90),
        ] {
            let rows = [row(1, "active", 1_000), row(2, "active", 1_000)];
            let mut deadlines = deadlines(&rows);
            deadlines.lease_lasts(TimeDelta::seconds(lease));
            assert_eq!(deadlines.broken(at(1_000)).len(), 2, "{wait:?} would be the first reason");
            deadlines.update(&[row(1, "active", 2_000), row(2, "active", 2_000)], at(1_500));
            deadlines.excuse(Some(1), wait, at(2_000));
            assert_eq!(deadlines.broken(at(2_000)).len(), 1, "{wait:?} concerns one alone");
            let last = 2_000 + seconds + 75;
            assert!(!deadlines.seems_broken(at(last)), "{wait:?}");
            assert!(deadlines.seems_broken(at(last + 1)), "{wait:?}");
        }
        for (wait, seconds) in [
            (Wait::ProviderBack, 300 + 600),
            (Wait::DatabaseBack, 30 + lease + lease / 3 + 180 + 300),
            (Wait::Resumed, 300),
        ] {
            let mut deadlines = deadlines(&[row(1, "active", 1_000)]);
            deadlines.lease_lasts(TimeDelta::seconds(lease));
            deadlines.excuse(None, Wait::Away, at(900));
            deadlines.excuse(None, wait, at(2_000));
            let last = 2_000 + seconds + 75;
            assert!(!deadlines.seems_broken(at(last)), "{wait:?}");
            assert!(deadlines.seems_broken(at(last + 1)), "{wait:?}");
        }
    }

    #[test]
    fn a_leader_that_is_gone_is_waited_for_as_long_as_its_lease_lasts() {
        let mut deadlines = deadlines(&[row(1, "active", 1_000)]);
        deadlines.lease_lasts(TimeDelta::seconds(60));
        deadlines.excuse(None, Wait::LeaderGone, at(1_000));
        let next = 1_000 + 68 + 80 + 75;
        assert!(!deadlines.seems_broken(at(next)));
        assert!(deadlines.seems_broken(at(next + 1)));
    }

    #[test]
    fn as_long_as_something_is_away_all_are_excused() {
        let mut deadlines = deadlines(&[row(1, "active", 1_000)]);
        deadlines.excuse(None, Wait::Away, at(500));
        deadlines.excuse(None, Wait::Away, at(600));
        deadlines.excuse(None, Wait::ProviderBack, at(700));
        assert!(!deadlines.seems_broken(at(1_000_000)));
        deadlines.excuse(None, Wait::ProviderBack, at(1_000_000));
        assert!(!deadlines.seems_broken(at(1_000_001)));
        assert!(deadlines.seems_broken(at(1_010_000)));
    }

    #[test]
    fn the_time_without_an_excuse_is_counted_in_calm_and_in_storms() {
        let mut deadlines = deadlines(&[row(1, "active", 9_000), row(2, "needs_reauth", 9_000)]);
        let judge = |deadlines: &mut Deadlines, until: i64, is_stormy| {
            (until - 99..=until).for_each(|second| deadlines.judge(at(second), is_stormy));
            let Judged { calm, stormy } = deadlines.judged();
            [calm.of, calm.unexcused, stormy.of, stormy.unexcused].map(|time| time.num_seconds())
        };
        deadlines.judge(at(1_000), false);
        assert_eq!(judge(&mut deadlines, 1_100, false), [100, 100, 0, 0]);
        // Excused for 75 s, and 30 more.
        deadlines.excuse(None, Wait::StoreFailed, at(1_100));
        assert_eq!(judge(&mut deadlines, 1_200, true), [100, 100, 100, 0]);
        assert_eq!(judge(&mut deadlines, 1_300, true), [100, 100, 200, 94]);
        deadlines.excuse(None, Wait::Away, at(1_300));
        assert_eq!(judge(&mut deadlines, 1_400, false), [200, 100, 200, 94]);
    }

    #[test]
    fn what_befalls_all_is_no_reason_to_be_put_off_for_longer() {
        let mut deadlines = deadlines(&[row(1, "active", 1_000)]);
        for time in 1..=i64::from(PUT_OFF_AT_MOST) {
            deadlines.excuse(Some(1), Wait::PutOff, at(1_000 + time));
            deadlines.excuse(None, Wait::StoreFailed, at(1_000 + time));
        }
        deadlines.excuse(Some(1), Wait::PutOff, at(1_150));
        assert!(deadlines.seems_broken(at(1_200)));
        deadlines.excuse(Some(1), Wait::CallFailed, at(1_200));
        deadlines.excuse(Some(1), Wait::PutOff, at(1_560));
        assert!(!deadlines.seems_broken(at(1_700)), "a call lay between");
    }

    #[test]
    fn to_be_put_off_again_and_again_excuses_nobody() {
        let mut deadlines = deadlines(&[row(1, "active", 1_000)]);
        let times = i64::from(PUT_OFF_AT_MOST);
        (1..=times).for_each(|time| deadlines.excuse(Some(1), Wait::PutOff, at(1_000 + time)));
        assert!(!deadlines.seems_broken(at(1_100)));
        deadlines.excuse(Some(1), Wait::PutOff, at(1_150));
        assert!(deadlines.seems_broken(at(1_200)));
    }
}
