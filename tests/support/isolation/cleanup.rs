//! Removing what a failed test has left.

use std::io::{Write, stderr};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::runtime;

/// A test that failed because a server is gone must not wait long for that server.
const DEADLINE: Duration = Duration::from_secs(10);

/// Runs an asynchronous removal from within `drop`. It gets a thread and a runtime of its own, because the test's
/// runtime is blocked meanwhile; so it must open its own connection.
pub(super) fn best_effort(what: &str, removal: impl Future<Output = Result<()>> + Send + 'static) {
    let removed = thread::spawn(move || -> Result<()> {
        let runtime = runtime::Builder::new_current_thread().enable_all().build().context("no runtime")?;
        let outcome = runtime.block_on(async { tokio::time::timeout(DEADLINE, removal).await });
        outcome.context("the server did not answer in time")?
    })
    .join();
    if let Ok(Err(error)) = removed {
        // Nobody is left to hand the error to, and the test has a failure of its own to tell.
        let _ = writeln!(stderr(), "{what} is left on the server: {error:#}");
    }
}
