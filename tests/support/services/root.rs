//! Where a server's programs come from: this machine, or a folder with a system of its own in it, which is entered by
//! `chroot`. The latter is how `tests/matrix` runs versions that this machine's packages do not have.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::programs::{ending_with_us, find, require};
use crate::environment;

/// Where Debian puts the servers of databases and brokers.
const FOLDERS: [&str; 2] = ["usr/sbin", "usr/bin"];

/// The machine, or such a folder.
#[derive(Clone)]
pub(super) struct Root(Option<PathBuf>);

impl Root {
    /// This machine.
    pub(super) fn machine() -> Self {
        Self(None)
    }

    /// What the environment names, or this machine.
    pub(super) fn of_environment() -> Self {
        Self(environment::optional(environment::SERVERS_ROOT).map(PathBuf::from))
    }

    /// A program, as it is called inside.
    pub(super) fn find(&self, program: &str) -> Option<PathBuf> {
        if self.0.is_none() {
            return find(program);
        }
        FOLDERS.iter().find_map(|folder| self.packaged(&format!("/{folder}/{program}")))
    }

    /// A file at a fixed place, where it is there.
    pub(super) fn packaged(&self, path: &str) -> Option<PathBuf> {
        let outside = match &self.0 {
            Some(root) => root.join(path.trim_start_matches('/')),
            None => PathBuf::from(path),
        };
        outside.is_file().then(|| PathBuf::from(path))
    }

    /// The same as [`Self::find`], or an error that names what to install.
    pub(super) fn require(&self, program: &str, package: &str) -> Result<PathBuf> {
        match &self.0 {
            None => require(program, package),
            Some(root) => self
                .find(program)
                .with_context(|| format!("{program} is not in {}: install {package} there", root.display())),
        }
    }

    /// A command inside that ends with us.
    pub(super) fn command(&self, program: PathBuf) -> Command {
        let Some(root) = &self.0 else { return ending_with_us(program) };
        let mut command = ending_with_us("chroot");
        command.arg(root).arg(program);
        command
    }

    /// Where the servers' folders are, as seen from outside.
    pub(super) fn temporary_folder(&self) -> PathBuf {
        self.0.as_ref().map_or_else(std::env::temp_dir, |root| root.join("tmp"))
    }

    /// How a path below the temporary folder is called inside.
    pub(super) fn inside(&self, path: &Path) -> PathBuf {
        match self.0.as_ref().and_then(|root| path.strip_prefix(root).ok()) {
            Some(below) => Path::new("/").join(below),
            None => path.to_owned(),
        }
    }
}
