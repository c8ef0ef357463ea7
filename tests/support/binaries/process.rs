//! A process that runs, and what it came to.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use super::captured::Captured;
use crate::waiting::PAUSE;

/// A process that runs; killed when dropped.
pub struct Process {
    name: &'static str,
    child: Child,
    stdout: Captured,
    stderr: Captured,
}

/// A process that has ended.
#[derive(Debug)]
#[must_use]
pub struct Ended {
    /// The binary.
    pub name: &'static str,
    /// The exit code; `None` where a signal ended it.
    pub code: Option<i32>,
    /// All that it wrote on standard output.
    pub stdout: String,
    /// All that it wrote on standard error.
    pub stderr: String,
    /// From the question for its end to its end.
    pub took: Duration,
}

impl Process {
    pub(super) fn start(name: &'static str, mut command: Command) -> Result<Self> {
        let mut child = command.spawn().with_context(|| format!("cannot start {name}"))?;
        let stdout = Captured::of(child.stdout.take().context("standard output is not captured")?);
        let stderr = Captured::of(child.stderr.take().context("standard error is not captured")?);
        Ok(Self { name, child, stdout, stderr })
    }

    /// What it has written on standard output so far.
    pub fn stdout(&self) -> String {
        self.stdout.text()
    }

    /// What it has written on standard error so far.
    pub fn stderr(&self) -> String {
        self.stderr.text()
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.child.id().with_context(|| format!("{} has ended already", self.name))?;
        kill(Pid::from_raw(i32::try_from(id)?), signal)
            .with_context(|| format!("cannot signal {}", self.name))
    }

    /// Waits until it has written `text` on standard error.
    pub async fn until_it_says(&mut self, text: &str, deadline: Duration) -> Result<()> {
        let started = Instant::now();
        loop {
            // In this order, so that what was said last is read after the end.
            let status = self.child.try_wait()?;
            let said = self.stderr();
            if said.contains(text) {
                return Ok(());
            }
            if let Some(status) = status {
                bail!("{} ended with {status} and never said `{text}`, but:\n{said}", self.name);
            }
            ensure!(
                started.elapsed() < deadline,
                "{} did not say `{text}` within {deadline:?}, but:\n{said}",
                self.name
            );
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Whether it has not ended yet.
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Asks it to end, as Kubernetes does, and waits until it has.
    pub async fn terminate(self, deadline: Duration) -> Result<Ended> {
        self.signal(Signal::SIGTERM)?;
        self.ended(deadline).await
    }

    /// Waits until it has ended.
    pub async fn ended(mut self, deadline: Duration) -> Result<Ended> {
        let asked = Instant::now();
        let Ok(status) = timeout(deadline, self.child.wait()).await else {
            return Err(anyhow!("{} still runs after {deadline:?}; it said:\n{}", self.name, self.stderr()));
        };
        let code = status.with_context(|| format!("cannot ask after {}", self.name))?.code();
        let took = asked.elapsed();
        let (stdout, stderr) = tokio::join!(self.stdout.into_text(), self.stderr.into_text());
        Ok(Ended { name: self.name, code, stdout, stderr, took })
    }
}

impl Ended {
    /// An error that shows its output where the exit code is another.
    pub fn with_code(self, expected: i32) -> Result<Self> {
        ensure!(
            self.code == Some(expected),
            "{} ended with {:?} and not with {expected}; it printed:\n{}\nand said:\n{}",
            self.name,
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }
}
