//! `draw-trace FILE`: lets a real producer and worker refresh one connection whose provider fails at first, and draws what a
//! collector received of it: the attempt that failed, and the one after it, which is linked to it.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a command-line tool")]

use std::collections::HashMap;

use anyhow::{Context, Result, ensure};
use freshet_cli::simulator::{Matcher, Provider, Reply, StatusCode};
use freshet_tests::binaries::Binary;
use freshet_tests::chart::waterfall::{Bar, Waterfall, chart};
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};
use freshet_tests::otlp::{Collector, ReceivedSpan};
use freshet_tests::waiting::eventually;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as StatusCodeOfSpan;

const NANOS_PER_MILLISECOND: f64 = 1e6;
/// The connection.
const ID: i64 = 42;
/// What is shown of a span beside its times.
const SHOWN: [&str; 5] =
    ["freshet.connection_id", "freshet.outcome", "freshet.step", "http.response.status_code", "error.type"];

#[tokio::main]
async fn main() -> Result<()> {
    let file = std::env::args().nth(1).context("name the file to be written")?;
    let mut fleet = TestFleet::found().await?;
    let collector = Collector::start().await?;
    fleet.environment.insert("FRESHET_TELEMETRY__OTLP_ENDPOINT".into(), collector.endpoint());
    fleet.add([NewConnection::fynd(ID, 300)]).await?;
    let away = Reply::json(StatusCode::SERVICE_UNAVAILABLE, "{}").into();
    fleet.marketplaces.script(Matcher::provider(Provider::Fynd), [away]);
    let worker = Binary::new("worker")?.arguments(["run"]).variables(&fleet.environment).start()?;
    refresh(&fleet, "urgent", "failures").await?;
    fleet.let_next_attempts_come().await?;
    refresh(&fleet, "retry", "generation").await?;
    // It sends its last spans before it ends.
    let _ended = worker.terminate(PATIENCE).await?.with_code(0)?;
    let spans = collector.spans();
    let svg = chart("Two attempts, as a collector received them", &traces(&spans)?);
    std::fs::write(&file, svg).with_context(|| format!("cannot write {file}"))?;
    println!("{file}: {} spans", spans.len());
    fleet.dissolve().await
}

/// A scan, until the worker has done what it published, which counts up in this column.
async fn refresh(fleet: &TestFleet, lane: &str, column: &str) -> Result<()> {
    let producer = Binary::new("producer")?.arguments(["once", "--lane", lane]);
    let _ended = producer.variables(&fleet.environment).run().await?.with_code(0)?;
    let counted = format!("SELECT CAST({column} AS SIGNED) FROM token_refresh WHERE connection_id = {ID}");
    eventually("the connection's attempt is over", PATIENCE, async || {
        ensure!(fleet.number(&counted).await? == 1, "{column} is not 1");
        Ok(())
    })
    .await?;
    fleet.vhost.until_drained(PATIENCE).await
}

/// The traces of the connection, the earlier first.
fn traces(spans: &[ReceivedSpan]) -> Result<Vec<Waterfall>> {
    let id = ID.to_string();
    let is_begin = |received: &&ReceivedSpan| {
        received.span.parent_span_id.is_empty()
            && received.attribute("freshet.connection_id").as_ref() == Some(&id)
    };
    let mut begins: Vec<&ReceivedSpan> = spans.iter().filter(is_begin).collect();
    begins.sort_by_key(|begin| begin.span.start_time_unix_nano);
    ensure!(begins.len() == 2, "there are {} traces and not two", begins.len());
    let names: HashMap<&[u8], &str> = spans
        .iter()
        .map(|received| (received.span.span_id.as_slice(), received.span.name.as_str()))
        .collect();
    let drawn = begins.into_iter().zip(["The provider answers 503", "The attempt after it"]);
    Ok(drawn
        .map(|(begin, what)| {
            let of_trace = |received: &&ReceivedSpan| received.span.trace_id == begin.span.trace_id;
            let mut own: Vec<&ReceivedSpan> = spans.iter().filter(of_trace).collect();
            own.sort_by_key(|received| received.span.start_time_unix_nano);
            let mut bars = Vec::new();
            below(begin, &own, begin.span.start_time_unix_nano, 0, &names, &mut bars);
            Waterfall { title: what.to_owned(), bars }
        })
        .collect())
}

/// A span, and all that belong to it.
fn below(
    span: &ReceivedSpan,
    own: &[&ReceivedSpan],
    begin: u64,
    depth: usize,
    names: &HashMap<&[u8], &str>,
    bars: &mut Vec<Bar>,
) {
    bars.push(bar(span, begin, depth, names));
    for child in own.iter().filter(|child| child.span.parent_span_id == span.span.span_id) {
        below(child, own, begin, depth + 1, names, bars);
    }
}

fn bar(received: &ReceivedSpan, begin: u64, depth: usize, names: &HashMap<&[u8], &str>) -> Bar {
    let span = &received.span;
    let at = |nanos: u64| nanos.saturating_sub(begin) as f64 / NANOS_PER_MILLISECOND;
    let kind = match span.kind() {
        SpanKind::Producer => "PRODUCER",
        SpanKind::Consumer => "CONSUMER",
        SpanKind::Client => "CLIENT",
        _ => "INTERNAL",
    };
    let took = at(span.end_time_unix_nano) - at(span.start_time_unix_nano);
    let attributes = SHOWN.iter().filter_map(|key| Some(format!("{key}={}", received.attribute(key)?)));
    let mut notes: Vec<String> = attributes.collect();
    notes.extend(span.links.iter().map(|link| {
        let name = names.get(link.span_id.as_slice()).unwrap_or(&"a span that was not sent");
        format!("linked to {}", name.split(':').next().unwrap_or(name))
    }));
    Bar {
        name: span.name.clone(),
        kind: format!("{kind}, {took:.1} ms"),
        note: notes.join(", "),
        depth,
        service: usize::from(received.service == "freshet-worker"),
        time: (at(span.start_time_unix_nano), at(span.end_time_unix_nano)),
        is_error: span.status.as_ref().is_some_and(|status| status.code() == StatusCodeOfSpan::Error),
    }
}
