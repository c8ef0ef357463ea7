//! `bench`: measures the product beside others, on servers of its own. Run it through `tests/bench`, which builds all that
//! it needs.
//!
//! A section is measured in several runs; what is compared is compared within a run. The results of a section take the
//! place of those it had before, and `tests/BENCHMARKS.md` is written from the results of all sections.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command-line tool; its table is what was asked for")]

mod bare;
mod chart;
mod connections;
mod contestant;
mod drain;
mod figures;
mod load;
mod machine;
mod page;
mod peers;
mod process;
mod results;
mod sections;
mod stage;
mod table;

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use freshet_shared::adapters::system::SystemClock;
use freshet_shared::ports::clock::Clock;

use crate::machine::Machine;
use crate::results::{Measured, Results};
use crate::sections::{Scale, Section};

/// Measures, prints a table, and writes tests/BENCHMARKS.md.
#[derive(Parser)]
#[command(name = "tests/bench")]
struct Arguments {
    /// Only this section; may be given several times. Without it, all of them.
    #[arg(long)]
    section: Vec<Section>,
    /// Runs of each section.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..))]
    runs: u8,
    /// A short form in minutes: fewer sections, runs and connections. Nothing is written; it fails where a ratio is far
    /// worse than its bar.
    #[arg(long)]
    quick: bool,
    /// With --quick: what the product is told beside its addresses, e.g. FRESHET_WORKER__CONCURRENCY=256.
    #[arg(long = "set", value_name = "VARIABLE=VALUE", requires = "quick", value_parser = variable)]
    variables: Vec<(String, String)>,
    /// Measures nothing: writes the page anew from the results that are there.
    #[arg(long, conflicts_with = "quick")]
    page: bool,
}

/// One thread, because servers end with the thread that started them.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<ExitCode> {
    freshet_shared::process::install_crypto();
    let arguments = Arguments::parse();
    if arguments.quick {
        return quick(&arguments.section, arguments.variables).await;
    }
    if !arguments.page {
        let scale = Scale::full(arguments.runs.into());
        for section in chosen(&arguments.section, &Section::ALL) {
            let measured = announced(section, &scale).await?;
            let day = SystemClock.now().format("%Y-%m-%d").to_string();
            let results = Results { day, runs: scale.runs, machine: Machine::look(), measured };
            results.write(section.name())?;
            page::write()?;
        }
    }
    page::write()?;
    Ok(ExitCode::SUCCESS)
}

fn variable(text: &str) -> Result<(String, String), &'static str> {
    let (name, value) = text.split_once('=').ok_or("expected VARIABLE=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

async fn quick(sections: &[Section], variables: Vec<(String, String)>) -> Result<ExitCode> {
    let scale = Scale::quick(variables);
    let mut broken = Vec::new();
    for section in chosen(sections, &Section::QUICK) {
        let measured = announced(section, &scale).await?;
        broken.extend(measured.bars.into_iter().filter(figures::Bar::is_broken));
    }
    for bar in &broken {
        println!("FAILED: {}", table::judged(bar));
    }
    Ok(ExitCode::from(u8::from(!broken.is_empty())))
}

fn chosen(asked: &[Section], otherwise: &[Section]) -> Vec<Section> {
    if asked.is_empty() { otherwise.to_vec() } else { asked.to_vec() }
}

async fn announced(section: Section, scale: &Scale) -> Result<Measured> {
    println!("\n==> {}", section.name());
    let measured = section.measure(scale).await?;
    println!("{}", table::plain(&measured));
    Ok(measured)
}
