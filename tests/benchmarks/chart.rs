//! Charts of some sections.

mod bars;

use freshet_tests::chart::lines;

use crate::results::Measured;
use crate::sections::Section;

/// The chart of a section, where it has one.
pub(crate) fn of(section: Section, measured: &Measured) -> Option<String> {
    match section {
        Section::Throughput => {
            let rates: Vec<_> = measured.figures.iter().filter(|figure| figure.unit == "/s").collect();
            Some(bars::chart("Refreshes per second, median and spread", &rates))
        }
        Section::Storm | Section::Limited => {
            Some(lines::chart("Connections refreshed, over seconds", &measured.curves))
        }
        _ => None,
    }
}
