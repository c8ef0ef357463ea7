//! What a collector is sent: one trace per refresh, from the producer through the worker to the provider; no secret.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result, ensure};
use freshet_tests::binaries::Binary;
use freshet_tests::fleet::{PATIENCE, TestFleet};
use freshet_tests::otlp::{Collector, ReceivedSpan};
use freshet_tests::waiting::eventually;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::canaries;

/// Crates that log at the finest level. MySQL's client does only where it finds no TLS.
const CLIENTS: &[&str] = &["freshet_worker", "lapin", "fred", "hyper_util", "reqwest"];
const MYSQL_CLIENT: &str = "sqlx_mysql";

/// Scans both lanes and lets a worker refresh all; answers what the processes said.
async fn refresh(fleet: &TestFleet, ids: &[i64]) -> Result<String> {
    let mut said = String::new();
    for lane in ["urgent", "early"] {
        let producer =
            Binary::new("producer")?.arguments(["once", "--lane", lane]).variables(&fleet.environment);
        let ended = producer.run().await?.with_code(0)?;
        assert!(ended.stdout.contains("published 2, not published 0"), "{}", ended.stdout);
        said.push_str(&ended.stderr);
    }
    let mut worker = Binary::new("worker")?.arguments(["run"]).variables(&fleet.environment).start()?;
    eventually("all are refreshed", PATIENCE, async || {
        ensure!(worker.is_running()?, "it gave up:\n{}", worker.stderr());
        for id in ids {
            ensure!(fleet.stored(*id).await?.generation() == 1, "connection {id} is not");
        }
        Ok(())
    })
    .await?;
    fleet.vhost.until_drained(PATIENCE).await?;
    said.push_str(&worker.terminate(PATIENCE).await?.with_code(0)?.stderr);
    Ok(said)
}

#[tokio::test]
async fn each_refresh_is_one_trace_from_publish_over_process_to_the_token_call() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    let collector = Collector::start().await?;
    fleet.environment.insert("FRESHET_TELEMETRY__OTLP_ENDPOINT".into(), collector.endpoint());
    let ids = canaries::add(&fleet).await?;
    refresh(&fleet, &ids).await?;

    let spans = collector.spans();
    for id in &ids {
        let named = |service: &str, name: &str| -> Result<&ReceivedSpan> {
            let mut found = spans.iter().filter(|received| {
                received.service == service
                    && received.span.name == name
                    && received.attribute("freshet.connection_id") == Some(id.to_string())
            });
            let one =
                found.next().with_context(|| format!("no `{name}` of {service} for connection {id}"))?;
            ensure!(found.next().is_none(), "two `{name}` for connection {id}");
            Ok(one)
        };
        let publish = named("freshet-producer", "publish freshet.refresh")?;
        let process = named("freshet-worker", "process freshet.refresh")?;
        assert_eq!(publish.span.kind(), SpanKind::Producer);
        assert_eq!(process.span.kind(), SpanKind::Consumer);
        assert_eq!(publish.span.trace_id, process.span.trace_id);
        assert_eq!(process.span.parent_span_id, publish.span.span_id);
        assert_eq!(process.attribute("freshet.outcome").as_deref(), Some("refreshed"));

        let of_trace: HashMap<&[u8], &ReceivedSpan> = spans
            .iter()
            .filter(|received| received.span.trace_id == publish.span.trace_id)
            .map(|received| (received.span.span_id.as_slice(), received))
            .collect();
        let calls: Vec<_> =
            of_trace.values().filter(|received| received.span.kind() == SpanKind::Client).collect();
        let tokens: Vec<_> = calls.iter().filter(|call| is_token_call(call)).collect();
        assert_eq!(tokens.len(), 1, "connection {id}: {calls:?}");
        assert_eq!(tokens[0].attribute("http.response.status_code").as_deref(), Some("200"));
        // Only Fynd's urgent connection has its channel renewed.
        assert_eq!(calls.len(), if *id == 1 { 2 } else { 1 }, "connection {id}: {calls:?}");
        for call in calls {
            assert!(descends(&of_trace, call, process), "{call:?} does not descend from {process:?}");
        }
    }
    let traces: BTreeSet<_> = spans
        .iter()
        .filter(|received| received.span.name == "publish freshet.refresh")
        .map(|received| &received.span.trace_id)
        .collect();
    assert_eq!(traces.len(), ids.len(), "each refresh has a trace of its own");
    fleet.dissolve().await
}

fn is_token_call(call: &ReceivedSpan) -> bool {
    let template = call.attribute("url.template").unwrap_or_default();
    template.ends_with("/shipment/authToken") || template == "{environment.token_url}"
}

fn descends(trace: &HashMap<&[u8], &ReceivedSpan>, from: &ReceivedSpan, ancestor: &ReceivedSpan) -> bool {
    let mut at = from;
    while let Some(parent) = trace.get(at.span.parent_span_id.as_slice()) {
        if parent.span.span_id == ancestor.span.span_id {
            return true;
        }
        at = parent;
    }
    false
}

#[tokio::test]
async fn neither_traces_nor_logs_of_the_finest_level_hold_a_secret() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    let collector = Collector::start().await?;
    let variables = [
        ("FRESHET_TELEMETRY__OTLP_ENDPOINT", collector.endpoint()),
        ("FRESHET_TELEMETRY__FILTER", "trace".into()),
        ("FRESHET_TELEMETRY__FORMAT", "json".into()),
    ];
    fleet.environment.extend(variables.map(|(name, value)| (name.to_owned(), value)));
    let ids = canaries::add(&fleet).await?;
    let said = refresh(&fleet, &ids).await?;

    let canaries = canaries::forms(&fleet, &ids).await?;
    let exported = collector.bytes();
    assert_eq!(canaries::found(&canaries, &exported), Vec::<&str>::new(), "in traces");
    assert_eq!(canaries::found(&canaries, said.as_bytes()), Vec::<&str>::new(), "in logs");
    // What was searched is what was meant to be.
    let seen = ["process freshet.refresh".to_owned()];
    assert_eq!(canaries::found(&seen, &exported).len(), 1);
    let (mut levels, mut targets) = (BTreeSet::new(), BTreeSet::new());
    for line in said.lines() {
        let line: serde_json::Value = serde_json::from_str(line).with_context(|| line.to_owned())?;
        let object = line.as_object().context("a line that is no object")?;
        assert!(object.contains_key("timestamp") && object.contains_key("target"), "{object:?}");
        levels.extend(object["level"].as_str().map(str::to_owned));
        targets.extend(
            object["target"].as_str().and_then(|target| target.split("::").next()).map(str::to_owned),
        );
    }
    assert!(levels.contains("TRACE") && levels.contains("DEBUG"), "{levels:?}");
    // The clients log too, each of which has secrets in its hands.
    let status = Statement::from_string(DbBackend::MySql, "SHOW STATUS LIKE 'Ssl_cipher'");
    let row = fleet.database.connect().await?.query_one_raw(status).await?.context("no status")?;
    let is_open = row.try_get::<String>("", "Value")?.is_empty();
    for client in CLIENTS.iter().chain(is_open.then_some(&MYSQL_CLIENT)) {
        assert!(targets.contains(*client), "{client} logs nothing, others do: {targets:?}");
    }
    fleet.dissolve().await
}
