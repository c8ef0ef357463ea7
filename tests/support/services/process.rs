//! One process of a server: its group, its log, and the waits around it.

use std::fs::{self, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::waiting::PAUSE;

/// Generous, because a loaded machine is slow and nobody waits for a server that answers.
const START: Duration = Duration::from_secs(120);
const STOP: Duration = Duration::from_secs(60);
/// No single look at a starting server may eat the deadline.
const PROBE: Duration = Duration::from_secs(5);

/// Killed, with its group, when dropped.
pub(super) struct Process {
    server: &'static str,
    child: Child,
    log: PathBuf,
    /// Afterwards the number may belong to somebody else and must not be signalled.
    killed: bool,
}

impl Process {
    /// Starts the command as a process group of its own that logs into `log`.
    pub(super) fn spawn(server: &'static str, mut command: Command, log: &Path) -> Result<Self> {
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write the log {}", log.display()))?;
        let errors = file.try_clone().context("cannot share the log's handle")?;
        command.stdin(Stdio::null()).stdout(file).stderr(errors).process_group(0);
        let child = command.spawn().with_context(|| format!("cannot start {server}"))?;
        Ok(Self { server, child, log: log.to_owned(), killed: false })
    }

    /// The number of the process and of its group.
    pub(super) fn group(&self) -> u32 {
        self.child.id()
    }

    /// Waits until the probe succeeds; an end of the process or the deadline brings the log's tail.
    pub(super) async fn until_ready(&mut self, probe: impl AsyncFn() -> Result<()>) -> Result<()> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                bail!("{} ended with {status} before it answered; {}", self.server, self.log_tail());
            }
            // On the heap, because the clients nest deeper than the compiler follows.
            let missing = match tokio::time::timeout(PROBE, Box::pin(probe())).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(missing)) => missing,
                Err(_) => anyhow!("it did not answer within {PROBE:?}"),
            };
            if started.elapsed() > START {
                let tail = self.log_tail();
                return Err(missing.context(format!("{} was not ready after {START:?}; {tail}", self.server)));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits until the process has ended by itself.
    pub(super) async fn until_ended(&mut self, deadline: Duration) -> Result<ExitStatus> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if started.elapsed() > deadline {
                bail!("{} was still running after {deadline:?}; {}", self.server, self.log_tail());
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Asks the server to shut down in good order and waits until it has.
    pub(super) async fn stop(&mut self) -> Result<()> {
        kill(self.leader()?, Signal::SIGTERM).with_context(|| format!("cannot signal {}", self.server))?;
        self.until_ended(STOP).await?;
        self.kill()
    }

    /// SIGKILL to the process and all in its group.
    pub(super) fn kill(&mut self) -> Result<()> {
        if !self.killed {
            self.killed = true;
            // A group in which all have ended already is no error.
            let _ = killpg(self.leader()?, Signal::SIGKILL);
            self.child.wait().with_context(|| format!("cannot wait for {}", self.server))?;
        }
        Ok(())
    }

    /// Stops the server's clock: it keeps its connections and answers nothing.
    pub(super) fn freeze(&self) -> Result<()> {
        killpg(self.leader()?, Signal::SIGSTOP).with_context(|| format!("cannot freeze {}", self.server))
    }

    /// Lets a frozen server go on.
    pub(super) fn thaw(&self) -> Result<()> {
        killpg(self.leader()?, Signal::SIGCONT).with_context(|| format!("cannot thaw {}", self.server))
    }

    /// What the server complained of last, and the end of its log, as part of an error message. An installer explains itself
    /// at length after that.
    pub(super) fn log_tail(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        let last = |lines: &[&str], number: usize| {
            lines.get(lines.len().saturating_sub(number)..).unwrap_or_default().join("\n")
        };
        let complaints: Vec<&str> = lines.iter().copied().filter(|line| line.contains("ERROR")).collect();
        format!("it complained:\n{}\nand its log ends with:\n{}", last(&complaints, 5), last(&lines, 30))
    }

    fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot ask after {}", self.server))
    }

    fn leader(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.child.id()).context("a process id beyond 31 bits")?))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}
