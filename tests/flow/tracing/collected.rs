//! What a collector is sent: one trace per refresh, from the producer through the worker to the provider; no secret.

use std::collections::{BTreeSet, HashMap};

use anyhow::{Context, Result, ensure};
use freshet_cli::simulator::{Matcher, Provider, Reply, StatusCode};
use freshet_shared::telemetry::SCHEMA_URL;
use freshet_tests::binaries::{Binary, DesertedAddress};
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};
use freshet_tests::otlp::{Collector, ReceivedSpan};
use freshet_tests::waiting::eventually;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as StatusCodeOfSpan;
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
    let scans: HashMap<&str, &ReceivedSpan> = spans
        .iter()
        .filter(|received| received.span.name.starts_with("scan "))
        .map(|received| (received.span.name.as_str(), received))
        .collect();
    // Each lane's connections: one of Fynd's, one of Very's.
    for (id, lane) in ids.iter().zip(["urgent", "early", "urgent", "early"]) {
        let trace = Trace::of(&spans, *id)?;
        let destination = format!("freshet.refresh:shared.{lane}");
        let consumed = format!("{destination}:freshet.refresh.shared.{lane}.v1");

        let publish = trace.one(&format!("publish {destination}"), SpanKind::Producer)?;
        assert!(publish.span.parent_span_id.is_empty(), "a refresh's trace begins with its message");
        assert!(is_linked(publish, scans[format!("scan {lane}").as_str()]), "to the scan that found it");
        let process = trace.one(&format!("process {consumed}"), SpanKind::Consumer)?;
        assert_eq!(process.span.parent_span_id, publish.span.span_id);
        assert!(is_linked(process, publish), "{:?}", process.span.links);
        for span in [publish, process] {
            assert_eq!(span.attribute("messaging.system").as_deref(), Some("rabbitmq"));
            assert_eq!(span.attribute("messaging.message.id"), Some(format!("{id}:0")));
            assert_eq!(span.attribute("freshet.connection_id"), Some(id.to_string()));
            assert_eq!(
                span.attribute("messaging.rabbitmq.destination.routing_key"),
                Some(format!("shared.{lane}"))
            );
        }
        let operation = |span: &ReceivedSpan| {
            ["messaging.operation.name", "messaging.operation.type", "messaging.destination.name"]
                .map(|key| span.attribute(key).unwrap_or_default())
        };
        assert_eq!(operation(publish), ["publish", "send", &destination]);
        assert_eq!(operation(process), ["process", "process", &consumed]);
        assert_eq!(process.attribute("freshet.outcome").as_deref(), Some("refreshed"));

        let ack = trace.one(&format!("ack {consumed}"), SpanKind::Client)?;
        assert_eq!(operation(ack), ["ack", "settle", &consumed]);
        trace.one("permit", SpanKind::Internal)?;
        for (name, step) in
            [("SELECT ie_appinstall_connection", "load"), ("UPDATE ie_appinstall_connection", "commit")]
        {
            let span = trace.one(name, SpanKind::Client)?;
            assert_eq!(span.attribute("freshet.step").as_deref(), Some(step));
            assert_eq!(span.attribute("db.system.name").as_deref(), Some("mysql"));
            assert_eq!(span.attribute("db.query.summary").as_deref(), Some(name));
            assert_eq!(span.attribute("db.collection.name").as_deref(), Some("ie_appinstall_connection"));
        }
        let cache = trace.one("EVALSHA put_token", SpanKind::Client)?;
        assert_eq!(cache.attribute("db.system.name").as_deref(), Some("redis"));
        let provider = if *id < 3 { "fynd" } else { "very" };
        let event =
            trace.one(&format!("publish freshet.events:token.refreshed.{provider}"), SpanKind::Producer)?;
        assert_eq!(event.attribute("messaging.message.id"), Some(format!("{id}:1:refreshed")));

        let calls: Vec<_> =
            trace.spans.values().filter(|span| span.attribute("http.request.method").is_some()).collect();
        let tokens: Vec<_> = calls.iter().filter(|call| is_token_call(call)).collect();
        assert_eq!(tokens.len(), 1, "connection {id}: {calls:?}");
        // Only Fynd's urgent connection has its channel renewed.
        assert_eq!(calls.len(), if *id == 1 { 2 } else { 1 }, "connection {id}: {calls:?}");
        let template = tokens[0].attribute("url.template").unwrap_or_default();
        let method = tokens[0].attribute("http.request.method").unwrap_or_default();
        assert_eq!(tokens[0].span.name, format!("{method} {template}"));
        for call in &calls {
            assert_eq!(call.span.kind(), SpanKind::Client);
            assert_eq!(call.attribute("http.response.status_code").as_deref(), Some("200"));
            assert_eq!(call.attribute("server.address").as_deref(), Some("127.0.0.1"));
        }
        for span in
            trace.spans.values().filter(|span| ![publish, process].iter().any(|one| one.span == span.span))
        {
            assert!(descends(&trace.spans, span, process), "{span:?} does not descend from {process:?}");
            assert!(span.attribute("freshet.connection_id").is_none(), "said once: {span:?}");
        }
        // In the order in which they are done.
        let order = [
            "SELECT ie_appinstall_connection",
            "permit",
            &tokens[0].span.name,
            "UPDATE ie_appinstall_connection",
        ]
        .map(|name| trace.begin(name))
        .into_iter()
        .chain([trace.begin(&cache.span.name), trace.begin(&event.span.name), trace.begin(&ack.span.name)])
        .collect::<Result<Vec<_>>>()?;
        assert!(order.is_sorted(), "{order:?}");
    }
    // Whoever reads the spans can tell what their names and attributes mean.
    let schema = SCHEMA_URL.to_owned();
    assert_eq!(collector.schemas(), BTreeSet::from([(schema.clone(), schema)]));
    let names: BTreeSet<_> = spans.iter().map(|received| received.span.name.as_str()).collect();
    // Few, however many connections there are.
    assert!(names.len() <= 30, "{names:?}");
    fleet.dissolve().await
}

