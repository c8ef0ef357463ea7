//! How many replicas Kubernetes' autoscaler would want, from what KEDA tells it of the queues.
//!
//! As in Kubernetes' documentation of HorizontalPodAutoscaler, "Algorithm details" and "Configurable scaling behavior", for
//! external metrics of type AverageValue. Times are those of the manifests; whoever plays faster tells it a faster clock.

use std::time::Duration;

use anyhow::Result;

use crate::manifests::{Rules, ScaledObject};

/// A metric this close to its target, as a share, changes nothing: the autoscaler's default.
const TOLERANCE: f64 = 0.1;

/// The autoscaler of one Deployment.
pub(crate) struct Autoscaler {
    scaling: ScaledObject,
    /// Messages for each replica, by trigger.
    targets: Vec<f64>,
    /// Answers in a row that a trigger did not get.
    failures: Vec<u32>,
    /// What was wanted before the windows were looked at, and when.
    recommendations: Vec<(Duration, u32)>,
    /// How many replicas were added, or taken away, and when.
    changes: Vec<(Duration, i64)>,
}

impl Autoscaler {
    /// One that has decided nothing yet. The targets are the triggers' values divided by `load`.
    pub(crate) fn new(scaling: ScaledObject, load: f64) -> Result<Self> {
        let values = scaling.triggers.iter().map(|trigger| trigger.metadata.value());
        let targets: Vec<f64> =
            values.collect::<Result<Vec<_>>>()?.iter().map(|value| value / load).collect();
        let failures = vec![0; targets.len()];
        Ok(Self { scaling, targets, failures, recommendations: Vec::new(), changes: Vec::new() })
    }

    /// The target of the first trigger.
    pub(crate) fn target(&self) -> f64 {
        self.targets.first().copied().unwrap_or_default()
    }

    /// How many replicas there should be now, where there are `current`, and each trigger's queue has so many messages;
    /// `None`: nobody answered.
    pub(crate) fn decide(&mut self, now: Duration, current: u32, depths: &[Option<f64>]) -> u32 {
        let bounded = self
            .wanted(current, depths)
            .clamp(self.scaling.min_replica_count, self.scaling.max_replica_count);
        let stable = self.stabilized(now, current, bounded);
        let decided = self.limited(now, current, stable);
        if decided != current {
            self.changes.push((now, i64::from(decided) - i64::from(current)));
        }
        decided
    }

    /// The largest that a trigger asks for.
    fn wanted(&mut self, current: u32, depths: &[Option<f64>]) -> u32 {
        let asked: Vec<Option<u32>> = (0..self.targets.len())
            .map(|trigger| self.asked_by(trigger, current, depths.get(trigger).copied().flatten()))
            .collect();
        let most = asked.iter().copied().flatten().max();
        // Where a metric is missing, the others may add, and not take away.
        if asked.contains(&None) { most.unwrap_or(current).max(current) } else { most.unwrap_or(current) }
    }

    fn asked_by(&mut self, trigger: usize, current: u32, depth: Option<f64>) -> Option<u32> {
        let (target, failures) = (*self.targets.get(trigger)?, self.failures.get_mut(trigger)?);
        let Some(depth) = depth else {
            *failures += 1;
            let fallback = &self.scaling.fallback;
            // currentReplicasIfHigher
            return (*failures > fallback.failure_threshold).then(|| fallback.replicas.max(current));
        };
        *failures = 0;
        let ratio = depth / (target * f64::from(current));
        Some(if (ratio - 1.0).abs() <= TOLERANCE { current } else { (depth / target).ceil() as u32 })
    }

    /// The least that was wanted within the window upwards, the most within the one downwards.
    fn stabilized(&mut self, now: Duration, current: u32, wanted: u32) -> u32 {
        self.recommendations.push((now, wanted));
        let within = |rules: &Rules| {
            let since = now.saturating_sub(rules.stabilization());
            self.recommendations
                .iter()
                .filter(move |(at, _)| *at > since || *at == now)
                .map(|(_, wanted)| *wanted)
        };
        let up = within(self.scaling.up()).min().unwrap_or(wanted);
        let down = within(self.scaling.down()).max().unwrap_or(wanted);
        current.clamp(up.min(down), down)
    }

