//! A slow provider beside a fast one: what the connections of the fast one notice.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use freshet_tests::provider_calls::ProviderCalls;
use freshet_tests::waiting::eventually;
use hdrhistogram::Histogram;

use super::Scale;
use crate::figures::Figure;
use crate::load::Listener;
use crate::process::Process;
use crate::results::Measured;
use crate::stage::{Setting, Stage, provider};

const FAST: Duration = Duration::from_millis(20);
const SLOW: Duration = Duration::from_secs(10);
/// Messages per second about connections of the fast provider.
const RATE: f64 = 500.0;
/// Its definition's name and integration type.
const NAME: &str = "slow";
const TYPE: &str = "77";

const METHOD: &str = "\
One worker, default configuration. Connections of a provider that answers in 20 ms come due at 500 a second, first alone and then \
while 2,000 connections of a provider that takes 10 s have just come due; the first two seconds are not measured. The slow one has a queue pool of its own \
(`pool = \"slow\"`) and no limit. The times are those of the fast provider's connections, from publish to event.";

pub(super) async fn measure(scale: &Scale) -> Result<Measured> {
    let count = scale.pick(5_000, 2_000);
    let slow_count = scale.pick(2_000, 500);
    let mut stage = Stage::set(scale, Setting { provider_delay: FAST, ..Setting::default() }).await?;
    let (_slow, address) = provider(&stage.folder, SLOW).await?;
    let slow_calls = ProviderCalls::of(&address)?;
    let definitions = stage.folder.path().join("providers");
    std::fs::create_dir(&definitions)?;
    std::fs::write(definitions.join("slow.toml"), definition(&address))?;
    let folder = definitions.to_str().context("a path that is not UTF-8")?.to_owned();
    stage.environment.insert("FRESHET_PROVIDER_DIRECTORY".to_owned(), folder);
    stage.add_connections(count + slow_count).await?;
    let statement = format!("UPDATE channels SET integrationType = '{TYPE}' WHERE connectionId > {count}");
    stage.execute(&statement).await?;
    let (mut alone, mut beside) = (Vec::new(), Vec::new());
    for _ in 0..scale.runs {
        alone.push(quantile(&fast_load(&stage, count, false, &slow_calls).await?));
        beside.push(quantile(&fast_load(&stage, count, true, &slow_calls).await?));
    }
    let ratio = Figure::ratio("p99 of the fast provider beside the slow one, over alone", &beside, &alone);
    Ok(Measured {
        method: METHOD.to_owned(),
        figures: vec![
            Figure::new("p99 of the fast provider alone", "ms", alone),
            Figure::new("p99 of the fast provider beside the slow one", "ms", beside),
        ],
        bars: vec![ratio.at_most(1.2)],
        curves: Vec::new(),
    })
}

fn definition(address: &str) -> String {
    format!(
        "name = \"{NAME}\"\ntitle = \"Slow\"\nintegration_type = \"{TYPE}\"\npool = \"{NAME}\"\n\n\
         [[inputs]]\nkey = \"x-integration-id\"\n\n\
         [token.request]\nmethod = \"GET\"\nurl = \"http://{address}/token\"\n\
         query = [[\"username\", \"{{input.x-integration-id}}\"]]\n\n\
         [token.response]\naccess_token = \"/accessToken\"\nlifetime = {{ fixed = \"1h\" }}\n"
    )
}

fn quantile(times: &Histogram<u64>) -> f64 {
    times.value_at_quantile(0.99) as f64 / 1e3
}

async fn fast_load(
    stage: &Stage,
    count: u64,
    is_slow_due: bool,
    slow_calls: &ProviderCalls,
) -> Result<Histogram<u64>> {
    stage.expire(0).await?;
    slow_calls.forget().await?;
    let folder = stage.folder.path();
    if is_slow_due {
        let expiry = "UTC_TIMESTAMP() - INTERVAL 1 MINUTE";
        let statement =
            format!("UPDATE ie_appinstall_connection SET accessTokenExpiryAt = {expiry} WHERE id > {count}");
        stage.execute(&statement).await?;
        stage.producer(&["once", "--lane", "urgent"])?.run().await?;
    }
    // These messages are the load's own.
    let statement = format!(
        "UPDATE ie_appinstall_connection SET accessTokenExpiryAt = UTC_TIMESTAMP() - INTERVAL 1 MINUTE WHERE id <= {count}"
    );
    stage.execute(&statement).await?;
    let mut worker = stage.worker()?.start(folder)?;
    stage.until_consumed_by(1).await?;
    if is_slow_due {
        until_held_up(slow_calls, &mut worker).await?;
    }
    let listener = Listener::start(stage).await?;
    let times = listener.put_under_load(1..=i64::try_from(count)?, RATE).await;
    let times = times.with_context(|| format!("the worker says:\n{}", worker.last_words()))?;
    worker.stop().await?;
    stage.purge("freshet.refresh.slow.urgent.v1").await?;
    Ok(times)
}

/// Waits until the slow provider has calls to answer.
async fn until_held_up(slow_calls: &ProviderCalls, worker: &mut Process) -> Result<()> {
    eventually("the slow provider is called", Duration::from_secs(30), async || {
        worker.usage()?;
        let count = slow_calls.calls().await?.count;
        ensure!(count > 0, "no call yet");
        Ok(())
    })
    .await
}
