//! The trace context of a span, on its way through a message's headers (W3C Trace Context).

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry_sdk::propagation::TraceContextPropagator;
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

use crate::ports::queue::TraceContext;

struct Headers<'a>(&'a mut TraceContext);

impl Injector for Headers<'_> {
    fn set(&mut self, key: &str, value: String) {
        // An empty `tracestate` says nothing.
        if !value.is_empty() {
            self.0.insert(key.to_owned(), value);
        }
    }
}

struct Received<'a>(&'a TraceContext);

impl Extractor for Received<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(String::as_str).collect()
    }
}

/// The context of `span`, to be sent along; empty where no traces are kept.
pub fn inject(span: &Span) -> TraceContext {
    let mut headers = TraceContext::new();
    TraceContextPropagator::new().inject_context(&span.context(), &mut Headers(&mut headers));
    headers
}

/// Makes `span` a child of the span that sent `context`. Without traces, or with a context that cannot be read, `span`
/// stays as it is.
pub fn follow(span: &Span, context: &TraceContext) {
    let parent: Context = TraceContextPropagator::new().extract(&Received(context));
    // It fails only where no traces are kept.
    let _ = span.set_parent(parent);
}
