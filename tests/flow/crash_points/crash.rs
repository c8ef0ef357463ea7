//! Crashes side by side: connections of their own, a process for each that dies or stands still with it, and a worker that
//! comes after.

use anyhow::{Context, Result, ensure};
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::retry::UNSENT_FOR;
use freshet_shared::failpoints::{Point, VARIABLE};
use freshet_tests::binaries::{Binary, Process, TestFolder};
use freshet_tests::environment::{CRASH_RUNS, optional};
use freshet_tests::fleet::{PATIENCE, RunningWorker};
use freshet_tests::model_provider::{
    DefinedFleet, DefinitionOptions, Grant, ModelProvider, Rotation, Settings,
};
use freshet_tests::waiting::eventually;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::time::Instant;

/// Crashes that are made at the same time.
const SIDE_BY_SIDE: u32 = 20;

/// How often each place is hit, in portions.
pub(super) fn portions() -> Result<Vec<u32>> {
    let runs: u32 = optional(CRASH_RUNS)
        .map_or(Ok(1), |runs| runs.parse().with_context(|| format!("{CRASH_RUNS} is no number")))?;
    let rest = runs % SIDE_BY_SIDE;
    let whole = std::iter::repeat_n(SIDE_BY_SIDE, (runs / SIDE_BY_SIDE) as usize);
    Ok(whole.chain((rest > 0).then_some(rest)).collect())
}

/// What a connection has come to once the dust has settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    /// Requests that the provider has seen.
    pub(super) calls: usize,
    /// Tokens that were stored.
    pub(super) generation: i64,
    /// The connection's state.
    pub(super) state: &'static str,
}

/// A fleet at the model provider. Each crash is another connection's.
pub(super) struct Site {
    fleet: DefinedFleet,
    model: ModelProvider,
    grant: Grant,
    connections: i64,
    folder: TestFolder,
}

impl Site {
    pub(super) async fn found(grant: Grant) -> Result<Self> {
        let rotation = match grant {
            Grant::ClientCredentials => Rotation::None,
            Grant::RefreshToken(rotation) => rotation,
        };
        let model = ModelProvider::start(Settings::new(rotation)).await?;
        let mut options = DefinitionOptions::new("defined", grant);
        options.integration_type = Some(DefinedFleet::INTEGRATION_TYPE.to_owned());
        let mut fleet = DefinedFleet::found(&model.definition(&options)).await?;
        // Who is held in the middle of a call is not to be held for too long.
        for (name, value) in [("FRESHET_CALL__TIMEOUT", "5m"), ("FRESHET_CALL__LEASE", "7m")] {
            fleet.fleet.environment.insert(name.into(), value.into());
        }
        Ok(Self { fleet, model, grant, connections: 0, folder: TestFolder::create()? })
    }

    /// Connections that are urgent.
    async fn connect(&mut self, count: u32) -> Result<Vec<i64>> {
        let first = self.connections + 1;
        self.connections += i64::from(count);
        for id in first..=self.connections {
            let account = account(id);
            self.model.set_client_secrets(&account, &["secret"]);
            let refresh_token = match self.grant {
                Grant::ClientCredentials => None,
                Grant::RefreshToken(_) => Some(self.model.authorise(&account, &account)),
            };
            let input = json!({ "client_id": account, "client_secret": "secret" });
            self.fleet.add(id, &input, refresh_token.as_deref()).await?;
        }
        Ok((first..=self.connections).collect())
    }

