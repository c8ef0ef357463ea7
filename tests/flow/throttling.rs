//! Limits and breakers of a fleet of processes, judged by what the provider saw: its ledger, by its own clock. None of
//! these tests has an opinion on how fast the machine is.

mod breaker;
mod concurrency;
mod neighbour;
mod outage;
mod pools;
mod rate;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use freshet_tests::binaries::{Binary, Process};
use freshet_tests::fleet::PATIENCE;
use freshet_tests::model_provider::{
    DefinedFleet, DefinitionOptions, Grant, LedgerEntry, ModelProvider, Rotation, SecretOf, Settings,
};
use freshet_tests::waiting::eventually;
use serde_json::json;

/// Worker processes of a fleet. The provider tells them apart: each has one of the operator's secrets to itself.
const WORKERS: usize = 3;

/// How much later than it was granted a request may arrive: the machine does other things too.
const ON_THE_WAY: TimeDelta = TimeDelta::seconds(1);

/// A producer and workers as processes, on a model provider with limits.
struct Throttled {
    model: ModelProvider,
    defined: DefinedFleet,
    connections: i64,
    processes: Vec<Process>,
}

impl Throttled {
    /// So many connections that are urgent, of a provider with these limits, as TOML. Nothing runs yet.
    async fn found(limits: &str, connections: i64) -> Result<Self> {
        let model = ModelProvider::start(Settings::new(Rotation::None)).await?;
        let options = DefinitionOptions {
            integration_type: Some(DefinedFleet::INTEGRATION_TYPE.into()),
            secret: SecretOf::Operator,
            more: format!("[limits]\n{limits}\n"),
            ..DefinitionOptions::new("model", Grant::ClientCredentials)
        };
        let mut defined = DefinedFleet::found(&model.definition(&options)).await?;
        let variables = [
            ("FRESHET_LIMITS__WORKERS", WORKERS.to_string()),
            ("FRESHET_PROVIDERS__MODEL__SECRETS__CLIENT_SECRET", "env:CLIENT_SECRET".into()),
            ("CLIENT_SECRET", secret(0)),
        ];
        defined.fleet.environment.extend(variables.map(|(name, value)| (name.to_owned(), value)));
        let secrets: Vec<String> = (0..WORKERS).map(secret).collect();
        let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
        for id in 1..=connections {
            let client = format!("client-{id}");
            model.set_client_secrets(&client, &secrets);
            defined.add(id, &json!({"client_id": client}), None).await?;
        }
        Ok(Self { model, defined, connections, processes: Vec::new() })
    }

    /// Sets a variable of its processes.
    fn set(&mut self, name: &str, value: &str) {
        self.defined.fleet.environment.insert(name.into(), value.into());
    }

    /// Starts the workers, and a producer that scans at once.
    fn start(&mut self) -> Result<()> {
        for number in 0..WORKERS {
            let worker = Binary::new("worker")?.arguments(["run"]).variables(&self.defined.fleet.environment);
            self.processes.push(worker.variable("CLIENT_SECRET", secret(number)).start()?);
        }
        let producer = Binary::new("producer")?.arguments(["run"]).variables(&self.defined.fleet.environment);
        self.processes.push(producer.start()?);
        Ok(())
    }

    /// Waits until so many connections are fresh.
    async fn until_fresh(&mut self, connections: i64) -> Result<()> {
        eventually("the connections are fresh", PATIENCE, async || {
            for process in &mut self.processes {
                ensure!(process.is_running()?, "a process gave up:\n{}", process.stderr());
            }
            let fresh =
                self.defined.fleet.number("SELECT COUNT(*) FROM token_refresh WHERE generation = 1").await?;
            ensure!(fresh >= connections, "{fresh} of {connections} are");
            Ok(())
        })
        .await
    }

    /// What the provider saw of each worker.
    fn calls_by_worker(&self) -> Vec<Vec<LedgerEntry>> {
        let ledger = self.model.ledger();
        let of =
            |number| ledger.iter().filter(|entry| entry.client_secret == Some(number)).cloned().collect();
        (0..WORKERS).map(of).collect()
    }

    /// Ends the processes. Each worker has had its part, each connection was refreshed once, and nothing is left.
    async fn end(mut self) -> Result<()> {
        self.until_fresh(self.connections).await?;
        ensure!(self.calls_by_worker().iter().all(|calls| !calls.is_empty()), "a worker had nothing to do");
        for id in 1..=self.connections {
            ensure!(
                self.model.grants(&format!("client-{id}")) == 1,
                "connection {id} was not refreshed once"
            );
        }
        // The producer first: what it published meanwhile would be left.
        for producer in self.processes.split_off(WORKERS) {
            let _ = producer.terminate(PATIENCE).await?.with_code(0)?;
        }
        let left = "SELECT COUNT(*) FROM token_refresh \
                    WHERE state <> 'active' OR failures <> 0 OR grant_failures <> 0 OR failure_class IS NOT NULL \
                    OR failure_detail IS NOT NULL OR queued_until IS NOT NULL OR generation <> 1";
        eventually("each connection is as it should be", PATIENCE, async || {
            let left = self.defined.fleet.number(left).await?;
            ensure!(left == 0, "{left} are not");
            Ok(())
        })
        .await?;
        for worker in self.processes {
            let _ = worker.terminate(PATIENCE).await?.with_code(0)?;
        }
        self.defined.fleet.dissolve().await
    }
}

fn secret(number: usize) -> String {
    format!("secret of worker {number}")
}

/// In no stretch of time more than `burst` requests arrived, and one more for each `interval` of it.
fn assert_within(arrivals: &[DateTime<Utc>], interval: Duration, burst: usize) -> Result<()> {
    let interval = TimeDelta::from_std(interval)?;
    for (first, begin) in arrivals.iter().enumerate() {
        for (count, end) in (1..).zip(&arrivals[first..]) {
            // A microsecond is the least that the ledger can tell.
            let intervals = (*end - *begin + ON_THE_WAY).num_microseconds().context("too long")?
                / interval.num_microseconds().context("too long")?;
            let allowed = burst + usize::try_from(intervals)?;
            ensure!(count <= allowed, "{count} requests in {}, where {allowed} are allowed", *end - *begin);
        }
    }
    Ok(())
}
