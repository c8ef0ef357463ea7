//! The trace context of a span, on its way through a message's headers (W3C Trace Context).

use opentelemetry::Context;
use opentelemetry::propagation::{Extractor, Injector, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
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
    if span.is_disabled() { TraceContext::new() } else { headers(&span.context()) }
}

/// The context of the span that the caller is in; empty where no traces are kept.
pub fn current() -> TraceContext {
    Context::map_current(headers)
}

fn headers(context: &Context) -> TraceContext {
    let mut headers = TraceContext::new();
    if context.span().span_context().is_valid() {
        TraceContextPropagator::new().inject_context(context, &mut Headers(&mut headers));
    }
    headers
}

/// Makes `span` a child of the span that sent `context`, and links it to that one. Without traces, or with a context that
/// cannot be read, `span` stays as it is.
pub fn follow(span: &Span, context: &TraceContext) {
    if span.is_disabled() || context.is_empty() {
        return;
    }
    let parent = extract(context);
    let sender = parent.span().span_context().clone();
    if span.set_parent(parent).is_ok() {
        span.add_link(sender);
    }
}

/// Links `span` to the span that sent `context`; it stays where it is.
pub fn link(span: &Span, context: &TraceContext) {
    if !span.is_disabled() && !context.is_empty() {
        span.add_link(extract(context).span().span_context().clone());
    }
}

fn extract(context: &TraceContext) -> Context {
    TraceContextPropagator::new().extract_with_context(&Context::new(), &Received(context))
}
