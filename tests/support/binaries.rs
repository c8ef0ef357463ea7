//! The product's binaries as real processes: an environment of their own, their output kept, an end for each of them.

mod addresses;
mod captured;
mod folder;
mod process;

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

pub use addresses::{DesertedAddress, MuteAddress};
pub use folder::TestFolder;
pub use process::{Ended, Process};

use crate::environment::required;

/// How long a process may take to end by itself or after it was asked to: its own limits are shorter.
pub use crate::fleet::PATIENCE;

/// A binary with arguments and variables, not started yet.
pub struct Binary {
    name: &'static str,
    command: Command,
}

impl Binary {
    /// The binary that was built beside the running test. It sees no variable of the test's environment.
    pub fn new(name: &'static str) -> Result<Self> {
        Ok(Self::of(name, Command::new(Self::path_of(name)?)))
    }

    /// A line for the shell, in the project's folder. It sees nothing but where programs are found.
    pub fn script(line: &str) -> Result<Self> {
        let mut command = Command::new("bash");
        command.args(["-c", line]).current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
        let path = required("PATH")?;
        Ok(Self::of("a script", command).variable("PATH", path))
    }

    /// Where a binary that was built beside the running test is.
    pub fn path_of(name: &str) -> Result<PathBuf> {
        let path = path(name)?;
        ensure!(
            path.is_file(),
            "{} is missing: build it by `cargo build --workspace --bins`, as `tests/run` does",
            path.display()
        );
        Ok(path)
    }

    fn of(name: &'static str, mut command: Command) -> Self {
        command
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        Self { name, command }
    }

    /// Adds arguments.
    #[must_use]
    pub fn arguments(mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        self.command.args(arguments);
        self
    }

    /// Adds variables; a later one of the same name counts.
    #[must_use]
    pub fn variables(
        mut self,
        variables: impl IntoIterator<Item = (impl AsRef<OsStr>, impl AsRef<OsStr>)>,
    ) -> Self {
        self.command.envs(variables);
        self
    }

    /// Adds a variable.
    #[must_use]
    pub fn variable(self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.variables([(name, value)])
    }

    /// Starts it. It is killed where nobody waits for its end.
    pub fn start(self) -> Result<Process> {
        Process::start(self.name, self.command)
    }

    /// Runs it to its end.
    pub async fn run(self) -> Result<Ended> {
        self.start()?.ended(PATIENCE).await
    }
}

/// Cargo puts a test into `deps` beside the binaries of the same profile, and a binary among them.
fn path(name: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("the test does not know where it is")?;
    let folder = own.parent().context("the test lies in no folder")?;
    let folder = if folder.ends_with("deps") { folder.parent() } else { Some(folder) };
    Ok(folder.context("the test lies in no folder")?.join(name))
}
