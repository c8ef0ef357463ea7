//! `bench-provider [--delay-ms N]`: a provider in a process of its own that answers as Fynd does, as cheaply as it can,
//! and remembers when it was called. It prints its address and serves until it is ended.
#![forbid(unsafe_code)]

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::Result;
use axum::Router;
use axum::extract::State;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use clap::Parser;
use freshet_shared::adapters::system::SystemClock;
use freshet_shared::ports::clock::Clock;
use freshet_tests::provider_calls::{CALLS, Calls, TIMES};
use tokio::net::TcpListener;

#[derive(Parser)]
struct Arguments {
    /// How long each answer takes.
    #[arg(long, default_value_t = 0)]
    delay_ms: u64,
}

#[derive(Clone)]
struct Provider {
    delay: Duration,
    /// When each call came, in microseconds since 1970.
    times: Arc<Mutex<Vec<i64>>>,
}

impl Provider {
    fn times(&self) -> MutexGuard<'_, Vec<i64>> {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let provider = Provider {
        delay: Duration::from_millis(arguments.delay_ms),
        times: Arc::new(Mutex::new(Vec::new())),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    announce(&listener.local_addr()?.to_string());
    let router = Router::new()
        .route(CALLS, get(calls).delete(forget))
        .route(TIMES, get(times))
        .fallback(token)
        .with_state(provider);
    Ok(axum::serve(listener, router).await?)
}

#[expect(clippy::print_stdout, reason = "whoever started it reads the address")]
fn announce(address: &str) {
    println!("{address}");
}

async fn token(State(provider): State<Provider>) -> impl IntoResponse {
    let number = {
        let mut times = provider.times();
        times.push(SystemClock.now().timestamp_micros());
        times.len()
    };
    if !provider.delay.is_zero() {
        tokio::time::sleep(provider.delay).await;
    }
    let token = format!("{{\"status\":\"SUCCESS\",\"accessToken\":\"NjA4MTAz{number:032}\"}}");
    ([(CONTENT_TYPE, "application/json")], token)
}

async fn calls(State(provider): State<Provider>) -> String {
    let calls = {
        let times = provider.times();
        Calls { count: times.len(), last_at: times.last().copied().unwrap_or_default() }
    };
    calls.encode()
}

async fn times(State(provider): State<Provider>) -> String {
    format!("{:?}", provider.times())
}

async fn forget(State(provider): State<Provider>) {
    provider.times().clear();
}
