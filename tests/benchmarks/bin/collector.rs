//! `bench-collector`: an OTLP collector in a process of its own. It prints its endpoint, takes what it is sent, and
//! serves until it is ended.
#![forbid(unsafe_code)]

use std::future::pending;

use anyhow::Result;
use freshet_tests::otlp::Collector;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let collector = Collector::start().await?;
    announce(&collector.endpoint());
    pending().await
}

#[expect(clippy::print_stdout, reason = "whoever started it reads the endpoint")]
fn announce(endpoint: &str) {
    println!("{endpoint}");
}
