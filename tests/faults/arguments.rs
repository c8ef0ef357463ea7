//! The command line.

use clap::Parser;

/// Lets a fleet work while everything that it stands on fails, and looks for what must never happen.
#[derive(Debug, Clone, Parser)]
// What is said last counts.
#[command(name = "chaos", args_override_self = true)]
pub(crate) struct Arguments {
    /// Connections that come due, each once, spread over all that happens. Each absence of the broker by `--broker-seconds`
    /// adds 200, so that there is work to go on with.
    #[arg(long, default_value_t = 600)]
    pub(crate) jobs: i64,
    /// Worker processes.
    #[arg(long, default_value_t = 3)]
    pub(crate) workers: usize,
    /// Workers killed by SIGKILL.
    #[arg(long, default_value_t = 10)]
    pub(crate) worker_kills: u32,
    /// Workers asked to end by SIGTERM.
    #[arg(long, default_value_t = 3)]
    pub(crate) worker_terms: u32,
    /// Workers that stand still, by SIGSTOP and SIGCONT.
    #[arg(long, default_value_t = 1)]
    pub(crate) worker_stops: u32,
    /// For how many seconds each of them does, while the others go on.
    #[arg(long, default_value_t = 3)]
    pub(crate) stop_seconds: u64,
    /// Producers killed by SIGKILL.
    #[arg(long, default_value_t = 2)]
    pub(crate) producer_kills: u32,
    /// Producers asked to end by SIGTERM.
    #[arg(long, default_value_t = 1)]
    pub(crate) producer_terms: u32,
    /// Producers that stand still, for as long as workers do, while another one goes on.
    #[arg(long, default_value_t = 1)]
    pub(crate) producer_stops: u32,
    /// Kills of RabbitMQ.
    #[arg(long, default_value_t = 1)]
    pub(crate) broker_kills: u32,
    /// For how many seconds the broker stays away after each; 0: it is started again at once.
    #[arg(long, default_value_t = 0)]
    pub(crate) broker_seconds: u64,
    /// Kills of the database server.
    #[arg(long, default_value_t = 1)]
    pub(crate) database_kills: u32,
    /// Kills of Redis, each of which empties it.
    #[arg(long, default_value_t = 1)]
    pub(crate) redis_kills: u32,
    /// Disturbances of the network between one process, or all of a kind, and one of those that it speaks to: the database,
    /// the broker, the cache, the providers.
    #[arg(long, default_value_t = 3)]
    pub(crate) network_faults: u32,
    /// How many milliseconds pass at most between two of all these, beside the tenth of a second that always does.
    #[arg(long, default_value_t = 700)]
    pub(crate) pace: u64,
    /// Messages that are put aside before all that, while the broker is killed: each has to reach the queue of dead letters.
    #[arg(long, default_value_t = 0)]
    pub(crate) dead_letters: u64,
    /// How many of a hundred first attempts fail at the provider.
    #[arg(long, default_value_t = 30)]
    pub(crate) first_failures: u64,
    /// How many milliseconds the provider takes for every answer.
    #[arg(long, default_value_t = 0)]
    pub(crate) latency: u64,
    /// How many seconds a call may take.
    #[arg(long, default_value_t = 2)]
    pub(crate) call_seconds: u64,
    /// What chance follows from.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Seconds that the fleet gets to recover at the end.
    #[arg(long, default_value_t = 180)]
    pub(crate) patience: u64,
    /// Turns a guard of the product off, to see that it is missed.
    #[arg(long, value_enum)]
    pub(crate) without: Option<Without>,
}

/// A guard of the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Without {
    /// The preconditions of a commit.
    Fence,
    /// Dead letters that reach their queue also where the broker is killed.
    DeadLettering,
    /// The note of a call that spends a refresh token, before it is sent.
    Journal,
}

impl Without {
    /// As it is named to a process.
    #[cfg(feature = "failpoints")]
    pub(crate) fn guard(self) -> freshet_shared::failpoints::Guard {
        use freshet_shared::failpoints::Guard;
        match self {
            Self::Fence => Guard::Fence,
            Self::DeadLettering => Guard::DeadLettering,
            Self::Journal => Guard::Journal,
        }
    }
}
