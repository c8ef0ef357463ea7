//! A worker and a producer that are watched.

use anyhow::{Result, ensure};

use super::{Exposition, Watched};
use crate::binaries::{Binary, Process};
use crate::fleet::{PATIENCE, TestFleet};
use crate::waiting::eventually;

/// A fleet with a worker and a producer at work.
pub struct AtWork {
    /// The fleet.
    pub fleet: TestFleet,
    worker: Process,
    producer: Process,
    /// Worker and producer.
    pub watched: [Watched; 2],
}

impl AtWork {
    /// Starts both on `fleet`, scanning every second.
    pub async fn start(mut fleet: TestFleet) -> Result<Self> {
        fleet.watch();
        for lane in ["EARLY", "URGENT"] {
            fleet.environment.insert(format!("FRESHET_SCAN__{lane}"), "* * * * * *".into());
        }
        fleet.environment.insert("FRESHET_MONITORING__CENSUS_EVERY".into(), "1s".into());
        let mut worker = Binary::new("worker")?.arguments(["run"]).variables(&fleet.environment).start()?;
        let mut producer =
            Binary::new("producer")?.arguments(["run"]).variables(&fleet.environment).start()?;
        let watched = [Watched::of(&mut worker).await?, Watched::of(&mut producer).await?];
        Ok(Self { fleet, worker, producer, watched })
    }

    /// All that both show.
    pub async fn metrics(&self) -> Result<Exposition> {
        let [worker, producer] = &self.watched;
        Ok(worker.metrics().await?.and(producer.metrics().await?))
    }

    /// Waits until the metrics' sums are as expected; answers all of them.
    pub async fn until(&self, what: &str, expected: &[Expected<'_>]) -> Result<Exposition> {
        let mut seen = Exposition::default();
        eventually(what, PATIENCE, async || {
            seen = self.metrics().await?;
            for (name, labels, value) in expected {
                let is = seen.sum(name, labels);
                ensure!(is == Some(*value), "{name}{labels:?} is {is:?} and not {value}");
            }
            Ok(())
        })
        .await?;
        Ok(seen)
    }

    /// Ends both, and the fleet.
    pub async fn end(self) -> Result<()> {
        let _producer = self.producer.terminate(PATIENCE).await?.with_code(0)?;
        let _worker = self.worker.terminate(PATIENCE).await?.with_code(0)?;
        self.fleet.dissolve().await
    }
}

/// A metric, labels that its series have, and what they add up to.
pub type Expected<'a> = (&'a str, &'a [(&'a str, &'a str)], f64);
