//! Finding a server's program and starting it so that it ends with us.

use std::env;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::environment;

/// An ordinary user's PATH lacks the administrator's folders, where Debian puts `mariadbd`.
const ADMINISTRATORS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

pub(super) fn find(program: &str) -> Option<PathBuf> {
    let path = environment::optional("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(ADMINISTRATORS.map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| candidate.is_file())
}

/// Where a program is, or an error that names the package it comes with.
pub fn require(program: &str, package: &str) -> Result<PathBuf> {
    find(program).with_context(|| format!("{program} is not installed: install the package {package}"))
}

/// A command that the kernel kills when the thread that spawned it ends. Without `setpriv` (util-linux) the guard
/// alone does it.
pub fn ending_with_us(program: impl Into<PathBuf>) -> Command {
    let program = program.into();
    match find("setpriv") {
        Some(setpriv) => {
            let mut command = Command::new(setpriv);
            command.args(["--pdeathsig", "KILL", "--"]).arg(program);
            command
        }
        None => Command::new(program),
    }
}
