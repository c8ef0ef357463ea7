//! What is measured: figures with one value per run, and bars that they are held against.

use serde::{Deserialize, Serialize};

/// One thing that was measured once per run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Figure {
    pub(crate) name: String,
    pub(crate) unit: String,
    /// In the order of the runs.
    pub(crate) values: Vec<f64>,
}

/// A line that a figure should keep.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

/// A figure and its line. Ratios are of values of the same run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Bar {
    pub(crate) figure: Figure,
    pub(crate) limit: Limit,
    /// The line with a generous margin, below which something is broken: what the quick form fails on. A figure that
    /// depends on the machine has none.
    pub(crate) margin: Option<Limit>,
}

impl Figure {
    pub(crate) fn new(name: impl Into<String>, unit: &str, values: Vec<f64>) -> Self {
        Self { name: name.into(), unit: unit.to_owned(), values }
    }

    /// Of each run of the first over the same run of the second.
    pub(crate) fn ratio(name: impl Into<String>, over: &[f64], under: &[f64]) -> Self {
        Self::new(name, "×", over.iter().zip(under).map(|(over, under)| over / under).collect())
    }

    pub(crate) fn at_least(self, limit: f64) -> Bar {
        Bar { figure: self, limit: Limit::AtLeast(limit), margin: None }
    }

    pub(crate) fn at_most(self, limit: f64) -> Bar {
        Bar { figure: self, limit: Limit::AtMost(limit), margin: None }
    }

    /// The middle one, or the mean of the two in the middle.
    pub(crate) fn median(&self) -> f64 {
        let sorted = self.sorted();
        let middle = sorted.len() / 2;
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        if sorted.len() % 2 == 1 { at(middle) } else { f64::midpoint(at(middle.wrapping_sub(1)), at(middle)) }
    }

    pub(crate) fn least(&self) -> f64 {
        self.sorted().first().copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn most(&self) -> f64 {
        self.sorted().last().copied().unwrap_or(f64::NAN)
    }

    fn sorted(&self) -> Vec<f64> {
        let mut sorted = self.values.clone();
        sorted.sort_by(f64::total_cmp);
        sorted
    }
}

impl Limit {
    pub(crate) fn is_kept_by(self, value: f64) -> bool {
        match self {
            Self::AtLeast(limit) => value >= limit,
            Self::AtMost(limit) => value <= limit,
        }
    }

    pub(crate) fn value(self) -> f64 {
        match self {
            Self::AtLeast(limit) | Self::AtMost(limit) => limit,
        }
    }
}

impl Bar {
    pub(crate) fn or_fail_at(self, margin: f64) -> Self {
        let margin = Some(match self.limit {
            Limit::AtLeast(_) => Limit::AtLeast(margin),
            Limit::AtMost(_) => Limit::AtMost(margin),
        });
        Self { margin, ..self }
    }

    /// By the median.
    pub(crate) fn is_met(&self) -> bool {
        self.limit.is_kept_by(self.figure.median())
    }

    /// Whether even the margin is passed, so that something is broken.
    pub(crate) fn is_broken(&self) -> bool {
        self.margin.is_some_and(|margin| !margin.is_kept_by(self.figure.median()))
    }

    /// How far the median is off the line, as a share of the line.
    pub(crate) fn missed_by(&self) -> f64 {
        (self.figure.median() / self.limit.value() - 1.0).abs()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure(values: &[f64]) -> Figure {
        Figure::new("x", "s", values.to_vec())
    }

    #[test]
    fn median_and_spread_are_of_all_runs_in_any_order() {
        let odd = figure(&[5.0, 1.0, 3.0]);
        assert_eq!((odd.median(), odd.least(), odd.most()), (3.0, 1.0, 5.0));
        assert_eq!(figure(&[4.0, 1.0, 2.0, 9.0]).median(), 3.0);
        assert!(figure(&[]).median().is_nan());
    }

    #[test]
    fn ratios_are_taken_run_by_run() {
        assert_eq!(Figure::ratio("x", &[6.0, 8.0], &[2.0, 4.0]).values, [3.0, 2.0]);
    }

    #[test]
    fn a_bar_is_judged_by_the_median_and_broken_beyond_its_margin() {
        let cases = [
            (figure(&[2.5]).at_least(2.5).or_fail_at(1.5), true, false),
            (figure(&[2.0]).at_least(2.5).or_fail_at(1.5), false, false),
            (figure(&[1.4]).at_least(2.5).or_fail_at(1.5), false, true),
            (figure(&[1.4]).at_least(2.5), false, false),
            (figure(&[1.0, 1.2, 9.0]).at_most(1.3).or_fail_at(2.0), true, false),
            (figure(&[2.1]).at_most(1.3).or_fail_at(2.0), false, true),
            // What was not measured keeps no line.
            (figure(&[]).at_most(1.3).or_fail_at(2.0), false, true),
        ];
        for (bar, is_met, is_broken) in cases {
            assert_eq!((bar.is_met(), bar.is_broken()), (is_met, is_broken), "{bar:?}");
        }
        assert_eq!(figure(&[2.0]).at_least(2.5).missed_by(), 0.19999999999999996);
    }
}