    pub(super) async fn producers_die(&mut self, point: Point, count: u32, expected: Expected) -> Result<()> {
        let mut ids = Vec::new();
        for _ in 0..count {
            let connected = self.connect(1).await?;
            let producer = self.process("producer", &["once", "--lane", "urgent"], point, "abort")?;
            let ended = producer.ended(PATIENCE).await?;
            ensure!(ended.code.is_none(), "the producer did not die {point:?}, but ended: {ended:?}");
            ensure!(self.model.calls(&account(connected[0])) == 0, "{point:?}: somebody called");
            ids.extend(connected);
        }
        // A claim is nobody's once it has run out; the message that was sent is somebody's at once.
        let published = match point {
            Point::BeforeConfirm => 0,
            _ => {
                self.run_out("queued_until", &ids).await?;
                u64::from(count)
            }
        };
        let report = self.fleet.fleet.scan(Lane::Urgent).await?;
        ensure!(report.published == published, "{point:?}: {report}");
        let worker = self.fleet.fleet.worker().await?;
        if worker.until_handled(ids.len(), PATIENCE).await.is_err() {
            // A message may die in the process that was about to send it; then it is published when its claim has run out.
            self.run_out("queued_until", &ids).await?;
            let report = self.fleet.fleet.scan(Lane::Urgent).await?;
            let handled = u64::try_from(worker.reports().len())?;
            ensure!(report.published == u64::from(count) - handled, "{point:?}: {handled} handled, {report}");
        }
        self.settle(&worker, point, &ids, expected).await?;
        self.leave_well(worker, point, &ids, expected).await
    }

    pub(super) async fn workers_die(&mut self, point: Point, count: u32, expected: Expected) -> Result<()> {
        let (ids, held) = self.held(point, count).await?;
        for (_, worker) in held {
            worker.signal(Signal::SIGKILL)?;
            let _ = worker.ended(PATIENCE).await?;
        }
        let is_stored = matches!(point, Point::AfterCommit | Point::AfterCache);
        for id in &ids {
            let generation = self.fleet.fleet.stored(*id).await?.generation();
            ensure!(generation == i64::from(is_stored), "{point:?}: generation {generation} is left behind");
        }
        // The messages that the dead ones had are somebody's at once.
        let worker = self.fleet.fleet.worker().await?;
        self.settle(&worker, point, &ids, expected).await?;
        self.leave_well(worker, point, &ids, expected).await
    }

    /// Workers are held for longer than they may be, another one takes their place, and then they go on.
    pub(super) async fn workers_are_late(
        &mut self,
        point: Point,
        count: u32,
        meanwhile: Expected,
        expected: Expected,
    ) -> Result<()> {
        let (ids, held) = self.held(point, count).await?;
        let held_since = Instant::now();
        // What the living hold runs out: the lease of a call that spends, the mark of any other, the claim.
        self.run_out("lease_until", &ids).await?;
        self.run_out("queued_until", &ids).await?;
        self.fleet.fleet.lose_cache().await?;
        let report = self.fleet.fleet.scan(Lane::Urgent).await?;
        ensure!(report.published == u64::from(count), "{point:?}: {report}");
        let worker = self.fleet.fleet.worker().await?;
        self.settle(&worker, point, &ids, meanwhile).await?;
        let mut stood = Vec::new();
        for id in &ids {
            stood.push(self.fleet.fleet.stored(*id).await?.access_token);
        }
        // Longer than a call may be sent after it was written down.
        tokio::time::sleep_until(held_since + UNSENT_FOR * 2).await;
        for (file, late) in held {
            std::fs::remove_file(self.folder.path().join(file))?;
            let _ = late.terminate(PATIENCE).await?.with_code(0)?;
        }
        if meanwhile.generation == expected.generation {
            for (id, stood) in ids.iter().zip(stood) {
                let stands = self.fleet.fleet.stored(*id).await?.access_token;
                ensure!(stands == stood, "{point:?}, connection {id}: what came late was stored");
            }
        }
        self.settle(&worker, point, &ids, expected).await?;
        self.leave_well(worker, point, &ids, expected).await
    }

    /// Workers that stand still at this place, each with one of these connections.
    async fn held(&mut self, point: Point, count: u32) -> Result<(Vec<i64>, Vec<(String, Process)>)> {
        let ids = self.connect(count).await?;
        let report = self.fleet.fleet.scan(Lane::Urgent).await?;
        ensure!(report.published == u64::from(count), "{point:?}: {report}");
        let mut held = Vec::new();
        for id in &ids {
            let file = format!("held-{id}");
            let order = format!("hold:{}", self.folder.path().join(&file).display());
            held.push((file, self.process("worker", &["run"], point, &order)?));
        }
        eventually("every worker is held", PATIENCE * 3, async || {
            for (file, worker) in &mut held {
                ensure!(worker.is_running()?, "a worker ended:\n{}", worker.stderr());
                ensure!(self.folder.path().join(&*file).exists(), "{file} is not there");
            }
            Ok(())
        })
        .await
        .with_context(|| format!("{point:?}"))?;
        Ok((ids, held))
    }

