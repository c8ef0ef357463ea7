//! Curves over time: one chart, or several above each other over the same time.

use std::fmt::Write;

use super::{Curve, INK, colour, document, number};

const HEIGHT: f64 = 320.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 280.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 700.0;
/// Lines of the grid in each direction.
const STEPS: u8 = 4;

/// A panel's title, its curves and the gap to the next.
const PANEL_TITLE: f64 = 40.0;
const PANEL: f64 = 130.0;
const PANEL_GAP: f64 = 20.0;
const PANEL_STEPS: u8 = 2;

/// One of several charts over the same time.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What it shows, with its unit.
    pub title: String,
    /// All of one unit.
    pub curves: Vec<Curve>,
}

/// A time in which something was different.
#[derive(Debug, Clone)]
pub struct Band {
    /// When it began.
    pub from: f64,
    /// When it ended.
    pub until: f64,
    /// What was different.
    pub label: String,
}

/// Where curves are drawn, and what is at its edges.
struct Frame {
    top: f64,
    bottom: f64,
    longest: f64,
    highest: f64,
    steps: u8,
}

impl Frame {
    fn around(curves: &[Curve], (top, bottom): (f64, f64), longest: f64, steps: u8) -> Self {
        let counts = curves.iter().flat_map(|curve| &curve.points).map(|(_, count)| *count);
        Self { top, bottom, longest, highest: counts.fold(f64::MIN_POSITIVE, f64::max), steps }
    }

    fn x(&self, time: f64) -> f64 {
        LEFT + (RIGHT - LEFT) * time / self.longest
    }

    fn y(&self, count: f64) -> f64 {
        self.bottom - (self.bottom - self.top) * count / self.highest
    }

    // A String takes every byte, here and below.
    fn grid(&self, content: &mut String) {
        for step in 0..=self.steps {
            let count = self.highest * f64::from(step) / f64::from(self.steps);
            let up = self.y(count);
            let _ = writeln!(
                content,
                "<path d=\"M{LEFT} {up:.1}H{RIGHT}\" stroke=\"{INK}\" stroke-opacity=\"0.3\"/>\n\
                 <text x=\"{beside}\" y=\"{text:.1}\" text-anchor=\"end\">{count}</text>",
                beside = LEFT - 8.0,
                text = up + 5.0,
                count = number(count),
            );
        }
    }

    fn times(&self, content: &mut String, unit: &str) {
        for step in 0..=STEPS {
            let time = self.longest * f64::from(step) / f64::from(STEPS);
            let _ = writeln!(
                content,
                "<text x=\"{across:.1}\" y=\"{below}\" text-anchor=\"{anchor}\">{time} {unit}</text>",
                anchor = if step == STEPS { "end" } else { "middle" },
                across = self.x(time),
                below = self.bottom + 22.0,
                time = number(time),
            );
        }
    }

    fn curves(&self, content: &mut String, curves: &[Curve], width: f64) {
        for (index, curve) in curves.iter().enumerate() {
            let path: Vec<String> = curve
                .points
                .iter()
                .map(|(time, count)| format!("{:.1} {:.1}", self.x(*time), self.y(*count)))
                .collect();
            let _ = writeln!(
                content,
                "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
                path.join("L"),
                colour = colour(index),
            );
        }
    }
}

/// One chart, over seconds.
pub fn chart(title: &str, curves: &[Curve]) -> String {
    let frame = Frame::around(curves, (TOP, BOTTOM), latest(curves), STEPS);
    let mut content = String::new();
    frame.grid(&mut content);
    frame.times(&mut content, "s");
    frame.curves(&mut content, curves, 3.0);
    for (index, curve) in curves.iter().enumerate() {
        let _ = writeln!(
            content,
            "<text x=\"{beside}\" y=\"{below:.1}\" fill=\"{colour}\">{name}</text>",
            colour = colour(index),
            beside = LEFT + 16.0,
            below = TOP + 20.0 + 20.0 * index as f64,
            name = curve.name,
        );
    }
    document(HEIGHT, title, &content)
}

