//! What `freshet check` says.

use std::fmt;
use std::num::NonZeroU32;

use freshet_shared::configuration::{Configuration, LimitsSection};
use serde::Serialize;

/// What follows from a configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CheckReport {
    /// All queues that producers and workers declare.
    pub queues: Vec<String>,
    /// Worker processes at most.
    pub workers: NonZeroU32,
    /// Producer processes at most.
    pub producers: NonZeroU32,
    /// Connections to MySQL.
    pub connections: Connections,
    /// Refreshes in flight at once, in each worker.
    pub concurrency: u16,
    /// The providers that are scanned.
    pub providers: Vec<ProviderShare>,
    /// How long processes may take to end.
    pub longest_stop: Stop,
    /// Why so many processes are too many; none if they are not.
    pub problems: Vec<String>,
}

/// Connections to MySQL, at most.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// In each process.
    pub each: u32,
    /// In all of them together.
    pub sum: u64,
    /// What MySQL has for them; `None` where nobody counted.
    pub given: Option<u32>,
}

impl Connections {
    pub(super) fn of(workers: NonZeroU32, producers: NonZeroU32, configuration: &Configuration) -> Self {
        let each = configuration.database.max_connections;
        let processes = u64::from(workers.get()) + u64::from(producers.get());
        Self { each, sum: processes * u64::from(each), given: configuration.limits.database_connections }
    }
}

/// What one provider lets the workers ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ProviderShare {
    /// The provider.
    pub provider: String,
    /// Requests of all workers together.
    pub rate: Option<String>,
    /// Calls at once, of all workers together.
    pub concurrency: Option<NonZeroU32>,
    /// Calls at once, of each worker.
    pub concurrency_of_each: Option<NonZeroU32>,
}

/// The longest time from SIGTERM to the end of a process, in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Stop {
    /// Of a producer.
    pub producer_s: f64,
    /// Of a worker.
    pub worker_s: f64,
}

impl CheckReport {
    pub(super) fn find_problems(&mut self, limits: &LimitsSection) {
        let (workers, producers) = (self.workers, self.producers);
        for (key, asked, allowed) in
            [("workers", workers, limits.workers), ("producers", producers, limits.producers)]
        {
            if asked > allowed {
                self.problems.push(format!(
                    "{asked} {key} are more than limits.{key} ({allowed}): together they would take more than is \
                     there; run fewer, or raise the key"
                ));
            }
        }
        let Connections { each, sum, given } = self.connections;
        if given.is_some_and(|given| sum > u64::from(given)) {
            self.problems.push(format!(
                "{workers} workers and {producers} producers with database.max_connections = {each} open up to {sum} \
                 connections, more than limits.database_connections; run fewer, or raise the key"
            ));
        }
        for share in &self.providers {
            let (provider, concurrency) = (&share.provider, share.concurrency);
            if let Some(concurrency) = concurrency.filter(|concurrency| workers > *concurrency) {
                self.problems.push(format!(
                    "{workers} workers call {provider} at least {workers} times at once, since each always has one call, \
                     more than its limits.concurrency ({concurrency}); run fewer workers"
                ));
            }
        }
    }
}

impl fmt::Display for CheckReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut line = |name: &str, text: String| writeln!(formatter, "{name:<22}{text}");
        line("processes", format!("{} workers, {} producers", self.workers, self.producers))?;
        let Connections { each, sum, given } = &self.connections;
        let given = given.map_or_else(
            || "limits.database_connections does not say how many there are".to_owned(),
            |given| format!("of {given}"),
        );
        let (workers, producers) = (self.workers, self.producers);
        line("MySQL connections", format!("({workers} + {producers}) x {each} = {sum}; {given}"))?;
        line("refreshes in flight", format!("{workers} x {} at most", self.concurrency))?;
        for share in &self.providers {
            let mut parts: Vec<String> = share.rate.iter().map(|rate| format!("{rate} in all")).collect();
            if let (Some(whole), Some(each)) = (share.concurrency, share.concurrency_of_each) {
                parts.push(format!("{whole} calls at once, {each} of each worker"));
            }
            line(&share.provider, if parts.is_empty() { "no limit".into() } else { parts.join("; ") })?;
        }
        for queue in &self.queues {
            line("queue", queue.clone())?;
        }
        let Stop { producer_s, worker_s } = self.longest_stop;
        line("ends after SIGTERM in", format!("producer {producer_s} s, worker {worker_s} s at most"))?;
        for problem in &self.problems {
            line("PROBLEM", problem.clone())?;
        }
        Ok(())
    }
}
