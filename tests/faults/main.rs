//! `chaos`: a fleet of real processes on real servers, all of which are killed, frozen, cut off and restarted while it
//! works; and an oracle that then compares the provider's ledger with the database, the cache and the queues.
#![forbid(unsafe_code)]

mod again;
mod arguments;
mod events;
mod freezer;
mod mischief;
mod oracle;
mod proxy;
mod stage;
mod supply;
mod table;
#[cfg(test)]
mod tests;
mod troupe;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use arguments::Arguments;

/// One thread, because servers end with the thread that started them.
#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stderr, reason = "a command-line tool")]
async fn main() -> ExitCode {
    match Box::pin(run(&Arguments::parse())).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("chaos: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// `true` if nothing happened that must not.
async fn run(arguments: &Arguments) -> Result<bool> {
    let begun = std::time::Instant::now();
    let mut stage = stage::Stage::set(arguments).await?;
    let done = Box::pin(mischief::play(&mut stage, arguments)).await?;
    let verdict = oracle::judge(&stage, &done).await?;
    table::print(arguments, &done, &verdict, begun.elapsed());
    Ok(verdict.is_clean())
}