/// The spans of one connection's refresh, by their ids.
struct Trace<'a> {
    spans: HashMap<&'a [u8], &'a ReceivedSpan>,
}

impl<'a> Trace<'a> {
    fn of(spans: &'a [ReceivedSpan], id: i64) -> Result<Self> {
        let ids: BTreeSet<_> = spans
            .iter()
            .filter(|received| received.attribute("freshet.connection_id") == Some(id.to_string()))
            .map(|received| &received.span.trace_id)
            .collect();
        ensure!(ids.len() == 1, "connection {id} is in {} traces", ids.len());
        let of_trace = spans.iter().filter(|received| ids.contains(&received.span.trace_id));
        Ok(Self { spans: of_trace.map(|received| (received.span.span_id.as_slice(), received)).collect() })
    }

    fn one(&self, name: &str, kind: SpanKind) -> Result<&'a ReceivedSpan> {
        let mut named = self.spans.values().filter(|received| received.span.name == name);
        let all = || self.spans.values().map(|received| &received.span.name).collect::<Vec<_>>();
        let one = named.next().with_context(|| format!("no `{name}` among {:?}", all()))?;
        ensure!(named.next().is_none(), "two `{name}`");
        ensure!(one.span.kind() == kind, "`{name}` is {:?}", one.span.kind());
        Ok(one)
    }

    fn begin(&self, name: &str) -> Result<u64> {
        let named = self.spans.values().filter(|received| received.span.name == name);
        named.map(|received| received.span.start_time_unix_nano).min().with_context(|| name.to_owned())
    }
}

fn is_linked(from: &ReceivedSpan, to: &ReceivedSpan) -> bool {
    let to = (&to.span.trace_id, &to.span.span_id);
    from.span.links.iter().any(|link| (&link.trace_id, &link.span_id) == to)
}

