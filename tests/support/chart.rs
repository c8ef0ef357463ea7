//! Charts as SVG text that reads on light and dark pages.

pub mod lines;
mod number;
pub mod waterfall;

use serde::{Deserialize, Serialize};

pub use number::number;

/// How wide a chart is.
pub const WIDTH: f64 = 720.0;
/// What is drawn beside the marks; grey stands out from white and from black.
pub const INK: &str = "#7d8590";
const COLOURS: [&str; 4] = ["#1f77b4", "#e8833a", "#2ca02c", "#9467bd"];

/// Something over time.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Curve {
    /// What it is.
    pub name: String,
    /// When, and how much.
    pub points: Vec<(f64, f64)>,
}

/// A whole document around `content`.
pub fn document(height: f64, title: &str, content: &str) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\" font-family=\"sans-serif\" font-size=\"14\" fill=\"{INK}\">\n<title>{title}</title>\n\
         <text x=\"8\" y=\"24\" font-size=\"16\">{title}</text>\n{content}</svg>\n"
    )
}

/// The colour of the curve or bar with this place.
pub fn colour(index: usize) -> &'static str {
    COLOURS.get(index % COLOURS.len()).copied().unwrap_or(INK)
}
