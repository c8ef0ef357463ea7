//! A contestant's processes, and what they cost by the kernel's own account.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use freshet_tests::services::ending_with_us;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// How long a process may take to say its address, or to end after it was asked to.
const PATIENCE: Duration = Duration::from_secs(60);
/// The kernel counts processor time in hundredths of a second, whatever its own clock.
const TICKS_PER_SECOND: f64 = 100.0;

/// A command that is not started yet.
pub(crate) struct Program {
    name: &'static str,
    command: Command,
}

/// A process that runs; killed when dropped. Its output goes to a file.
pub(crate) struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Program {
    /// A program that was built beside this one.
    pub(crate) fn beside(name: &'static str) -> Result<Self> {
        let own = std::env::current_exe().context("the benchmark does not know where it is")?;
        let path = own.with_file_name(name);
        ensure!(path.is_file(), "{} is missing: `tests/bench` builds it", path.display());
        Ok(Self::at(name, &path))
    }

    pub(crate) fn at(name: &'static str, path: &Path) -> Self {
        let mut command = Command::from(ending_with_us(path));
        command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
        Self { name, command }
    }

    pub(crate) fn arguments(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    pub(crate) fn variables(
        mut self,
        variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> Self {
        self.command.envs(variables);
        self
    }

    pub(crate) fn folder(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Starts it; what it writes is appended to `NAME.log` in `folder`.
    pub(crate) fn start(mut self, folder: &Path) -> Result<Process> {
        let log = folder.join(format!("{}.log", self.name));
        let file = File::options().create(true).append(true).open(&log);
        let file = file.with_context(|| format!("cannot write {}", log.display()))?;
        self.command.stdout(file.try_clone()?).stderr(file);
        let child = self.command.spawn().with_context(|| format!("cannot start {}", self.name))?;
        Ok(Process { name: self.name, child, log })
    }

    /// Starts it and waits for the line that it prints first.
    pub(crate) async fn start_speaking(mut self, folder: &Path) -> Result<(Process, String)> {
        let log = folder.join(format!("{}.log", self.name));
        let file = File::options().create(true).append(true).open(&log)?;
        self.command.stdout(Stdio::piped()).stderr(file);
        let mut child = self.command.spawn().with_context(|| format!("cannot start {}", self.name))?;
        let stdout = child.stdout.take().context("standard output is not captured")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(PATIENCE, lines.next_line()).await.context("no word within a minute")??;
        let line = line.with_context(|| format!("{} ended without a word", self.name))?;
        Ok((Process { name: self.name, child, log }, line))
    }

    /// Runs it to its end, which has to be a good one; answers what it printed.
    pub(crate) async fn run(mut self) -> Result<String> {
        let output = self.command.stdout(Stdio::piped()).stderr(Stdio::piped()).output().await;
        let output = output.with_context(|| format!("cannot start {}", self.name))?;
        ensure!(
            output.status.success(),
            "{} ended with {}:\n{}{}",
            self.name,
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }
}

/// What processes have used so far.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Usage {
    /// Seconds of processor time, in user and kernel mode.
    pub(crate) cpu: f64,
    /// The most memory that was resident, in MiB.
    pub(crate) peak: f64,
    /// The memory that is resident, in MiB.
    pub(crate) resident: f64,
}

impl Process {
    /// What it and its descendants have used.
    pub(crate) fn usage(&mut self) -> Result<Usage> {
        if let Some(status) = self.child.try_wait()? {
            bail!("{} ended with {status}; it said:\n{}", self.name, self.last_words());
        }
        let own = self.child.id().context("a process without an id")?;
        let mut total = Usage::default();
        for id in family(own)? {
            // A descendant may end between the two looks.
            if let Some(usage) = usage(id) {
                total.cpu += usage.cpu;
                total.peak += usage.peak;
                total.resident += usage.resident;
            }
        }
        Ok(total)
    }

    /// Asks it to end, and waits until it has; answers the end of its log.
    pub(crate) async fn stop(mut self) -> Result<String> {
        if let Some(id) = self.child.id() {
            kill(Pid::from_raw(i32::try_from(id)?), Signal::SIGTERM)?;
        }
        let ended = timeout(PATIENCE, self.child.wait()).await;
        ended.with_context(|| format!("{} does not end:\n{}", self.name, self.last_words()))??;
        Ok(self.last_words())
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let from = text.len().saturating_sub(4000);
        String::from_utf8_lossy(text.get(from..).unwrap_or_default()).into_owned()
    }
}

/// A process and all that descend from it.
fn family(ancestor: u32) -> Result<Vec<u32>> {
    let mut parents = Vec::new();
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        if let Some(parent) = stat(id).and_then(|fields| fields.get(1)?.parse::<u32>().ok()) {
            parents.push((id, parent));
        }
    }
    let mut family = vec![ancestor];
    let mut looked_at = 0;
    while let Some(&member) = family.get(looked_at) {
        family.extend(parents.iter().filter(|(_, parent)| *parent == member).map(|(id, _)| *id));
        looked_at += 1;
    }
    Ok(family)
}

/// The fields of `/proc/ID/stat` after the command's name, which may hold anything: the first is the state.
fn stat(id: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

fn usage(id: u32) -> Option<Usage> {
    let fields = stat(id)?;
    let ticks = |field: usize| fields.get(field)?.parse::<f64>().ok();
    let status = fs::read_to_string(format!("/proc/{id}/status")).ok()?;
    let mebibytes = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<f64>().ok().map(|kibibytes| kibibytes / 1024.0)
    };
    Some(Usage {
        cpu: (ticks(11)? + ticks(12)?) / TICKS_PER_SECOND,
        peak: mebibytes("VmHWM:").unwrap_or_default(),
        resident: mebibytes("VmRSS:").unwrap_or_default(),
    })
}
