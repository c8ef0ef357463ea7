//! A collector that is not there costs traces and nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use freshet_shared::domain::lane::Lane;
use freshet_tests::binaries::{Binary, DesertedAddress, MuteAddress};
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};
use freshet_tests::waiting::eventually;

/// A pod has 30 seconds to end, of which the jobs may take 25.
const TO_FLUSH: Duration = Duration::from_secs(15);

#[tokio::test]
async fn a_worker_refreshes_and_ends_in_time_without_its_collector() -> Result<()> {
    let (deserted, mute) = (DesertedAddress::take()?, MuteAddress::take()?);
    refreshes_without(deserted.address()?, "the collector does not take spans").await?;
    refreshes_without(mute.address()?, "the last spans could not be sent").await
}

async fn refreshes_without(address: SocketAddr, words: &str) -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    fleet.environment.insert("FRESHET_TELEMETRY__OTLP_ENDPOINT".into(), format!("http://{address}"));
    fleet.environment.insert("FRESHET_TELEMETRY__FILTER".into(), "info".into());
    fleet.add([NewConnection::fynd(1, 300), NewConnection::very(2, 500)]).await?;
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, 2);
    let mut worker = Binary::new("worker")?.arguments(["run"]).variables(&fleet.environment).start()?;
    eventually("both are refreshed", PATIENCE, async || {
        ensure!(worker.is_running()?, "it gave up:\n{}", worker.stderr());
        for id in 1..=2 {
            ensure!(fleet.stored(id).await?.generation() == 1, "connection {id} is not");
        }
        Ok(())
    })
    .await?;
    fleet.vhost.until_drained(PATIENCE).await?;
    let ended = worker.terminate(TO_FLUSH).await?.with_code(0)?;
    assert!(ended.stderr.contains(words), "{}", ended.stderr);
    for line in ended.stderr.lines() {
        let line: serde_json::Value = serde_json::from_str(line)?;
        assert!(line.is_object(), "{line}");
    }
    fleet.dissolve().await
}
