//! Charts of two sections, as SVG text that reads on light and dark pages.

mod bars;
mod lines;

use crate::results::Measured;
use crate::sections::Section;

const WIDTH: f64 = 720.0;
/// What is drawn beside the marks; grey stands out from white and from black.
const INK: &str = "#7d8590";
const COLOURS: [&str; 4] = ["#1f77b4", "#e8833a", "#2ca02c", "#9467bd"];

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

/// A whole document around `content`.
fn document(height: f64, title: &str, content: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" font-family=\"sans-serif\" font-size=\"14\" fill=\"{INK}\">\n<title>{title}</title>\n\
         <text x=\"8\" y=\"24\" font-size=\"16\">{title}</text>\n{content}</svg>\n"
    )
}

fn colour(index: usize) -> &'static str {
    COLOURS.get(index % COLOURS.len()).copied().unwrap_or(INK)
}
