//! `chaos`: a fleet of real processes on real servers, all of which are killed, frozen, cut off and restarted while it
//! works; and an oracle that then compares the provider's ledger with the database, the cache and the queues.
#![forbid(unsafe_code)]

mod arguments;
mod company;
mod dead_letters;
mod deeds;
mod ends;
mod events;
mod explanations;
mod mischief;
mod network;
mod oracle;
mod proxy;
mod said;
mod stage;
mod supply;
mod table;
#[cfg(test)]
mod tests;
mod troupe;

use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;
use freshet_tests::command::Signals;

use arguments::Arguments;

/// One thread, because servers end with the thread that started them.
#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stderr, reason = "a command-line tool")]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match until_signalled(Box::pin(run(&arguments))).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Whoever ends us by a signal ends the fleet, too, which would try to reach its servers for minutes.
async fn until_signalled<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let mut signals = Signals::listen()?;
    tokio::select! {
        result = work => result,
        signal = signals.received() => bail!("ended by {signal}"),
    }
}

/// `true` if nothing happened that must not.
async fn run(arguments: &Arguments) -> Result<bool> {
    let begun = std::time::Instant::now();
    let mut stage = stage::Stage::set(arguments).await?;
    let lost_dead_letters = Box::pin(dead_letters::play(&mut stage, arguments.dead_letters)).await?;
    let mut done = Box::pin(mischief::play(&mut stage, arguments)).await?;
    done.lost_dead_letters = lost_dead_letters;
    let verdict = oracle::judge(&stage, &done, arguments).await?;
    table::print(arguments, &done, &verdict, begun.elapsed());
    Ok(verdict.is_clean())
}
