//! One bar per figure, with its spread as a line.

use std::fmt::Write;

use freshet_tests::chart::{INK, WIDTH, colour, document, number};

use crate::figures::Figure;

const TOP: f64 = 44.0;
const ROW: f64 = 36.0;
const THICKNESS: f64 = 22.0;
/// Where bars begin, and room for the number behind the longest.
const LEFT: f64 = 130.0;
const RIGHT: f64 = 90.0;

/// The part of a figure's name after its last comma is its label.
pub(super) fn chart(title: &str, figures: &[&Figure]) -> String {
    let most = figures.iter().map(|figure| figure.most()).fold(f64::MIN_POSITIVE, f64::max);
    let at = |value: f64| LEFT + (WIDTH - LEFT - RIGHT) * value / most;
    let mut content = String::new();
    for (index, figure) in figures.iter().enumerate() {
        let label = figure.name.rsplit(", ").next().unwrap_or_default();
        let (top, median) = (TOP + ROW * index as f64, figure.median());
        let (middle, length) = (top + THICKNESS / 2.0, at(median) - LEFT);
        // A String takes every byte.
        let _ = writeln!(
            content,
            "<text x=\"8\" y=\"{text:.1}\">{label}</text>\n\
             <rect x=\"{LEFT}\" y=\"{top:.1}\" width=\"{length:.1}\" height=\"{THICKNESS}\" fill=\"{colour}\"/>\n\
             <path d=\"M{least:.1} {middle:.1}H{most:.1}\" stroke=\"{INK}\" stroke-width=\"3\"/>\n\
             <text x=\"{behind:.1}\" y=\"{text:.1}\">{value}</text>",
            text = middle + 5.0,
            colour = colour(index),
            least = at(figure.least()),
            most = at(figure.most()),
            behind = at(figure.most()) + 8.0,
            value = number(median),
        );
    }
    document(TOP + ROW * figures.len() as f64, title, &content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_their_medians() {
        let one = Figure::new("refreshes per second, Freshet", "/s", vec![900.0, 1000.0, 800.0]);
        let other = Figure::new("refreshes per second, Node", "/s", vec![450.0]);
        let svg = chart("Refreshes", &[&one, &other]);
        let full = WIDTH - LEFT - RIGHT;
        for part in [
            ">Freshet</text>".to_owned(),
            ">Node</text>".to_owned(),
            format!("width=\"{:.1}\"", full * 0.9),
            format!("width=\"{:.1}\"", full * 0.45),
            ">900</text>".to_owned(),
        ] {
            assert!(svg.contains(&part), "no {part} in {svg}");
        }
    }
}
