//! `tests/BENCHMARKS.md`, from the results of all sections that have any, and the charts.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::chart;
use crate::machine::Machine;
use crate::results::Results;
use crate::sections::Section;
use crate::table::{asked, measured, verdict};

const HEAD: &str = "\
# Benchmarks

Written by `tests/bench`, which starts servers of its own, makes the data, measures, and writes this page; see
[`tests/benchmarks`](benchmarks). `tests/bench --section NAME` measures one section and replaces its part alone.

Each figure is the median of its runs, with the least and the most of them in parentheses. A ratio is taken within a run:
the contestants of a run follow each other within a minute, and the machine is the same. Servers, providers and contestants
share the machine, so figures per second say how much fits into it and not how much one process could do; ratios and
processor time per refresh carry over to other machines better than rates do.
";

/// Writes page and charts.
pub(crate) fn write() -> Result<()> {
    let mut sections = Vec::new();
    for section in Section::value_variants() {
        if let Some(results) = Results::read(section.name())? {
            sections.push((*section, results));
        }
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let charts = folder.join("benchmarks/charts");
    fs::create_dir_all(&charts)?;
    for (section, results) in &sections {
        if let Some(svg) = chart::of(*section, &results.measured) {
            fs::write(charts.join(format!("{section}.svg")), svg)?;
        }
    }
    let path = folder.join("BENCHMARKS.md");
    fs::write(&path, text(&sections)?).with_context(|| format!("cannot write {}", path.display()))
}

fn text(sections: &[(Section, Results)]) -> Result<String> {
    let mut page = HEAD.to_owned();
    writeln!(page, "\n## Bars\n\n| section | what | asked | measured | |\n| --- | --- | --- | --- | --- |")?;
    for (section, results) in sections {
        for bar in &results.measured.bars {
            let (name, asked, measured, verdict) =
                (&bar.figure.name, asked(bar), measured(&bar.figure), verdict(bar));
            writeln!(page, "| [{section}](#{section}) | {name} | {asked} | {measured} | {verdict} |")?;
        }
    }
    for (section, results) in sections {
        write_section(&mut page, *section, results)?;
    }
    Ok(page)
}

fn write_section(page: &mut String, section: Section, results: &Results) -> Result<()> {
    writeln!(page, "\n<a id=\"{section}\"></a>\n\n## {}\n\n{}", section.title(), results.measured.method)?;
    writeln!(page, "\n{}, {} runs, on {}.", results.day, results.runs, machine(&results.machine))?;
    if chart::of(section, &results.measured).is_some() {
        writeln!(page, "\n![{}](benchmarks/charts/{section}.svg)", section.title())?;
    }
    writeln!(page, "\n| figure | median (least to most) |\n| --- | --- |")?;
    for figure in &results.measured.figures {
        writeln!(page, "| {} | {} |", figure.name, measured(figure))?;
    }
    if let Ok(remarks) = fs::read_to_string(remarks(section)) {
        writeln!(page, "\n{}", remarks.trim_end())?;
    }
    Ok(())
}

/// What a person has to say about a section's figures.
fn remarks(section: Section) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benchmarks/remarks").join(format!("{section}.md"))
}

fn machine(machine: &Machine) -> String {
    let versions: Vec<String> =
        machine.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
    format!(
        "{} cores ({}), {} GiB, Linux {}; {}",
        machine.cores,
        machine.processor,
        machine.memory_gib,
        machine.kernel,
        versions.join(", ")
    )
}
