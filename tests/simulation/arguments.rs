//! The command line.

use std::num::NonZeroUsize;
use std::time::Duration;

use clap::{Parser, ValueEnum};
use freshet_shared::failpoints::{Guard, turn_off};

use crate::plan::PlanArguments;
use crate::store::{leave_retry_out, leave_urgent_out};

/// Runs fleets with seeded faults, and looks for what must never happen.
#[derive(Debug, Parser)]
#[command(name = "simulate")]
pub(crate) struct Arguments {
    /// What to do; without a command: run seeds.
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// How many seeds to run.
    #[arg(long, default_value_t = 100, conflicts_with = "seed")]
    pub(crate) seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 1, conflicts_with = "seed")]
    pub(crate) from: u64,
    /// One seed, with all that happens printed.
    #[arg(long)]
    pub(crate) seed: Option<u64>,
    /// Virtual hours that each runs; 3, and two weeks for every 400th seed, where neither hours nor days are said.
    #[arg(long)]
    pub(crate) hours: Option<u32>,
    /// The same in days.
    #[arg(long, conflicts_with = "hours")]
    pub(crate) days: Option<u32>,
    /// Runs at once; 0 for one on each processor.
    #[arg(long, default_value_t = 0)]
    pub(crate) jobs: usize,
    /// Turns a guard of the product off, to see that it is missed.
    #[arg(long, value_enum)]
    pub(crate) without: Option<Without>,
}

/// Something else than running seeds.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Says what a fleet needs under a provider's limit, and what an outage does to it.
    Plan(PlanArguments),
}

/// A guard of the product, or a scan without which tokens die.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Without {
    /// The preconditions of a commit.
    Fence,
    /// The note of a call that spends a refresh token, before it is sent.
    Journal,
    /// The urgent scan, for tokens that are dead or die soon.
    Urgent,
    /// The scan for next attempts.
    Retry,
}

impl Without {
    /// Does without it from now on, in all of this process. A scan is left out by what stands between it and the database.
    pub(crate) fn obey(self) {
        match self {
            Self::Fence => turn_off(Guard::Fence),
            Self::Journal => turn_off(Guard::Journal),
            Self::Urgent => leave_urgent_out(),
            Self::Retry => leave_retry_out(),
        }
    }
}

/// What a run has time for: some storms, and calm after each.
const USUAL: Duration = Duration::from_secs(3 * 3_600);
/// What only weeks show: history that is pruned, generations in their hundreds.
const LONG: Duration = Duration::from_secs(14 * 24 * 3_600);
/// Every so many runs one is long.
const ONE_LONG_OF: u64 = 400;

impl Arguments {
    /// How long a run is, in virtual time.
    pub(crate) fn length(&self, seed: u64) -> Duration {
        let hours = |hours: u32| Duration::from_secs(u64::from(hours) * 3_600);
        match (self.hours, self.days) {
            (Some(number), _) => hours(number),
            (None, Some(days)) => hours(24).saturating_mul(days),
            (None, None) if seed.is_multiple_of(ONE_LONG_OF) => LONG,
            (None, None) => USUAL,
        }
    }

    /// The command that runs a seed as it was run here.
    pub(crate) fn replay(&self, seed: u64) -> String {
        let mut command = format!("tests/simulate --seed {seed}");
        match (self.hours, self.days) {
            (Some(hours), _) => command.push_str(&format!(" --hours {hours}")),
            (None, Some(days)) => command.push_str(&format!(" --days {days}")),
            (None, None) => {}
        }
        if let Some(without) = self.without.as_ref().and_then(ValueEnum::to_possible_value) {
            command.push_str(&format!(" --without {}", without.get_name()));
        }
        command
    }

    /// Runs at once.
    pub(crate) fn jobs(&self) -> usize {
        match self.jobs {
            0 => std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            jobs => jobs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replay_says_all_that_makes_a_run_what_it_was() {
        for (said, replay) in [
            ("--seeds 9 --from 3 --jobs 2", ""),
            ("--hours 5", " --hours 5"),
            ("--days 2 --without journal", " --days 2 --without journal"),
            ("--seed 7 --without fence", " --without fence"),
        ] {
            let arguments = Arguments::parse_from(["simulate"].into_iter().chain(said.split(' ')));
            let command = arguments.replay(7);
            assert_eq!(command, format!("tests/simulate --seed 7{replay}"));
            let again = Arguments::parse_from(command.split(' '));
            assert_eq!(
                (again.seed, again.length(7), again.without),
                (Some(7), arguments.length(7), arguments.without)
            );
        }
    }
}
