//! Spans of traces, each a bar below the one that it belongs to.

use std::fmt::Write;

use super::{INK, WIDTH, document, number};

const TOP: f64 = 44.0;
const LEFT: f64 = 8.0;
const RIGHT: f64 = WIDTH - 12.0;
const TITLE: f64 = 26.0;
/// A span's name and bar, and what else is said of it.
const ROW: f64 = 28.0;
const NOTE: f64 = 13.0;
const GAP: f64 = 16.0;
const INDENT: f64 = 14.0;
const THICKNESS: f64 = 6.0;
/// However short, it is seen.
const SHORTEST: f64 = 2.0;
const GOOD: [&str; 2] = ["#1f77b4", "#2ca02c"];
const BAD: &str = "#d62728";

/// A trace.
#[derive(Debug, Clone)]
pub struct Waterfall {
    /// What it is the trace of.
    pub title: String,
    /// In the order in which they are shown.
    pub bars: Vec<Bar>,
}

/// A span.
#[derive(Debug, Clone)]
pub struct Bar {
    /// Its name.
    pub name: String,
    /// What stands beside its name.
    pub kind: String,
    /// What else is said of it, if anything.
    pub note: String,
    /// How many it is below.
    pub depth: usize,
    /// Which of the services it is of: 0 or 1.
    pub service: usize,
    /// When it began and ended, in milliseconds from the trace's begin.
    pub time: (f64, f64),
    /// Whether it failed.
    pub is_error: bool,
}

/// Several traces below each other, each over its own time.
pub fn chart(title: &str, traces: &[Waterfall]) -> String {
    let mut content = String::new();
    let mut top = TOP;
    for trace in traces {
        let longest = trace.bars.iter().map(|bar| bar.time.1).fold(f64::MIN_POSITIVE, f64::max);
        // A String takes every byte, here and below.
        let _ = writeln!(
            content,
            "<text x=\"{LEFT}\" y=\"{:.1}\" font-size=\"14\">{}, {} ms</text>",
            top + 14.0,
            escaped(&trace.title),
            number(longest)
        );
        top += TITLE;
        for bar in &trace.bars {
            top = draw(&mut content, bar, top, longest);
        }
        top += GAP;
    }
    document(top, title, &content)
}

/// Answers where the next one is drawn.
fn draw(content: &mut String, bar: &Bar, top: f64, longest: f64) -> f64 {
    let x = |time: f64| LEFT + (RIGHT - LEFT) * time / longest;
    let (from, until) = (x(bar.time.0), x(bar.time.1));
    let width = (until - from).max(SHORTEST);
    let colour = if bar.is_error { BAD } else { GOOD.get(bar.service).copied().unwrap_or(INK) };
    let indented = LEFT + INDENT * bar.depth as f64;
    let _ = writeln!(
        content,
        "<text x=\"{indented:.1}\" y=\"{:.1}\" font-size=\"12\">{} <tspan font-size=\"11\" fill-opacity=\"0.75\">{}</tspan></text>",
        top + 13.0,
        escaped(&bar.name),
        escaped(&bar.kind),
    );
    let mut below = top + 19.0;
    if !bar.note.is_empty() {
        let _ = writeln!(
            content,
            "<text x=\"{indented:.1}\" y=\"{:.1}\" font-size=\"11\" fill-opacity=\"0.75\">{}</text>",
            top + 13.0 + NOTE,
            escaped(&bar.note),
        );
        below += NOTE;
    }
    let _ = writeln!(
        content,
        "<path d=\"M{LEFT} {middle:.1}H{RIGHT}\" stroke=\"{INK}\" stroke-opacity=\"0.2\"/>\n\
         <rect x=\"{from:.1}\" y=\"{below:.1}\" width=\"{width:.1}\" height=\"{THICKNESS}\" fill=\"{colour}\"/>",
        middle = below + THICKNESS / 2.0,
    );
    below + ROW - 19.0
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_long_as_its_span_and_red_where_it_failed() {
        let bar = |name: &str, depth: usize, time: (f64, f64), is_error: bool| Bar {
            name: name.to_owned(),
            kind: "CLIENT".to_owned(),
            note: String::new(),
            depth,
            service: 1,
            time,
            is_error,
        };
        let bars = vec![bar("whole", 0, (0.0, 10.0), false), bar("a & b", 1, (5.0, 10.0), true)];
        let svg = chart("Trace", &[Waterfall { title: "one".to_owned(), bars }]);
        let whole = RIGHT - LEFT;
        for part in [
            format!(
                "x=\"{LEFT:.1}\" y=\"89.0\" width=\"{whole:.1}\" height=\"{THICKNESS}\" fill=\"{}\"",
                GOOD[1]
            ),
            format!("width=\"{:.1}\" height=\"{THICKNESS}\" fill=\"{BAD}\"", whole / 2.0),
            "a &amp; b".to_owned(),
            "one, 10.0 ms".to_owned(),
        ] {
            assert!(svg.contains(&part), "no {part} in {svg}");
        }
    }
}
