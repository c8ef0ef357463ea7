//! The server's packages, fetched once into the target folder and then used without a network.

use std::env;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use tokio::process::Command;

use super::super::programs::require;

const PROGRAM: &str = "npm";
const FOLDER: &str = "oauth-server";
/// What npm installs from, and the launcher beside it; one of other content is installed anew.
const FILES: [(&str, &str); 3] = [
    ("package.json", include_str!("../../oauth_server/package.json")),
    ("package-lock.json", include_str!("../../oauth_server/package-lock.json")),
    (LAUNCHER, include_str!("../../oauth_server/server.mjs")),
];
const LAUNCHER: &str = "server.mjs";
/// Holds a copy of the lock file that the packages were installed from.
const INSTALLED: &str = "installed";
/// Whoever installs holds it.
const LOCK: &str = "lock";

/// The launcher, with all that it needs beside it. Where several tests come at once, one installs and the others wait.
pub(super) async fn launcher() -> Result<PathBuf> {
    let folder = target_folder()?.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let lock = locked(&folder).await?;
    if !is_installed(&folder) {
        install(&folder).await?;
    }
    lock.unlock().context("the lock on the OAuth server's folder cannot be given back")?;
    Ok(folder.join(LAUNCHER))
}

/// Waits on a thread of its own: another test of this process may be installing.
async fn locked(folder: &Path) -> Result<File> {
    let path = folder.join(LOCK);
    let locking = tokio::task::spawn_blocking(move || {
        let file = File::create(path)?;
        file.lock()?;
        std::io::Result::Ok(file)
    });
    locking.await?.context("the OAuth server's folder cannot be locked")
}

fn is_installed(folder: &Path) -> bool {
    let holds =
        |name: &str, text: &str| fs::read_to_string(folder.join(name)).is_ok_and(|found| found == text);
    FILES.iter().all(|(name, text)| holds(name, text)) && holds(INSTALLED, FILES[1].1)
}

async fn install(folder: &Path) -> Result<()> {
    let npm = require(PROGRAM, PROGRAM)?;
    // First of all, so that an installation which does not come to its end does not look like one that did.
    if let Err(error) = fs::remove_file(folder.join(INSTALLED))
        && error.kind() != ErrorKind::NotFound
    {
        return Err(error).context("the mark of an earlier installation cannot be removed");
    }
    for (name, text) in FILES {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let output = Command::new(npm)
        // None of the packages needs a script of its own to be installed.
        .args(["ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund"])
        .current_dir(folder)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot start npm")?;
    ensure!(
        output.status.success(),
        "`npm ci` in {} ended with {}: the OAuth server's packages are fetched from npm's registry once, after that no \
         network is needed. It says:\n{}",
        folder.display(),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    fs::write(folder.join(INSTALLED), FILES[1].1).context("the installation cannot be marked as complete")
}

/// Cargo puts a test into `TARGET/PROFILE/deps`.
fn target_folder() -> Result<PathBuf> {
    let test = env::current_exe().context("the test does not know where it is")?;
    test.ancestors().nth(3).map(Path::to_owned).context("the test lies in no folder of cargo's")
}
