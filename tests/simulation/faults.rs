//! What may go wrong in a run, and how often. Each run has faults of its own: some kinds often, some rarely, some not at
//! all, because what always goes wrong hides what happens otherwise.

use freshet_shared::ports::randomness::Randomness;

/// Chances, each of one step, in parts of a million.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// A process dies.
    pub(crate) death: u32,
    /// A job stands still for minutes.
    pub(crate) stall: u32,
    /// The database does not do what is asked.
    pub(crate) store_away: u32,
    /// It does, and its reply is lost.
    pub(crate) store_reply_lost: u32,
    /// The cache does not do what is asked.
    pub(crate) cache_away: u32,
    /// It does, and its reply is lost.
    pub(crate) cache_reply_lost: u32,
    /// A message is confirmed and lost.
    pub(crate) message_lost: u32,
    /// A message is there twice.
    pub(crate) message_twice: u32,
    /// A message is not confirmed, in the queue or not.
    pub(crate) message_unconfirmed: u32,
    /// A settlement is lost: the message comes again.
    pub(crate) settlement_lost: u32,
    /// No connection to the provider.
    pub(crate) not_connected: u32,
    /// The provider answers 500 or 503, and has done nothing.
    pub(crate) server_error: u32,
    /// The provider answers 429.
    pub(crate) rate_limited: u32,
    /// The provider did what was asked, and its answer is lost.
    pub(crate) answer_lost: u32,
    /// It did, and a gateway before it answers 502 or 504.
    pub(crate) gateway: u32,
    /// The database goes away while the answer is on its way, and the process that waits for it is asked to end.
    pub(crate) store_leaves: u32,
    /// It refuses a good grant once, as providers do.
    pub(crate) refused_once: u32,
}

impl Faults {
    /// Those of a run.
    pub(crate) fn of(randomness: &dyn Randomness) -> Self {
        let often = |rare: u32, common: u32| match randomness.next() % 4 {
            0 | 1 => 0,
            2 => rare,
            _ => common,
        };
        Self {
            death: often(1_000, 15_000),
            stall: often(500, 5_000),
            store_away: often(2_000, 50_000),
            store_reply_lost: often(2_000, 30_000),
            cache_away: often(5_000, 100_000),
            cache_reply_lost: often(5_000, 100_000),
            message_lost: often(10_000, 150_000),
            message_twice: often(10_000, 300_000),
            message_unconfirmed: often(5_000, 100_000),
            settlement_lost: often(10_000, 100_000),
            not_connected: often(20_000, 200_000),
            server_error: often(20_000, 300_000),
            rate_limited: often(20_000, 200_000),
            answer_lost: often(10_000, 150_000),
            gateway: often(10_000, 100_000),
            store_leaves: often(5_000, 50_000),
            refused_once: often(5_000, 100_000),
        }
    }
}
