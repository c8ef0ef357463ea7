//! The guard: a shell that waits on a pipe which only we hold open. However we end, SIGKILL included, the pipe
//! closes, and the guard kills the process groups and removes the folder that it was told of.

use std::fmt::Display;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

/// A killed server may write a last file while its folder is removed, hence the repetition.
const SCRIPT: &str = r#"
trap '' HUP INT TERM
groups= folder=
while read -r word value; do
    case $word in
    group) groups="$groups $value" ;;
    folder) folder=$value ;;
    ended)
        kept=
        for group in $groups; do [ "$group" = "$value" ] || kept="$kept $group"; done
        groups=$kept
        ;;
    dismissed) exit 0 ;;
    esac
done
for group in $groups; do kill -KILL "-$group"; done
[ -n "$folder" ] || exit 0
for attempt in 1 2 3 4 5 6 7 8 9; do
    rm -rf -- "$folder" && exit 0
    sleep 1
done
"#;

/// A running guard; dismissed when dropped.
pub(crate) struct Guard {
    shell: Child,
}

impl Guard {
    pub(crate) fn start() -> Result<Self> {
        let shell = Command::new("/bin/sh")
            .args(["-c", SCRIPT, "private-services-guard"])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            .process_group(0)
            .spawn()
            .context("cannot start /bin/sh, which cleans up after a killed owner")?;
        Ok(Self { shell })
    }

    /// From now on the group is killed if we go without a word.
    pub(crate) fn watch_group(&mut self, group: u32) -> Result<()> {
        self.tell("group", group)
    }

    /// The group has ended and its number may soon belong to somebody else.
    pub(crate) fn forget_group(&mut self, group: u32) -> Result<()> {
        self.tell("ended", group)
    }

    /// From now on the folder is removed if we go without a word.
    pub(crate) fn watch_folder(&mut self, folder: &Path) -> Result<()> {
        self.tell("folder", folder.display())
    }

    fn tell(&mut self, word: &str, value: impl Display) -> Result<()> {
        let pipe = self.shell.stdin.as_mut().context("the guard's pipe is closed")?;
        pipe.write_all(format!("{word} {value}\n").as_bytes())
            .context("the shell that cleans up after a killed owner is gone")
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A guard that is gone already needs no dismissal, and there is nobody to tell.
        let _ = self.tell("dismissed", "");
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}
