//! A collector that is away, or takes connections and never answers, costs spans and no time; one that answers gets them all.

use std::time::Duration;

use anyhow::{Result, ensure};
use freshet_shared::domain::lane::Lane;
use freshet_tests::binaries::{Binary, DesertedAddress, MuteAddress};
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};
use freshet_tests::otlp::Collector;
use freshet_tests::waiting::eventually;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;

const REFRESHES: i64 = 400;
/// Far fewer than these refreshes end.
const SHORT_QUEUE: &str = "256";
/// The exporter waits 10 s for an answer: once would be enough to be seen.
const TO_FLUSH: Duration = Duration::from_secs(15);
/// What a busy machine does to the pace of anything.
const MARGIN: (u32, Duration) = (3, Duration::from_secs(3));

/// How long the refreshes of a worker took, from the first that was stored to the last, and what it said.
async fn refreshing(endpoint: String, queue: Option<&str>) -> Result<(Duration, String)> {
    let mut fleet = TestFleet::found().await?;
    fleet.environment.insert("FRESHET_TELEMETRY__OTLP_ENDPOINT".into(), endpoint);
    if let Some(queue) = queue {
        fleet.environment.insert("FRESHET_TELEMETRY__SPAN_QUEUE".into(), queue.into());
    }
    fleet.add((1..=REFRESHES).map(|id| NewConnection::fynd(id, 1_200))).await?;
    let published = fleet.scan(Lane::Early).await?.published;
    assert_eq!(i64::try_from(published)?, REFRESHES);
    let mut worker = Binary::new("worker")?.arguments(["run"]).variables(&fleet.environment).start()?;
    eventually("all are refreshed", PATIENCE, async || {
        ensure!(worker.is_running()?, "it gave up:\n{}", worker.stderr());
        let stored = fleet.number("SELECT COUNT(*) FROM token_refresh WHERE generation = 1").await?;
        ensure!(stored == REFRESHES, "{stored} are");
        Ok(())
    })
    .await?;
    fleet.vhost.until_drained(PATIENCE).await?;
    let took =
        "SELECT TIMESTAMPDIFF(MICROSECOND, MIN(last_success_at), MAX(last_success_at)) FROM token_refresh";
    let took = Duration::from_micros(u64::try_from(fleet.number(took).await?)?);
    let said = worker.terminate(TO_FLUSH).await?.with_code(0)?.stderr;
    fleet.dissolve().await?;
    Ok((took, said))
}

#[tokio::test]
async fn refreshes_keep_their_pace_whatever_the_collector_does() -> Result<()> {
    let collector = Collector::start().await?;
    let (usual, said) = refreshing(collector.endpoint(), None).await?;
    assert!(!said.contains("spans"), "{said}");
    let spans = collector.spans();
    let processed = spans.iter().filter(|received| received.span.kind() == SpanKind::Consumer).count();
    assert_eq!(i64::try_from(processed)?, REFRESHES, "the queue of the defaults is long enough for all");
    assert!(spans.len() / processed >= 8, "{} spans", spans.len());

    let at_most = usual * MARGIN.0 + MARGIN.1;
    let (deserted, mute) = (DesertedAddress::take()?, MuteAddress::take()?);
    let cases =
        [(deserted.address()?, "the collector does not take spans"), (mute.address()?, "spans were dropped")];
    for (address, words) in cases {
        let (took, said) = refreshing(format!("http://{address}"), Some(SHORT_QUEUE)).await?;
        assert!(took <= at_most, "{took:?}, and {usual:?} with a collector that answers");
        assert!(said.contains(words), "{said}");
    }
    Ok(())
}
