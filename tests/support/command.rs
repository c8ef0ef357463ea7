//! Running the tests' command: as a process group of its own that gets our signals and does not outlive us.

mod signals;

use std::ffi::OsString;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use crate::services::{Guard, ending_with_us};

pub use signals::Signals;

/// What a command that was asked to end gets before it is killed.
const PATIENCE: Duration = Duration::from_secs(15);

/// Runs the command to its end, whatever remains in its group included. A first signal is passed on; a second one,
/// or the end of our patience, kills. Returns the exit code, 128 + n where signal n ended it.
pub async fn run(command: &[OsString], variables: &[(&str, String)], signals: &mut Signals) -> Result<u8> {
    let (program, arguments) =
        command.split_first().context("no command is given: private-services -- COMMAND …")?;
    let mut some_child_ended = signal(SignalKind::child()).context("cannot listen to SIGCHLD")?;
    let mut guard = Guard::start()?;
    let mut child = ending_with_us(program)
        .args(arguments)
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .process_group(0)
        .spawn()
        .with_context(|| format!("cannot start {}", program.display()))?;
    let group = Group(Pid::from_raw(i32::try_from(child.id()).context("a process id beyond 31 bits")?));
    guard.watch_group(child.id())?;
    let mut asked_at: Option<Instant> = None;
    let status = loop {
        if let Some(status) = child.try_wait().context("cannot ask after the command")? {
            break status;
        }
        let left = asked_at.map(|asked_at| PATIENCE.saturating_sub(asked_at.elapsed()));
        tokio::select! {
            _ = some_child_ended.recv() => {}
            received = signals.received() => {
                group.send(if asked_at.is_none() { received } else { Signal::SIGKILL })?;
                asked_at.get_or_insert_with(Instant::now);
            }
            () = tokio::time::sleep(left.unwrap_or_default()), if left.is_some() => group.send(Signal::SIGKILL)?,
        }
    };
    drop(group);
    guard.forget_group(child.id())?;
    exit_code(status)
}

/// Killed when dropped.
struct Group(Pid);

impl Group {
    fn send(&self, signal: Signal) -> Result<()> {
        match killpg(self.0, signal) {
            // All have ended already.
            Ok(()) | Err(Errno::ESRCH) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("cannot send {signal} to the command")),
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.send(Signal::SIGKILL);
    }
}

fn exit_code(status: ExitStatus) -> Result<u8> {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    let code = code.and_then(|code| u8::try_from(code).ok());
    ensure!(code.is_some(), "the command ended with {status}, which is no exit code");
    Ok(code.unwrap_or_default())
}
