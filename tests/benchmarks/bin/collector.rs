//! `bench-collector`: an OTLP collector in a process of its own. It prints its endpoint, takes what it is sent, and
//! serves until it is asked to end. Then it says what it got.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;

use anyhow::Result;
use freshet_tests::otlp::Collector;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let mut end = signal(SignalKind::terminate())?;
    let collector = Collector::start().await?;
    announce(&collector.endpoint());
    end.recv().await;
    let spans = collector.spans();
    let of_workers: Vec<_> = spans.iter().filter(|received| received.service == "freshet-worker").collect();
    let traces: BTreeSet<_> = of_workers.iter().map(|received| &received.span.trace_id).collect();
    tell(traces.len(), of_workers.len());
    Ok(())
}

#[expect(clippy::print_stdout, reason = "whoever started it reads the endpoint")]
fn announce(endpoint: &str) {
    println!("{endpoint}");
}

#[expect(clippy::print_stderr, reason = "whoever started it reads its log")]
fn tell(traces: usize, spans: usize) {
    eprintln!("{traces} {spans}");
}
