//! All connections expired at once, at a provider that takes 500 requests a second.

use anyhow::Result;

use super::Scale;
use super::storm::{Storm, storm};
use crate::figures::Figure;
use crate::results::{Curve, Measured};
use crate::stage::{Setting, Stage};
use crate::table::number;

const RATE: u64 = 500;

const METHOD: &str = "\
The same as `storm` with two workers, as many as the shipped manifests keep at least (up to four may run, as `limits.workers` \
comes), and `limits.rate = { requests = 500, per = \"1s\" }` for the provider. Ideal is one request every 2 ms from the first one \
on. The most in any second is the largest number of calls that any window of one second held, wherever it begins.";

pub(super) async fn measure(scale: &Scale) -> Result<Measured> {
    let count = scale.pick(100_000, 5_000);
    let mut stage = Stage::set(scale, Setting::default()).await?;
    for (key, value) in [("REQUESTS", RATE.to_string()), ("PER", "1s".to_owned())] {
        stage.environment.insert(format!("FRESHET_PROVIDERS__FYND__LIMITS__RATE__{key}"), value);
    }
    stage.add_connections(count).await?;
    let ideal = count as f64 / RATE as f64;
    let (mut took, mut most, mut curve) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..scale.runs {
        let storm = storm(&stage, count, 2).await?;
        took.push(storm.seconds);
        most.push(most_in_a_second(&storm) as f64);
        curve = storm.curve();
    }
    let name = format!("{} expired connections until all are fresh", number(count as f64));
    let over_ideal = took.iter().map(|seconds| seconds / ideal).collect();
    Ok(Measured {
        method: METHOD.to_owned(),
        figures: vec![
            Figure::new(name, "s", took),
            Figure::new("ideal", "s", vec![ideal]),
            Figure::new("most calls in any second", "", most.clone()),
        ],
        bars: vec![
            Figure::new("time under the limit, over the ideal", "×", over_ideal).at_most(1.05),
            Figure::new(
                "most calls in any second, over the limit",
                "×",
                most.into_iter().map(|most| most / RATE as f64).collect(),
            )
            .at_most(1.05)
            .or_fail_at(1.2),
        ],
        curves: vec![Curve { name: "at most 500 a second".to_owned(), points: curve }],
    })
}

fn most_in_a_second(storm: &Storm) -> usize {
    let mut first = 0;
    let mut most = 0;
    for (last, at) in storm.calls.iter().enumerate() {
        while storm.calls.get(first).is_some_and(|first| at - first >= 1.0) {
            first += 1;
        }
        most = most.max(last + 1 - first);
    }
    most
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fullest_second_is_found_wherever_it_begins() {
        let cases = [(vec![], 0), (vec![0.0, 0.5, 1.0], 2), (vec![0.0, 0.9, 1.1, 1.8, 3.0], 3)];
        for (calls, most) in cases {
            assert_eq!(most_in_a_second(&Storm { seconds: 0.0, calls }), most);
        }
    }
}
