//! Metrics: counted through OpenTelemetry's API, read in Prometheus' text format by whoever asks.
//!
//! The names stand in [`names`], and nowhere else. What is counted often is bound once to its labels: a series is there, at
//! zero, from then on, and counting is one addition.

pub mod names;

use std::sync::Arc;

use opentelemetry::KeyValue;
use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter, MeterProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::SdkMeterProvider;
use prometheus::{Registry, TextEncoder};
use thiserror::Error;

pub use opentelemetry::metrics::{BoundCounter, BoundGauge, BoundHistogram};

use names::{Instrument, Kind};

/// Series that one instrument may have. More are summed up under one label, so that no mistake fills the memory.
const MOST_SERIES: usize = 5_000;

/// The content type of [`Metrics::render`].
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One process's metrics. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    meter: Meter,
    // Shut down with the last clone.
    _provider: Arc<SdkMeterProvider>,
}

/// Metrics that cannot be collected or shown: a mistake of the program.
#[derive(Debug, Error)]
pub enum MetricsError {
    /// The exporter cannot be registered.
    #[error("metrics cannot be collected: {0}")]
    Exporter(#[from] opentelemetry_sdk::error::OTelSdkError),
    /// What was collected has no text form.
    #[error("metrics cannot be shown: {0}")]
    Text(#[from] prometheus::Error),
}

impl Metrics {
    /// Metrics that are collected for [`Self::render`].
    ///
    /// # Errors
    /// If the exporter cannot be registered.
    pub fn collected(service: &'static str) -> Result<Self, MetricsError> {
        let registry = Registry::new();
        let exporter = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            // One scope, and what else tells processes apart Prometheus adds as labels of its own.
            .scope_info_enabled(false)
            .build()?;
        let provider = SdkMeterProvider::builder()
            .with_reader(exporter)
            .with_view(|_: &opentelemetry_sdk::metrics::Instrument| {
                opentelemetry_sdk::metrics::Stream::builder().with_cardinality_limit(MOST_SERIES).build().ok()
            })
            .with_resource(resource(service))
            .build();
        Ok(Self::of(registry, provider))
    }

    /// Metrics that nobody reads; counting costs next to nothing.
    pub fn off() -> Self {
        Self::of(Registry::new(), SdkMeterProvider::builder().build())
    }

    fn of(registry: Registry, provider: SdkMeterProvider) -> Self {
        Self { registry, meter: provider.meter("freshet"), _provider: Arc::new(provider) }
    }

    /// All of them in Prometheus' text format.
    ///
    /// # Errors
    /// If some have no text form.
    pub fn render(&self) -> Result<String, MetricsError> {
        Ok(TextEncoder::new().encode_to_string(&self.registry.gather())?)
    }

    /// What only grows.
    pub fn counter(&self, instrument: &'static Instrument) -> Counters {
        debug_assert_eq!(instrument.kind, Kind::Counter, "{}", instrument.name);
        let counter = self
            .meter
            .u64_counter(instrument.name)
            .with_unit(instrument.unit)
            .with_description(instrument.description)
            .build();
        Counters { counter, instrument }
    }

    /// How values are distributed over `bounds`, ascending.
    pub fn histogram(&self, instrument: &'static Instrument, bounds: &[f64]) -> Histograms {
        debug_assert_eq!(instrument.kind, Kind::Histogram, "{}", instrument.name);
        let histogram = self
            .meter
            .f64_histogram(instrument.name)
            .with_unit(instrument.unit)
            .with_description(instrument.description)
            .with_boundaries(bounds.to_vec())
            .build();
        Histograms { histogram, instrument }
    }

    /// A value that goes up and down and is written when it changes.
    pub fn gauge(&self, instrument: &'static Instrument) -> Gauges {
        debug_assert_eq!(instrument.kind, Kind::Gauge, "{}", instrument.name);
        let gauge = self
            .meter
            .f64_gauge(instrument.name)
            .with_unit(instrument.unit)
            .with_description(instrument.description)
            .build();
        Gauges { gauge, instrument }
    }

    /// A value that goes up and down and is asked for whenever somebody reads the metrics. `observe` is handed a function
    /// that takes a value and the values of the labels. What it does not name is not shown.
    pub fn observed(
        &self,
        instrument: &'static Instrument,
        observe: impl Fn(&dyn Fn(f64, &[&str])) + Send + Sync + 'static,
    ) {
        // Known to the meter from here on; the handle itself does nothing.
        let _ = self
            .meter
            .f64_observable_gauge(instrument.name)
            .with_unit(instrument.unit)
            .with_description(instrument.description)
            .with_callback(move |observer| {
                observe(&|value, labels| observer.observe(value, &instrument.attributes(labels)));
            })
            .build();
    }
}

fn resource(service: &'static str) -> Resource {
    Resource::builder_empty()
        .with_service_name(service)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build()
}

/// The counters of one name.
#[derive(Clone)]
pub struct Counters {
    counter: Counter<u64>,
    instrument: &'static Instrument,
}

impl Counters {
    /// The one with these values of its labels.
    pub fn with(&self, labels: &[&str]) -> BoundCounter<u64> {
        self.counter.bind(&self.instrument.attributes(labels))
    }
}

/// The histograms of one name.
#[derive(Clone)]
pub struct Histograms {
    histogram: Histogram<f64>,
    instrument: &'static Instrument,
}

impl Histograms {
    /// The one with these values of its labels.
    pub fn with(&self, labels: &[&str]) -> BoundHistogram<f64> {
        self.histogram.bind(&self.instrument.attributes(labels))
    }
}

/// The gauges of one name.
#[derive(Clone)]
pub struct Gauges {
    gauge: Gauge<f64>,
    instrument: &'static Instrument,
}

impl Gauges {
    /// The one with these values of its labels.
    pub fn with(&self, labels: &[&str]) -> BoundGauge<f64> {
        self.gauge.bind(&self.instrument.attributes(labels))
    }
}
