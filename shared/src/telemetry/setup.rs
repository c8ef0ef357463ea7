//! Starting logs and traces, and flushing them at the end.

use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::WithExportConfig;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracerProvider};
use thiserror::Error;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

use super::announcing::Announcing;
use super::lines::WithTrace;
use super::room::{Bounded, Room};
use crate::configuration::{LogFormat, TelemetrySection};

/// The name of spans that give log lines their context and are no part of a trace.
pub const LOG_CONTEXT: &str = "job";

/// The semantic conventions that names and attributes of spans follow.
pub const SCHEMA_URL: &str = "https://opentelemetry.io/schemas/1.44.0";

/// Spans that are sent at once: under a megabyte, where collectors take four.
const BATCH: usize = 1_024;
/// Spans are sent at the latest after this.
const SEND_EVERY: Duration = Duration::from_secs(5);

/// Running telemetry. Has to be shut down from `main`, so that the last spans are sent.
pub struct Telemetry {
    provider: Option<SdkTracerProvider>,
}

/// Telemetry that cannot start.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The endpoint cannot be used. It may hold a password, so neither it nor the library's words, which quote it, are shown.
    #[error(
        "telemetry.otlp_endpoint: must be a URL like http://jaeger:4317; https:// needs the system's CA certificates, too"
    )]
    Endpoint,
    /// The filter cannot be read.
    #[error("telemetry.filter: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Something in this process logs already.
    #[error("telemetry is started already")]
    Started,
}

impl Telemetry {
    /// Starts logs on standard error and, with an endpoint, traces by OTLP.
    ///
    /// # Errors
    /// Names the key that is at fault.
    pub fn start(
        section: &TelemetrySection,
        service: &'static str,
        is_terminal: bool,
    ) -> Result<Self, TelemetryError> {
        let filter: EnvFilter = section.filter.parse()?;
        let is_json = match section.format {
            LogFormat::Json => true,
            LogFormat::Pretty => false,
            LogFormat::Auto => !is_terminal,
        };
        let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(is_terminal);
        let lines = if is_json {
            lines.json().flatten_event(true).map_event_format(WithTrace).boxed()
        } else {
            lines.boxed()
        };
        let provider =
            section.otlp_endpoint.as_deref().map(|endpoint| tracer_provider(section, service, endpoint));
        let provider = provider.transpose()?;
        let spans = provider.as_ref().map(|provider| {
            // Our own spans only: clients open spans of their own that live as long as the connection. Where in the code a
            // span begins, and on which thread, is nothing to those who read traces.
            tracing_opentelemetry::layer()
                .with_tracer(provider.tracer_with_scope(scope()))
                .with_location(false)
                .with_target(false)
                .with_threads(false)
                .with_tracked_inactivity(false)
                .with_filter(filter_fn(|metadata| {
                    metadata.target().starts_with("freshet") && metadata.name() != LOG_CONTEXT
                }))
        });
        tracing_subscriber::registry()
            .with(spans)
            .with(lines.with_filter(filter))
            .try_init()
            .map_err(|_| TelemetryError::Started)?;
        Ok(Self { provider })
    }

    /// How long [`Self::shutdown`] may take at most.
    pub const LONGEST_FLUSH: Duration = Duration::from_secs(5);

    /// Sends what is left. Waits for the exporter, but not for ever.
    pub async fn shutdown(self) {
        let Some(provider) = self.provider else { return };
        // It blocks, and its exporter needs this runtime's threads meanwhile.
        let flushed =
            tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(Self::LONGEST_FLUSH)).await;
        if let Ok(Err(error)) = flushed {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}

/// Names the program, its version and this process.
fn resource(service: &'static str) -> Resource {
    Resource::builder()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.namespace", "freshet"))
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .with_schema_url([], SCHEMA_URL)
        .build()
}

fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("freshet")
        .with_version(env!("CARGO_PKG_VERSION"))
        .with_schema_url(SCHEMA_URL)
        .build()
}

fn tracer_provider(
    section: &TelemetrySection,
    service: &'static str,
    endpoint: &str,
) -> Result<SdkTracerProvider, TelemetryError> {
    // Anything else would be taken, and every span lost.
    if !endpoint.starts_with("http://") && !endpoint.starts_with("https://") {
        return Err(TelemetryError::Endpoint);
    }
    let exporter = opentelemetry_otlp::SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .build()
        .map_err(|_| TelemetryError::Endpoint)?;
    let room = Room::of(section.span_queue);
    let config = BatchConfigBuilder::default()
        .with_max_queue_size(section.span_queue)
        .with_max_export_batch_size(BATCH.min(section.span_queue))
        .with_scheduled_delay(SEND_EVERY)
        .build();
    let batches = BatchSpanProcessor::new(Announcing::new(exporter, room.clone()), config);
    Ok(SdkTracerProvider::builder()
        .with_span_processor(Bounded::new(batches, room))
        .with_sampler(Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(section.sample_ratio))))
        .with_resource(resource(service))
        .build())
}
