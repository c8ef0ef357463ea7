//! A worker in the test's process, on the real services.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Result, ensure};
use freshet_shared::configuration::Configuration;
use freshet_worker::job::JobReport;
use freshet_worker::pool::PoolReport;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::waiting::eventually;

/// A worker that runs, and what its jobs came to.
pub struct RunningWorker {
    reports: Arc<Mutex<Vec<JobReport>>>,
    shutdown: CancellationToken,
    running: JoinHandle<Result<PoolReport>>,
}

impl RunningWorker {
    pub(super) async fn start(configuration: &Configuration) -> Result<Self> {
        let app = freshet_worker::app::App::build(configuration).await?;
        let reports = Arc::new(Mutex::new(Vec::new()));
        let shutdown = CancellationToken::new();
        let observer: freshet_worker::pool::Observer = {
            let reports = reports.clone();
            Arc::new(move |report: &JobReport| {
                reports.lock().unwrap_or_else(PoisonError::into_inner).push(report.clone());
            })
        };
        let running = tokio::spawn(app.run(observer, shutdown.clone()));
        Ok(Self { reports, shutdown, running })
    }

    /// What its jobs came to so far, in the order of their end.
    pub fn reports(&self) -> Vec<JobReport> {
        self.reports.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The outcomes so far, by name, in the order of their end.
    pub fn outcomes(&self) -> Vec<&'static str> {
        self.reports().iter().map(|report| report.outcome.as_str()).collect()
    }

    /// Waits until at least `count` jobs have ended.
    pub async fn until_handled(&self, count: usize, deadline: Duration) -> Result<()> {
        eventually("the worker has handled the messages", deadline, async || {
            let handled = self.reports().len();
            ensure!(handled >= count, "{handled} of {count} are handled");
            Ok(())
        })
        .await
    }

    /// Stops it as SIGTERM does, and answers what it says of itself.
    pub async fn stop(self) -> Result<PoolReport> {
        self.shutdown.cancel();
        self.running.await?
    }
}
