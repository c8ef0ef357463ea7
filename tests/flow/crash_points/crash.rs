//! One crash: a connection of its own, a process that dies with it, and one that comes after.

use anyhow::{Context, Result, ensure};
use freshet_shared::domain::lane::Lane;
use freshet_shared::failpoints::{Point, VARIABLE};
use freshet_tests::binaries::Binary;
use freshet_tests::environment::{CRASH_RUNS, optional};
use freshet_tests::fleet::PATIENCE;
use freshet_tests::model_provider::{
    DefinedFleet, DefinitionOptions, Grant, ModelProvider, Rotation, Settings,
};
use freshet_tests::waiting::eventually;
use serde_json::json;

/// How often each place is hit.
pub(super) fn runs() -> Result<u32> {
    optional(CRASH_RUNS)
        .map_or(Ok(1), |runs| runs.parse().with_context(|| format!("{CRASH_RUNS} is no number")))
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
        let fleet = DefinedFleet::found(&model.definition(&options)).await?;
        Ok(Self { fleet, model, grant, connections: 0 })
    }

    /// A connection that is urgent, and its account.
    async fn connect(&mut self) -> Result<(i64, String)> {
        self.connections += 1;
        let id = self.connections;
        let account = format!("client-{id}");
        self.model.set_client_secrets(&account, &["secret"]);
        let refresh_token = match self.grant {
            Grant::ClientCredentials => None,
            Grant::RefreshToken(_) => Some(self.model.authorise(&account, &account)),
        };
        let input = json!({ "client_id": account, "client_secret": "secret" });
        self.fleet.add(id, &input, refresh_token.as_deref()).await?;
        Ok((id, account))
    }

    pub(super) async fn producer_dies(&mut self, point: Point, expected: Expected) -> Result<()> {
        let (id, account) = self.connect().await?;
        self.dies("producer", &["once", "--lane", "urgent"], point).await?;
        ensure!(self.model.calls(&account) == 0, "{point:?}: somebody called");
        // A claim is nobody's once it has run out; the message that was sent is somebody's at once.
        let published = match point {
            Point::BeforeConfirm => 0,
            _ => {
                self.run_out("queued_until", id).await?;
                1
            }
        };
        let report = self.fleet.fleet.scan(Lane::Urgent).await?;
        ensure!(report.published == published, "{point:?}: {report}");
        self.settles(point, id, &account, expected).await
    }

    pub(super) async fn worker_dies(&mut self, point: Point, expected: Expected) -> Result<()> {
        let (id, account) = self.connect().await?;
        let report = self.fleet.fleet.scan(Lane::Urgent).await?;
        ensure!(report.published == 1, "{point:?}: {report}");
        self.dies("worker", &["run"], point).await?;
        let is_stored = matches!(point, Point::AfterCommit | Point::AfterCache);
        let generation = self.fleet.fleet.stored(id).await?.generation();
        ensure!(generation == i64::from(is_stored), "{point:?}: generation {generation} is left behind");
        self.settles(point, id, &account, expected).await
    }

    /// Starts a process that has to die at this place.
    async fn dies(&self, name: &'static str, arguments: &[&str], point: Point) -> Result<()> {
        let order = format!("{}=abort", point.as_str());
        let process = Binary::new(name)?
            .arguments(arguments)
            .variables(&self.fleet.fleet.environment)
            .variable(VARIABLE, order)
            .start()?;
        let ended = process.ended(PATIENCE).await?;
        ensure!(ended.code.is_none(), "{name} did not die {point:?}, but ended: {ended:?}");
        Ok(())
    }

    async fn run_out(&self, column: &str, id: i64) -> Result<()> {
        let statement = format!(
            "UPDATE token_refresh SET {column} = UTC_TIMESTAMP(6) - INTERVAL 1 SECOND \
             WHERE connection_id = ? AND {column} IS NOT NULL"
        );
        self.fleet.fleet.execute(&statement, [id.into()]).await.map(drop)
    }

    /// A worker that lives does what is left to do.
    async fn settles(&self, point: Point, id: i64, account: &str, expected: Expected) -> Result<()> {
        let fleet = &self.fleet.fleet;
        let worker = fleet.worker().await?;
        // The message that the dead one had, or sent.
        worker.until_handled(1, PATIENCE).await.with_context(|| format!("{point:?}, connection {id}"))?;
        eventually("the connection is as it should be", PATIENCE, async || {
            let stored = fleet.stored(id).await?;
            let ours = stored.ours.as_ref().context("it is not enrolled")?;
            let is_there = ours.generation == expected.generation && ours.state == expected.state;
            if !is_there {
                // The dead one's lease, and the wait for it, run out.
                self.run_out("lease_until", id).await?;
                self.run_out("next_attempt_at", id).await?;
                fleet.retry_scan().await?;
            }
            ensure!(is_there, "it is {ours:?}");
            ensure!(ours.queued_until.is_none(), "it is still claimed");
            let calls = self.model.calls(account);
            ensure!(calls == expected.calls, "{calls} calls, and not {}", expected.calls);
            let cached = fleet.cache().await?.remove(&format!("connectionAccessToken_{id}"));
            if expected.generation > 0 {
                let token = stored.access_token.context("no token")?;
                ensure!(self.model.is_valid(&token), "the stored token is not the provider's");
                ensure!(cached.map(|entry| entry.value) == Some(token), "the cache holds another token");
            }
            Ok(())
        })
        .await
        .with_context(|| format!("{point:?}, connection {id}"))?;
        worker.stop().await?;
        ensure!(self.model.reuse_detections(account) == 0, "{point:?}: a spent token was presented");
        if let Grant::RefreshToken(_) = self.grant
            && expected.generation > 0
        {
            let stored = self.fleet.refresh_token(id).await?;
            ensure!(stored == self.model.refresh_token(account), "{point:?}: another refresh token counts");
        }
        Ok(())
    }

    pub(super) async fn leave(self) -> Result<()> {
        self.fleet.fleet.dissolve().await
    }
}