    /// Starts a process that has an order for this place, and one message in its hands at most.
    fn process(&self, name: &'static str, arguments: &[&str], point: Point, order: &str) -> Result<Process> {
        Binary::new(name)?
            .arguments(arguments)
            .variables(&self.fleet.fleet.environment)
            .variable("FRESHET_WORKER__CONCURRENCY", "1")
            .variable("FRESHET_REDIS__CONNECTIONS", "1")
            .variable(VARIABLE, format!("{}={order}", point.as_str()))
            .start()
    }

    async fn run_out(&self, column: &str, ids: &[i64]) -> Result<()> {
        let (Some(first), Some(last)) = (ids.first(), ids.last()) else { return Ok(()) };
        let statement = format!(
            "UPDATE token_refresh SET {column} = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND \
             WHERE connection_id BETWEEN ? AND ? AND {column} > UTC_TIMESTAMP(6)"
        );
        self.fleet.fleet.execute(&statement, [(*first).into(), (*last).into()]).await.map(drop)
    }

    /// A worker that lives does what is left to do.
    async fn settle(
        &self,
        worker: &RunningWorker,
        point: Point,
        ids: &[i64],
        expected: Expected,
    ) -> Result<()> {
        worker.until_handled(ids.len(), PATIENCE).await.with_context(|| format!("{point:?}"))?;
        eventually("the connections are as they should be", PATIENCE, async || {
            let mut missing = Ok(());
            // All of them, for a look also brings on what has to come.
            for id in ids {
                let looked = self.look(*id, expected).await;
                missing = missing.and(looked.with_context(|| format!("{point:?}, connection {id}")));
            }
            missing
        })
        .await
    }

    async fn look(&self, id: i64, expected: Expected) -> Result<()> {
        let fleet = &self.fleet.fleet;
        let stored = fleet.stored(id).await?;
        let ours = stored.ours.as_ref().context("it is not enrolled")?;
        let is_there = ours.generation == expected.generation && ours.state == expected.state;
        if !is_there && self.grant == Grant::RefreshToken(Rotation::Strict) {
            // The dead one's lease is waited for, and runs out.
            self.run_out("lease_until", &[id]).await?;
            self.run_out("next_attempt_at", &[id]).await?;
            fleet.retry_scan().await?;
        }
        ensure!(is_there, "it is {ours:?}");
        ensure!(ours.queued_until.is_none(), "it is still claimed");
        let calls = self.model.calls(&account(id));
        ensure!(calls == expected.calls, "{calls} calls, and not {}", expected.calls);
        let cached = fleet.cache().await?.remove(&format!("connectionAccessToken_{id}"));
        if expected.generation > 0 {
            let token = stored.access_token.context("no token")?;
            ensure!(self.model.is_valid(&token), "the stored token is not the provider's");
            ensure!(cached.map(|entry| entry.value) == Some(token), "the cache holds another token");
        }
        Ok(())
    }

    async fn leave_well(
        &self,
        worker: RunningWorker,
        point: Point,
        ids: &[i64],
        expected: Expected,
    ) -> Result<()> {
        worker.stop().await?;
        let Grant::RefreshToken(rotation) = self.grant else { return Ok(()) };
        for id in ids {
            let account = account(*id);
            ensure!(self.model.reuse_detections(&account) == 0, "{point:?}: a spent token was presented");
            if expected.generation > 0 && rotation == Rotation::Strict {
                let stored = self.fleet.refresh_token(*id).await?;
                ensure!(
                    stored == self.model.refresh_token(&account),
                    "{point:?}: another refresh token counts"
                );
            }
        }
        Ok(())
    }

    pub(super) async fn leave(self) -> Result<()> {
        self.fleet.fleet.dissolve().await
    }
}

/// A connection's account, and its client.
fn account(id: i64) -> String {
    format!("client-{id}")
}
