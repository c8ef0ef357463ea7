//! `rehearsal`: a fleet of real processes on real servers that is scaled by the numbers of deploy's ScaledObject, while load
//! comes and goes and the provider is out for a while.
#![forbid(unsafe_code)]

mod arguments;
mod autoscaler;
mod manifests;
mod page;
mod play;
mod scenario;
mod stage;
#[cfg(test)]
mod tests;
mod verdict;
mod workers;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use arguments::Arguments;
use manifests::Manifests;
use scenario::Scenario;

/// One thread, because servers end with the thread that started them.
#[tokio::main(flavor = "current_thread")]
#[expect(clippy::print_stderr, reason = "a command-line tool")]
async fn main() -> ExitCode {
    match Box::pin(run(&Arguments::parse())).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("rehearsal: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// `true` if nothing happened that must not.
async fn run(arguments: &Arguments) -> Result<bool> {
    let begun = std::time::Instant::now();
    let (manifests, scenario) = (Manifests::read()?, Scenario::of(arguments.quick));
    let stage = stage::Stage::set(&manifests, scenario).await?;
    let played = Box::pin(play::play(&stage, &manifests, scenario, arguments.ending)).await?;
    let verdict = verdict::judge(&stage, scenario, manifests.scaling.min_replica_count, &played).await?;
    verdict::print(&verdict, begun.elapsed());
    if arguments.write {
        page::write(&stage, &manifests, scenario, &played, &verdict)?;
    }
    Ok(verdict.is_clean())
}
