//! The workers that are none of ours, and what they are made of: kept under `tests/peers`, fetched into the target folder.

pub(crate) mod celery;
pub(crate) mod node;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

/// Holds a copy of the lock file that was installed from.
const INSTALLED: &str = "installed";

/// Its sources.
fn source(peer: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("peers").join(peer)
}

/// Where it is installed: beside the builds of cargo.
fn installation(peer: &str) -> Result<PathBuf> {
    let own = std::env::current_exe().context("the benchmark does not know where it is")?;
    let target = own.ancestors().nth(2).context("the benchmark lies in no folder of cargo's")?;
    Ok(target.join("peers").join(peer))
}

/// Runs the commands in its folder unless they have been run for this lock file.
async fn install(peer: &str, lock: &str, commands: &[&[&str]]) -> Result<()> {
    let (source, folder) = (source(peer), installation(peer)?);
    let wanted = fs::read(source.join(lock)).with_context(|| format!("no {lock} of {peer}"))?;
    let mark = folder.join(INSTALLED);
    if fs::read(&mark).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    fs::create_dir_all(&folder)?;
    for file in fs::read_dir(&source)? {
        let file = file?;
        fs::copy(file.path(), folder.join(file.file_name()))?;
    }
    for command in commands {
        let (program, arguments) = command.split_first().context("an empty command")?;
        let output = Command::new(program)
            .args(arguments)
            .current_dir(&folder)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("cannot start {program}"))?;
        ensure!(
            output.status.success(),
            "`{}` in {} ended with {}:\n{}",
            command.join(" "),
            folder.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    fs::write(mark, wanted).context("the installation cannot be marked as complete")
}
