//! Trace context in a message's header table.

use lapin::types::{AMQPValue, FieldTable, ShortString};

use crate::ports::queue::TraceContext;

/// The headers that are ours to read. A message can come from anywhere; what else it carries stays unread.
const TRACE_HEADERS: [&str; 2] = ["traceparent", "tracestate"];

/// As headers.
pub(super) fn from_context(context: &TraceContext) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in context {
        // A name that AMQP cannot hold is none of ours.
        if let Ok(name) = ShortString::try_new(name.as_str()) {
            table.insert(name, AMQPValue::LongString(value.as_str().into()));
        }
    }
    table
}

/// Out of headers; those of another type than text are passed over.
pub(super) fn to_context(table: Option<&FieldTable>) -> TraceContext {
    let mut context = TraceContext::new();
    let Some(table) = table else {
        return context;
    };
    for name in TRACE_HEADERS {
        if let Some(value) = table.inner().get(name).and_then(text) {
            context.insert(name.to_owned(), value);
        }
    }
    context
}

fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => str::from_utf8(text.as_bytes()).ok().map(str::to_owned),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(pairs: &[(&str, &str)]) -> TraceContext {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_context_comes_back_as_it_went() {
        let sent = context(&[("traceparent", "00-ab-cd-01"), ("tracestate", "a=1,b=2")]);
        assert_eq!(to_context(Some(&from_context(&sent))), sent);
        assert_eq!(to_context(Some(&from_context(&TraceContext::new()))), TraceContext::new());
        assert_eq!(to_context(None), TraceContext::new());
    }

    #[test]
    fn foreign_headers_and_foreign_types_are_passed_over() {
        let mut table = from_context(&context(&[("traceparent", "00-ab-cd-01"), ("other", "x")]));
        table.insert("tracestate".into(), AMQPValue::LongInt(7));
        table.insert("x-delivery-count".into(), AMQPValue::LongLongInt(2));
        assert_eq!(to_context(Some(&table)), context(&[("traceparent", "00-ab-cd-01")]));
        table.insert("traceparent".into(), AMQPValue::LongString(vec![0xFF, 0xFE].into()));
        assert_eq!(to_context(Some(&table)), TraceContext::new());
    }

    #[test]
    fn a_name_that_amqp_cannot_hold_is_left_out() {
        let long = "x".repeat(300);
        assert!(from_context(&context(&[(&long, "x")])).inner().is_empty());
    }
}
