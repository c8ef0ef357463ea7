//! Curves over seconds.

use std::fmt::Write;

use super::{INK, colour, document};
use crate::results::Curve;
use crate::table::number;

const HEIGHT: f64 = 320.0;
const TOP: f64 = 44.0;
const BOTTOM: f64 = 280.0;
const LEFT: f64 = 90.0;
const RIGHT: f64 = 700.0;
/// Lines of the grid in each direction.
const STEPS: u8 = 4;

pub(super) fn chart(title: &str, curves: &[Curve]) -> String {
    let points = || curves.iter().flat_map(|curve| &curve.points);
    let most = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::MIN_POSITIVE, f64::max);
    let longest = most(&mut points().map(|(seconds, _)| *seconds));
    let highest = most(&mut points().map(|(_, count)| *count));
    let x = |seconds: f64| LEFT + (RIGHT - LEFT) * seconds / longest;
    let y = |count: f64| BOTTOM - (BOTTOM - TOP) * count / highest;
    // A String takes every byte.
    let mut content = String::new();
    for step in 0..=STEPS {
        let share = f64::from(step) / f64::from(STEPS);
        let (across, up) = (x(longest * share), y(highest * share));
        let _ = writeln!(
            content,
            "<path d=\"M{LEFT} {up:.1}H{RIGHT}\" stroke=\"{INK}\" stroke-opacity=\"0.3\"/>\n\
             <text x=\"{beside}\" y=\"{text:.1}\" text-anchor=\"end\">{count}</text>\n\
             <text x=\"{across:.1}\" y=\"{below}\" text-anchor=\"middle\">{seconds} s</text>",
            beside = LEFT - 8.0,
            text = up + 5.0,
            count = number(highest * share),
            below = BOTTOM + 22.0,
            seconds = number(longest * share),
        );
    }
    for (index, curve) in curves.iter().enumerate() {
        let path: Vec<String> = curve
            .points
            .iter()
            .map(|(seconds, count)| format!("{:.1} {:.1}", x(*seconds), y(*count)))
            .collect();
        let _ = writeln!(
            content,
            "<path d=\"M{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"3\"/>\n\
             <text x=\"{beside}\" y=\"{below:.1}\" fill=\"{colour}\">{name}</text>",
            path.join("L"),
            colour = colour(index),
            beside = LEFT + 16.0,
            below = TOP + 20.0 + 20.0 * index as f64,
            name = curve.name,
        );
    }
    document(HEIGHT, title, &content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_goes_from_the_lower_left_to_the_upper_right() {
        let curve = Curve { name: "all".to_owned(), points: vec![(0.0, 0.0), (5.0, 30.0), (10.0, 100.0)] };
        let svg = chart("Refreshed", &[curve]);
        for part in
            [format!("M{LEFT:.1} {BOTTOM:.1}L"), format!("L{RIGHT:.1} {TOP:.1}\""), ">100</text>".to_owned()]
        {
            assert!(svg.contains(&part), "no {part} in {svg}");
        }
    }
}
