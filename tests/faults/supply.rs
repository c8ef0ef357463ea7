//! The work that comes in while the fleet is hit.

use anyhow::Result;
use chrono::{DateTime, Utc};
use freshet_tests::fleet::now;

use crate::stage::Stage;

/// Connections that are added together.
const WAVE: i64 = 200;

/// Adds connections that are due.
pub(crate) struct Supply {
    ordered: i64,
    first_failures: u64,
    added: i64,
    waves: Vec<(i64, DateTime<Utc>)>,
}

impl Supply {
    /// Nothing is added yet. `first_failures`: how many of a hundred first attempts fail.
    pub(crate) fn new(ordered: i64, first_failures: u64) -> Self {
        Self { ordered, first_failures, added: 0, waves: Vec::new() }
    }

    /// How many there are.
    pub(crate) fn added(&self) -> i64 {
        self.added
    }

    /// From which connection on each wave is, and since when it was on its way.
    pub(crate) fn into_waves(self) -> Vec<(i64, DateTime<Utc>)> {
        self.waves
    }

    /// Sees to it that this share of what is ordered is there, in whole waves, and the first wave in any case.
    pub(crate) async fn share(&mut self, stage: &mut Stage, part: usize, of: usize) -> Result<()> {
        let share = self.ordered.saturating_mul(i64::try_from(part)?) / i64::try_from(of.max(1))?;
        while self.added < self.ordered && (self.added == 0 || self.added < share) {
            self.add(stage, WAVE.min(self.ordered - self.added)).await?;
        }
        Ok(())
    }

    /// Adds a wave, also beyond what is ordered: something has to come due just now.
    pub(crate) async fn wave(&mut self, stage: &mut Stage) -> Result<()> {
        self.add(stage, WAVE).await
    }

    async fn add(&mut self, stage: &mut Stage, number: i64) -> Result<()> {
        let next = self.added + 1;
        self.waves.push((next, now()));
        stage.add(next..next + number, self.first_failures).await?;
        self.added += number;
        Ok(())
    }
}