#[tokio::test]
async fn a_failure_is_an_error_of_its_trace_which_line_and_row_name_and_its_retry_is_linked_to() -> Result<()>
{
    let mut fleet = TestFleet::found().await?;
    let collector = Collector::start().await?;
    let variables = [
        ("FRESHET_TELEMETRY__OTLP_ENDPOINT", collector.endpoint()),
        ("FRESHET_TELEMETRY__FORMAT", "json".into()),
        ("FRESHET_TELEMETRY__FILTER", "info".into()),
    ];
    fleet.environment.extend(variables.map(|(name, value)| (name.to_owned(), value)));
    fleet.add([NewConnection::fynd(1, 300)]).await?;
    fleet
        .marketplaces
        .script(Matcher::provider(Provider::Fynd), [Reply::json(StatusCode::UNAUTHORIZED, "{}").into()]);
    let producer = Binary::new("producer")?.arguments(["once", "--lane", "urgent"]);
    let _ended = producer.variables(&fleet.environment).run().await?.with_code(0)?;
    let mut worker = Binary::new("worker")?.arguments(["run"]).variables(&fleet.environment).start()?;
    worker.until_it_says("refresh failed", PATIENCE).await?;
    fleet.vhost.until_drained(PATIENCE).await?;
    let said = worker.terminate(PATIENCE).await?.with_code(0)?.stderr;

    let line = said.lines().find(|line| line.contains("refresh failed")).context("no such line")?;
    let line: serde_json::Value = serde_json::from_str(line)?;
    assert_eq!((&line["span"]["connection_id"], &line["span"]["provider"]), (&1.into(), &"fynd".into()));
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let spans = collector.spans();
    let process = spans
        .iter()
        .find(|received| received.span.kind() == SpanKind::Consumer)
        .context("nothing was processed")?;
    assert_eq!(line["trace_id"], hex(&process.span.trace_id));
    assert_eq!(line["span_id"], hex(&process.span.span_id));
    assert_eq!(process.attribute("error.type").as_deref(), Some("invalid_credentials"));
    let is_error = |span: &ReceivedSpan| {
        span.span.status.as_ref().is_some_and(|status| status.code() == StatusCodeOfSpan::Error)
    };
    assert!(is_error(process));
    let call = spans.iter().find(|received| is_token_call(received)).context("nobody was called")?;
    assert_eq!(call.attribute("error.type").as_deref(), Some("401"));
    assert!(is_error(call));
    let trace_id = hex(&process.span.trace_id);
    let rows = format!("SELECT COUNT(*) FROM refresh_attempt WHERE trace_id = '{trace_id}'");
    assert_eq!(fleet.number(&rows).await?, 1);

    fleet.let_next_attempts_come().await?;
    let producer = Binary::new("producer")?.arguments(["once", "--lane", "retry"]);
    let _ended = producer.variables(&fleet.environment).run().await?.with_code(0)?;
    let spans = collector.spans();
    let is_retry = |received: &&ReceivedSpan| {
        received.span.kind() == SpanKind::Producer && received.span.trace_id != process.span.trace_id
    };
    let retry = spans.iter().find(is_retry).context("it was not tried again")?;
    assert!(is_linked(retry, process), "{:?}", retry.span.links);
    fleet.work_off(1).await?;
    assert_eq!(fleet.stored(1).await?.generation(), 1);
    fleet.dissolve().await
}

#[tokio::test]
async fn each_try_to_connect_is_a_call_that_is_linked_to_the_one_before() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    let (collector, deserted) = (Collector::start().await?, DesertedAddress::take()?);
    let variables = [
        ("FRESHET_TELEMETRY__OTLP_ENDPOINT", collector.endpoint()),
        (
            "FRESHET_PROVIDERS__FYND__ENVIRONMENTS__PRODUCTION__OMS_HOST",
            format!("http://{}", deserted.address()?),
        ),
    ];
    fleet.environment.extend(variables.map(|(name, value)| (name.to_owned(), value)));
    // In the early lane, which calls for the token alone.
    fleet.add([NewConnection::fynd(1, 1_200)]).await?;
    let producer = Binary::new("producer")?.arguments(["once", "--lane", "early"]);
    let _ended = producer.variables(&fleet.environment).run().await?.with_code(0)?;
    let mut worker = Binary::new("worker")?.arguments(["run"]).variables(&fleet.environment).start()?;
    worker.until_it_says("refresh failed", PATIENCE).await?;
    let _ended = worker.terminate(PATIENCE).await?.with_code(0)?;

    let spans = collector.spans();
    let mut tries: Vec<_> = spans.iter().filter(|received| is_token_call(received)).collect();
    tries.sort_by_key(|received| received.span.start_time_unix_nano);
    assert!(tries.len() > 1, "{tries:?}");
    let process = spans.iter().find(|received| received.span.kind() == SpanKind::Consumer);
    let process = process.context("nothing was processed")?;
    let trace = spans.iter().map(|received| (received.span.span_id.as_slice(), received)).collect();
    for (number, this) in tries.iter().enumerate() {
        assert_eq!(this.span.kind(), SpanKind::Client);
        assert_eq!(this.attribute("error.type").as_deref(), Some("not_connected"));
        assert!(descends(&trace, this, process));
        let before = number.checked_sub(1).and_then(|before| tries.get(before));
        let resend_count = before.map(|_| number.to_string());
        assert_eq!(this.attribute("http.request.resend_count"), resend_count);
        assert_eq!(this.span.links.len(), usize::from(before.is_some()));
        assert!(before.is_none_or(|before| is_linked(this, before)));
    }
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
    let seen = ["process freshet.refresh:".to_owned()];
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
