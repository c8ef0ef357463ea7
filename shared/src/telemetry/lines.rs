//! Log lines that name the trace and the span in which they were written, so that one leads to the other.

use std::fmt;

use opentelemetry::Context;
use opentelemetry::trace::{SpanId, TraceContextExt, TraceId};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// JSON lines of `F`, with `trace_id` and `span_id` in front where traces are kept.
pub(super) struct WithTrace<F>(pub(super) F);

impl<S, N, F> FormatEvent<S, N> for WithTrace<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let Some((trace_id, span_id)) = current() else {
            return self.0.format_event(context, writer, event);
        };
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        match line.strip_prefix('{') {
            Some(rest) => write!(writer, r#"{{"trace_id":"{trace_id}","span_id":"{span_id}",{rest}"#),
            None => writer.write_str(&line),
        }
    }
}

/// The span that this thread is in.
fn current() -> Option<(TraceId, SpanId)> {
    Context::map_current(|context| {
        let span = context.span();
        let of = span.span_context();
        of.is_valid().then(|| (of.trace_id(), of.span_id()))
    })
}
