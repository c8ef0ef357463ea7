//! `faulty-worker`: a worker like any other, but that where it would call a provider it does what must never happen, with
//! the request in hand. TEST_FAULT says what: `panic` puts the request into a panic's words; `tell` says a line of
//! TEST_TOLD wherever a worker says anything, a line for each call. `end` panics in a task that the runtime drops at its end.
#![forbid(unsafe_code)]

use std::future::pending;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use freshet_shared::adapters::monitoring::Monitoring;
use freshet_shared::configuration::Configuration;
use freshet_shared::domain::provider::answer::ProviderAnswer;
use freshet_shared::domain::provider::request::ProviderRequest;
use freshet_shared::ports::provider::{CallError, ProviderCaller};
use freshet_shared::process;
use freshet_worker::app::App;
use tracing::Instrument;

fn main() -> ExitCode {
    let environment = process::environment();
    let variable = |name: &str| environment.get(name).cloned().unwrap_or_default();
    let caller: Arc<dyn ProviderCaller> = match variable("TEST_FAULT").as_str() {
        "panic" | "end" => Arc::new(Panicking),
        "tell" => Arc::new(Telling {
            lines: variable("TEST_TOLD").lines().map(str::to_owned).collect(),
            calls: AtomicUsize::new(0),
        }),
        other => return process::complain(&anyhow::anyhow!("TEST_FAULT: there is no fault `{other}`")),
    };
    let panics_at_end = variable("TEST_FAULT") == "end";
    process::main("freshet-worker", None, |configuration| async move {
        if panics_at_end {
            tokio::spawn(async {
                let _guard = PanicsWhenDropped;
                pending::<()>().await;
            });
        }
        work(configuration, caller).await
    })
}

struct PanicsWhenDropped;

impl Drop for PanicsWhenDropped {
    #[expect(clippy::panic, reason = "that is what it is for")]
    fn drop(&mut self) {
        panic!("dropped");
    }
}

async fn work(configuration: Configuration, caller: Arc<dyn ProviderCaller>) -> anyhow::Result<ExitCode> {
    let shutdown = process::shutdown_on_signal()?;
    let monitoring = Monitoring::start(&configuration.monitoring, "freshet-worker", &shutdown).await?;
    let app = Box::pin(App::build_calling(&configuration, caller)).await?;
    let observer = app.watched_by(&monitoring);
    app.run(observer, shutdown).await?;
    Ok(ExitCode::SUCCESS)
}

struct Panicking;

#[expect(clippy::panic, reason = "that is what it is for")]
#[async_trait]
impl ProviderCaller for Panicking {
    async fn call(&self, request: &ProviderRequest) -> Result<ProviderAnswer, CallError> {
        let body = request.body.as_ref().map_or("", |body| body.expose());
        let headers: Vec<&str> = request.headers.iter().map(|(_, value)| value.expose()).collect();
        panic!("{} {headers:?} {body}", request.url.expose())
    }
}

struct Telling {
    lines: Vec<String>,
    calls: AtomicUsize,
}

#[async_trait]
impl ProviderCaller for Telling {
    async fn call(&self, _: &ProviderRequest) -> Result<ProviderAnswer, CallError> {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let line = self.lines.get(call % self.lines.len().max(1)).cloned().unwrap_or_default();
        let span = tracing::info_span!(target: "freshet_told", "told", line);
        async { tracing::trace!(line, "told") }.instrument(span).await;
        Err(CallError::NotConnected { endpoint: line })
    }
}
