//! What all servers have in common: a folder, a guard, and a process that comes and goes.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::Guard;
use super::folder::Folder;
use super::process::Process;
use super::root::Root;

/// How long a program that only prepares the data may take.
const PREPARATION: Duration = Duration::from_secs(120);

/// The order of the fields is the order of their end: the process, then its folder, the guard last.
pub(super) struct Instance {
    server: &'static str,
    root: Root,
    process: Option<Process>,
    folder: Folder,
    guard: Guard,
}

impl Instance {
    pub(super) fn create(server: &'static str, root: Root) -> Result<Self> {
        let mut guard = Guard::start()?;
        let folder = Folder::create(&root.temporary_folder(), server)?;
        guard.watch_folder(folder.path())?;
        Ok(Self { server, root, process: None, folder, guard })
    }

    pub(super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A file of the folder, as the server calls it.
    pub(super) fn inside(&self, file: &str) -> PathBuf {
        self.root.inside(&self.path().join(file))
    }

    /// Where the server's programs come from.
    pub(super) fn root(&self) -> &Root {
        &self.root
    }

    pub(super) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Runs a program that prepares the server's data, and waits for its end.
    pub(super) async fn prepare(&mut self, command: Command) -> Result<()> {
        let process = self.spawn(command)?;
        let status = process.until_ended(PREPARATION).await?;
        ensure!(status.success(), "preparing {} ended with {status}; {}", self.server, self.log_tail());
        self.kill()
    }

    /// Starts the server and waits until the probe succeeds.
    pub(super) async fn launch(
        &mut self,
        command: Command,
        probe: impl AsyncFn() -> Result<()>,
    ) -> Result<()> {
        self.spawn(command)?.until_ready(probe).await
    }

    /// Shuts the server down in good order; its data stays.
    pub(super) async fn stop(&mut self) -> Result<()> {
        let process = self.process.as_mut().with_context(|| format!("{} does not run", self.server))?;
        process.stop().await?;
        self.kill()
    }

    /// SIGKILL; the data stays as it is. No error when nothing runs.
    pub(super) fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => {
                process.kill()?;
                self.guard.forget_group(process.group())
            }
            None => Ok(()),
        }
    }

    pub(super) fn freeze(&self) -> Result<()> {
        self.running()?.freeze()
    }

    pub(super) fn thaw(&self) -> Result<()> {
        self.running()?.thaw()
    }

    fn running(&self) -> Result<&Process> {
        self.process.as_ref().with_context(|| format!("{} does not run", self.server))
    }

    fn spawn(&mut self, command: Command) -> Result<&mut Process> {
        self.kill()?;
        let process = Process::spawn(self.server, command, &self.path().join("server.log"))?;
        // From here on owned, so that a failure to tell the guard still ends it.
        let process = self.process.insert(process);
        self.guard.watch_group(process.group())?;
        Ok(process)
    }

    pub(super) fn log_tail(&self) -> String {
        self.process.as_ref().map(Process::log_tail).unwrap_or_default()
    }
}
