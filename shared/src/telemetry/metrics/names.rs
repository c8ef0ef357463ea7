//! Every metric of Freshet: its name, what it says, and its labels. Dashboards and alerts are written against these.
//!
//! In Prometheus dots become underscores, a unit of seconds is appended as `_seconds`, and what only grows ends in `_total`.
//! No label ever names a connection.

use opentelemetry::KeyValue;

/// One metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instrument {
    /// Its name with OpenTelemetry.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// Its unit, in the notation of UCUM.
    pub unit: &'static str,
    /// What it says.
    pub description: &'static str,
    /// Its labels.
    pub labels: &'static [&'static str],
}

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It is a distribution.
    Histogram,
}

impl Instrument {
    /// Its name with Prometheus.
    pub fn exposed(&self) -> String {
        let name = self.name.replace('.', "_");
        let unit = if self.unit == "s" { "_seconds" } else { "" };
        let end = if self.kind == Kind::Counter { "_total" } else { "" };
        format!("{name}{unit}{end}")
    }

    /// The labels with these values, in order.
    pub(super) fn attributes(&self, values: &[&str]) -> Vec<KeyValue> {
        debug_assert_eq!(self.labels.len(), values.len(), "{}", self.name);
        self.labels
            .iter()
            .zip(values)
            .map(|(label, value)| KeyValue::new(*label, (*value).to_owned()))
            .collect()
    }
}

/// Declares the metrics, and a list of them all.
macro_rules! metrics {
    ($($kind:ident $id:ident = $name:literal, $unit:literal, [$($label:literal),*], $description:literal;)*) => {
        $(
            #[doc = concat!("`", $name, "`: ", $description)]
            pub const $id: Instrument = Instrument {
                name: $name,
                kind: Kind::$kind,
                unit: $unit,
                description: $description,
                labels: &[$($label),*],
            };
        )*

        /// All of them.
        pub const ALL: &[Instrument] = &[$($id),*];
    };
}

metrics! {
    // The worker's.
    Counter REFRESHES = "freshet.refreshes", "{refresh}", ["provider", "outcome", "class"],
        "Messages handled, by outcome, and by the failure's class where the outcome is `failed`.";
    Counter SKIPS = "freshet.skips", "{refresh}", ["provider", "reason"],
        "Messages for which nobody had to be called, by reason.";
    Counter DEFERRALS = "freshet.deferrals", "{refresh}", ["provider", "reason"],
        "Refreshes put off because the provider may not be called now: its rate, its concurrency, or its breaker.";
    Histogram PERMIT_WAIT = "freshet.permit.wait", "s", ["provider"],
        "How long refreshes waited for leave to call the provider, for its rate or its concurrency, until they had it or were \
         put off.";
    Counter UNKNOWN_OUTCOMES = "freshet.unknown_outcomes", "{refresh}", ["provider"],
        "Failed calls of which nobody knows whether the provider acted on them.";
    Counter CACHE_REPAIRS = "freshet.cache_repairs", "{refresh}", ["provider"],
        "Tokens that are stored and that the cache did not take; a repair is planned.";
    Counter EXPIRED_BEFORE_REFRESH = "freshet.expired_before_refresh", "{refresh}", ["provider"],
        "Tokens stored after the one before them had expired.";
    Histogram DUE_TO_FRESH = "freshet.due_to_fresh", "s", ["provider"],
        "From the moment in which a token was due to the one in which its successor was stored.";
    Histogram LEAD_TIME = "freshet.lead_time", "s", ["provider"],
        "What a token had left when its successor was stored; 0 where it had expired.";
    Histogram REFRESH_DURATION = "freshet.refresh.duration", "s", ["provider"],
        "From the delivery of a message to its outcome.";
    Gauge LAST_SUCCESS = "freshet.last_success", "s", ["provider"],
        "When this process last stored a token, in seconds since 1970; 0: not since it started.";
    Gauge IN_FLIGHT = "freshet.in_flight", "{refresh}", [],
        "Messages that this process is at work on.";
    Gauge CONCURRENCY = "freshet.concurrency", "{refresh}", [],
        "Messages that this process works on at once at most.";
    Gauge BREAKER_OPEN = "freshet.breaker_open", "{breaker}", ["provider"],
        "1 while this process leaves the provider alone but for probes.";

    // Worker's and producer's.
    Gauge AMQP_SESSION = "freshet.amqp_session", "{session}", ["purpose"],
        "1 while there is a session with the broker for this purpose.";

    // The producer's.
    Counter SCANS = "freshet.scans", "{scan}", ["scan", "result"],
        "Scans, by what they look for and how they ended.";
    Histogram SCAN_DURATION = "freshet.scan.duration", "s", ["scan"],
        "How long scans take.";
    Gauge LAST_SCAN = "freshet.last_scan", "s", ["scan"],
        "When a scan last came to its end, in seconds since 1970; 0: not since this process started.";
    Counter SCANNED = "freshet.scanned", "{connection}", ["scan", "step"],
        "Connections that scans found, claimed and published, and those whose row cannot be read.";
    Counter PUBLISHES = "freshet.publishes", "{message}", ["provider", "lane", "result"],
        "Messages handed to the broker, by what it said.";
    Gauge LEADER = "freshet.leader", "{producer}", [],
        "1 while this producer is the one that scans.";
    Gauge QUEUE_READY = "freshet.queue_ready", "{message}", ["queue"],
        "Messages that wait in a queue, as the broker says over AMQP; those that a worker holds are not among them.";
    Gauge QUEUE_CONSUMERS = "freshet.queue_consumers", "{consumer}", ["queue"],
        "Consumers of a queue.";
    Gauge CONNECTIONS = "freshet.connections", "{connection}", ["provider", "state"],
        "Active connections, by where they stand.";
    Gauge VALID = "freshet.connections_valid", "{connection}", ["provider", "state"],
        "Active connections whose token has not expired.";
    Gauge DUE = "freshet.connections_due", "{connection}", ["provider"],
        "Connections in state `active` whose token expires within the early window and has not expired.";
    Gauge OVERDUE = "freshet.connections_overdue", "{connection}", ["provider", "cause"],
        "Connections in state `active` that have no token, or an expired one, by whose fault their last attempt failed: the \
         provider's, the connection's, or nobody's.";
    Gauge EXPIRY = "freshet.expiry", "s", ["provider", "state", "le"],
        "Active connections whose token expires within `le` seconds from now, cumulative, expired ones included.";
    Gauge CENSUS_AT = "freshet.census", "s", [],
        "When the connections were last counted, in seconds since 1970; 0: not since this process started.";
    Gauge CENSUS_DURATION = "freshet.census.duration", "s", [],
        "How long the last count of the connections took.";
    Gauge PAUSED = "freshet.provider_paused", "{provider}", ["provider"],
        "1 while somebody has paused the provider.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_metric_has_a_name_of_its_own_a_unit_and_a_description() {
        let names: BTreeSet<_> = ALL.iter().map(|instrument| instrument.name).collect();
        assert_eq!(names.len(), ALL.len());
        for instrument in ALL {
            assert!(instrument.name.starts_with("freshet."), "{instrument:?}");
            assert!(!instrument.unit.is_empty() && instrument.description.ends_with('.'), "{instrument:?}");
        }
    }
}
