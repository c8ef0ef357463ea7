//! The command line.

use clap::Parser;

/// Lets load come and go before a fleet that is scaled by the numbers of deploy's ScaledObject, and looks for what must not
/// happen.
#[derive(Debug, Clone, Parser)]
#[command(name = "rehearsal")]
pub(crate) struct Arguments {
    /// The short form, of less than a minute.
    #[arg(long, conflicts_with = "write")]
    pub(crate) quick: bool,
    /// Writes deploy/scaling.md and its chart.
    #[arg(long)]
    pub(crate) write: bool,
    /// How workers that are too many are ended; anything but `terminate` has to be found out.
    #[arg(long, value_enum, default_value_t = Ending::Terminate)]
    pub(crate) ending: Ending,
}

/// How a worker is ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Ending {
    /// By SIGTERM, as Kubernetes does.
    Terminate,
    /// By SIGKILL, as if there were no grace period.
    Kill,
}
