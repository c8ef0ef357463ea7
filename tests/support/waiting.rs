//! Waiting for a condition, with a deadline and a word on what was missing.

use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};

/// How long one look at a condition may rest before the next: short enough to cost a test nothing.
pub(crate) const PAUSE: Duration = Duration::from_millis(20);

/// Repeats `attempt` until it succeeds. At the deadline the error says what was waited for and what the last
/// attempt found missing.
///
/// ```no_run
/// # use std::time::Duration;
/// # async fn example() -> anyhow::Result<()> {
/// # async fn queued() -> anyhow::Result<u32> { Ok(0) }
/// freshet_tests::waiting::eventually("the queue is empty", Duration::from_secs(10), async || {
///     let left = queued().await?;
///     anyhow::ensure!(left == 0, "{left} messages are left");
///     Ok(())
/// })
/// .await?;
/// # Ok(()) }
/// ```
pub async fn eventually<T>(
    condition: &str,
    deadline: Duration,
    mut attempt: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let started = Instant::now();
    let mut seen = None;
    loop {
        let left = deadline.saturating_sub(started.elapsed());
        match tokio::time::timeout(left, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(missing)) => seen = Some(missing),
            // What an earlier look has found says more.
            Err(_) => {}
        }
        if started.elapsed() + PAUSE >= deadline {
            let missing = seen.unwrap_or_else(|| anyhow!("no look at it came back"));
            return Err(missing.context(format!("waited {deadline:?} in vain until {condition}")));
        }
        tokio::time::sleep(PAUSE).await;
    }
}
