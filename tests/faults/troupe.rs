//! The processes of the product, and what is done to them.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use freshet_tests::binaries::{Binary, Process};
use nix::sys::signal::Signal;

/// Longer than the workers' own grace period.
const GRACE: Duration = Duration::from_secs(40);

/// Processes of one kind, each in its place.
pub(crate) struct Troupe {
    name: &'static str,
    environment: HashMap<String, String>,
    processes: Vec<Process>,
}

impl Troupe {
    /// Starts so many.
    pub(crate) fn start(
        name: &'static str,
        number: usize,
        environment: &HashMap<String, String>,
    ) -> Result<Self> {
        let mut troupe = Self { name, environment: environment.clone(), processes: Vec::new() };
        for _ in 0..number {
            let process = troupe.another()?;
            troupe.processes.push(process);
        }
        Ok(troupe)
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.processes.len()
    }

    fn another(&self) -> Result<Process> {
        Binary::new(self.name)?.arguments(["run"]).variables(&self.environment).start()
    }

    /// Kills one; another takes its place.
    pub(crate) async fn kill(&mut self, place: usize) -> Result<()> {
        let Some(process) = self.take(place)? else { return Ok(()) };
        process.signal(Signal::SIGKILL)?;
        let _ = process.ended(GRACE).await?;
        Ok(())
    }

    /// Asks one to end; another takes its place. `false` if it did not end in good order within its grace period.
    pub(crate) async fn terminate(&mut self, place: usize) -> Result<bool> {
        let Some(process) = self.take(place)? else { return Ok(true) };
        match process.terminate(GRACE).await {
            Ok(ended) => Ok(ended.code == Some(0)),
            Err(_) => Ok(false),
        }
    }

    /// Lets one stand still; it goes on by [`Self::signal`].
    pub(crate) fn signal(&self, place: usize, signal: Signal) -> Result<()> {
        self.processes.get(place).map_or(Ok(()), |process| process.signal(signal))
    }

    /// Those that have ended by themselves are started again, as a supervisor does. Answers how many that were.
    pub(crate) fn revive(&mut self) -> Result<u32> {
        let mut ended = 0;
        for place in 0..self.processes.len() {
            if !self.processes.get_mut(place).map_or(Ok(true), Process::is_running)? {
                let _ = self.take(place)?;
                ended += 1;
            }
        }
        Ok(ended)
    }

    fn take(&mut self, place: usize) -> Result<Option<Process>> {
        let next = self.another()?;
        Ok(self.processes.get_mut(place).map(|process| std::mem::replace(process, next)))
    }

    /// Ends them all in good order; answers how many did not.
    pub(crate) async fn dismiss(self) -> Result<u32> {
        let mut failed = 0;
        for process in self.processes {
            let ended = process.terminate(GRACE).await;
            failed += u32::from(!ended.is_ok_and(|ended| ended.code == Some(0)));
        }
        Ok(failed)
    }
}