    /// No faster than the policies allow.
    fn limited(&self, now: Duration, current: u32, wanted: u32) -> u32 {
        let (rules, sign) = if wanted > current { (self.scaling.up(), 1) } else { (self.scaling.down(), -1) };
        let furthest = |policy: &crate::manifests::Policy| {
            let since = now.saturating_sub(policy.period());
            let recent: i64 =
                self.changes.iter().filter(|(at, _)| *at > since).map(|(_, change)| change).sum();
            i64::from(current) - recent + sign * i64::from(policy.value)
        };
        let limits = rules.policies.iter().map(furthest);
        let wanted = i64::from(wanted);
        let decided = match (wanted - i64::from(current)).signum() {
            1 => limits.max().map_or(wanted, |limit| wanted.min(limit.max(i64::from(current)))),
            -1 => limits.min().map_or(wanted, |limit| wanted.max(limit.min(i64::from(current)))),
            _ => wanted,
        };
        u32::try_from(decided).unwrap_or(current)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifests::Manifests;

    /// The shipped one: 2 to 8 replicas, 2,500 messages each, two more per 30 s, one less per 60 s after 300 s.
    fn autoscaler() -> Autoscaler {
        Autoscaler::new(Manifests::read().unwrap().scaling, 1.0).unwrap()
    }

    /// Lets it decide every 15 s; both triggers answer alike.
    fn play(autoscaler: &mut Autoscaler, mut current: u32, from: u64, depths: &[Option<f64>]) -> Vec<u32> {
        let mut decided = Vec::new();
        for (turn, depth) in depths.iter().enumerate() {
            let now = Duration::from_secs(from + 15 * turn as u64);
            current = autoscaler.decide(now, current, &[*depth, Some(0.0).filter(|_| depth.is_some())]);
            decided.push(current);
        }
        decided
    }

    fn value() -> f64 {
        autoscaler().target()
    }

    #[test]
    fn a_flood_adds_two_at_a_time_up_to_the_most() {
        let flood = [Some(100.0 * value()); 8];
        assert_eq!(play(&mut autoscaler(), 2, 1000, &flood), [4, 4, 6, 6, 8, 8, 8, 8]);
    }

    #[test]
    fn a_queue_within_a_tenth_of_its_target_changes_nothing() {
        assert_eq!(play(&mut autoscaler(), 2, 1000, &[Some(2.19 * value())]), [2]);
        assert_eq!(play(&mut autoscaler(), 2, 1000, &[Some(2.21 * value())]), [3]);
    }

    #[test]
    fn an_empty_queue_takes_one_a_minute_after_five_minutes_down_to_the_least() {
        let mut autoscaler = autoscaler();
        assert_eq!(play(&mut autoscaler, 2, 1000, &[Some(4.0 * value())]), [4]);
        let decided = play(&mut autoscaler, 4, 1015, &[Some(0.0); 40]);
        let first = decided.iter().position(|replicas| *replicas == 3).unwrap();
        let second = decided.iter().position(|replicas| *replicas == 2).unwrap();
        assert_eq!((15 * (first + 1), 15 * (second - first)), (300, 60));
        assert_eq!(decided.last(), Some(&2));
    }

    #[test]
    fn without_an_answer_nobody_is_taken_away_and_after_three_there_are_four() {
        let mut autoscaler = autoscaler();
        assert_eq!(play(&mut autoscaler, 2, 1000, &[None; 6]), [2, 2, 2, 4, 4, 4]);
        assert_eq!(play(&mut autoscaler, 6, 2000, &[None; 60]).last(), Some(&6));
    }

    #[test]
    fn the_larger_queue_counts() {
        let mut autoscaler = autoscaler();
        let target = autoscaler.target();
        assert_eq!(autoscaler.decide(Duration::from_secs(1000), 2, &[Some(0.0), Some(3.0 * target)]), 3);
    }
}