/// Several above each other, over the same time in `unit`.
pub fn panels(title: &str, unit: &str, panels: &[Panel], bands: &[Band]) -> String {
    let longest = panels.iter().map(|panel| latest(&panel.curves)).fold(f64::MIN_POSITIVE, f64::max);
    let mut content = String::new();
    let mut top = TOP;
    for (index, panel) in panels.iter().enumerate() {
        let (above, bottom) = (top + PANEL_TITLE, top + PANEL_TITLE + PANEL);
        let frame = Frame::around(&panel.curves, (above, bottom), longest, PANEL_STEPS);
        for band in bands {
            let (from, until) = (frame.x(band.from), frame.x(band.until.min(longest)));
            let _ = writeln!(
                content,
                "<rect x=\"{from:.1}\" y=\"{above:.1}\" width=\"{width:.1}\" height=\"{PANEL}\" fill=\"{INK}\" fill-opacity=\"0.18\"/>",
                width = until - from,
            );
            if index == 0 {
                let _ = writeln!(
                    content,
                    "<text x=\"{middle:.1}\" y=\"{inside:.1}\" text-anchor=\"middle\" font-size=\"12\">{label}</text>",
                    middle = f64::midpoint(from, until),
                    inside = above + 14.0,
                    label = band.label,
                );
            }
        }
        let _ = writeln!(
            content,
            "<text x=\"{LEFT}\" y=\"{:.1}\">{}{}</text>",
            above - 10.0,
            panel.title,
            legend(&panel.curves)
        );
        frame.grid(&mut content);
        frame.curves(&mut content, &panel.curves, 2.0);
        if index + 1 == panels.len() {
            frame.times(&mut content, unit);
        }
        top = bottom + PANEL_GAP;
    }
    document(top + PANEL_GAP, title, &content)
}

/// A panel with one curve says in its title what that is.
fn legend(curves: &[Curve]) -> String {
    if curves.len() < 2 {
        return String::new();
    }
    let names = curves
        .iter()
        .enumerate()
        .map(|(index, curve)| format!("<tspan dx=\"12\" fill=\"{}\">{}</tspan>", colour(index), curve.name));
    names.collect()
}

fn latest(curves: &[Curve]) -> f64 {
    let times = curves.iter().flat_map(|curve| &curve.points).map(|(time, _)| *time);
    times.fold(f64::MIN_POSITIVE, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn curve() -> Curve {
        Curve { name: "all".to_owned(), points: vec![(0.0, 0.0), (5.0, 30.0), (10.0, 100.0)] }
    }

    #[test]
    fn a_curve_goes_from_the_lower_left_to_the_upper_right() {
        let svg = chart("Refreshed", &[curve()]);
        for part in
            [format!("M{LEFT:.1} {BOTTOM:.1}L"), format!("L{RIGHT:.1} {TOP:.1}\""), ">100</text>".to_owned()]
        {
            assert!(svg.contains(&part), "no {part} in {svg}");
        }
    }

    #[test]
    fn panels_share_the_time_and_have_a_height_each() {
        let short = Curve { name: "short".to_owned(), points: vec![(0.0, 0.0), (5.0, 2.0)] };
        let panel =
            |title: &str, curves: &[Curve]| Panel { title: title.to_owned(), curves: curves.to_vec() };
        let bands = [Band { from: 5.0, until: 10.0, label: "away".to_owned() }];
        let svg = panels("Both", "min", &[panel("One", &[curve()]), panel("Two", &[short, curve()])], &bands);
        let (first, second) = (TOP + PANEL_TITLE, TOP + 2.0 * PANEL_TITLE + PANEL + PANEL_GAP);
        for part in [
            format!("L{RIGHT:.1} {first:.1}\""),
            format!("L{RIGHT:.1} {second:.1}\""),
            format!("<rect x=\"{:.1}\"", f64::midpoint(LEFT, RIGHT)),
            ">short</tspan>".to_owned(),
            ">10.0 min</text>".to_owned(),
        ] {
            assert!(svg.contains(&part), "no {part} in {svg}");
        }
        assert_eq!(svg.matches(">away</text>").count(), 1);
    }
}
