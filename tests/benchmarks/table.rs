//! Figures and bars as rows, for the terminal and for the page.

pub(crate) use freshet_tests::chart::number;

use crate::figures::{Bar, Figure, Limit};
use crate::results::Measured;

/// Median and spread of a figure.
pub(crate) fn measured(figure: &Figure) -> String {
    format!(
        "{} ({} to {}) {}",
        number(figure.median()),
        number(figure.least()),
        number(figure.most()),
        figure.unit
    )
}

/// A bar, what was measured, and whether it is met.
pub(crate) fn judged(bar: &Bar) -> String {
    format!("{}: {}, {}: {}", bar.figure.name, asked(bar), measured(&bar.figure), verdict(bar))
}

/// What a bar asks for.
pub(crate) fn asked(bar: &Bar) -> String {
    let unit = &bar.figure.unit;
    match bar.limit {
        Limit::AtLeast(limit) => format!("at least {} {unit}", number(limit)),
        Limit::AtMost(limit) => format!("at most {} {unit}", number(limit)),
    }
}

/// Whether it is met, and by how much not.
pub(crate) fn verdict(bar: &Bar) -> String {
    if bar.is_met() { "met".to_owned() } else { format!("missed by {:.0} %", bar.missed_by() * 100.0) }
}

/// All of a section for the terminal.
pub(crate) fn plain(measured_section: &Measured) -> String {
    let figures = measured_section.figures.iter().map(|figure| (figure.name.clone(), measured(figure)));
    let bars = measured_section.bars.iter().map(|bar| {
        (bar.figure.name.clone(), format!("{}, {}: {}", measured(&bar.figure), asked(bar), verdict(bar)))
    });
    let rows: Vec<(String, String)> = figures.chain(bars).collect();
    let width = rows.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let lines: Vec<String> = rows.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_what_it_asks_and_by_how_much_it_is_missed() {
        let bar = Figure::new("over the floor's", "×", vec![0.7, 0.72, 0.8]).at_least(0.9);
        assert_eq!(judged(&bar), "over the floor's: at least 0.90 ×, 0.72 (0.70 to 0.80) ×: missed by 20 %");
    }
}
