//! What the worker counts. Each job is counted here, once, by what it came to.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use freshet_shared::domain::failure::FailureClass;
use freshet_shared::domain::outcome::{Cached, Outcome, Refreshed, Skip};
use freshet_shared::telemetry::metrics::{
    BoundCounter, BoundGauge, BoundHistogram, Counters, Gauges, Histograms, Metrics, names,
};

use crate::job::JobReport;
use crate::permit::DeferralReason;

/// Stands for the class where the outcome is not a failure.
const NO_CLASS: &str = "none";
/// Stands for the provider of a message that cannot be read, or that names one which is not known here.
const NO_PROVIDER: &str = "unknown";

const TO_FRESH: [f64; 12] = [0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0];
const LEAD: [f64; 11] = [0.0, 30.0, 60.0, 120.0, 300.0, 600.0, 900.0, 1_200.0, 1_800.0, 3_600.0, 86_400.0];
const DURATION: [f64; 13] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 60.0];

/// Counts jobs.
pub struct JobMetrics {
    families: Families,
    providers: RwLock<HashMap<String, Arc<Series>>>,
    unknown: Arc<Series>,
}

struct Families {
    refreshes: Counters,
    skips: Counters,
    deferrals: Counters,
    unknown_outcomes: Counters,
    cache_repairs: Counters,
    expired: Counters,
    due_to_fresh: Histograms,
    lead: Histograms,
    duration: Histograms,
    last_success: Gauges,
}

/// All series of one provider.
struct Series {
    refreshes: HashMap<(&'static str, &'static str), BoundCounter<u64>>,
    skips: HashMap<&'static str, BoundCounter<u64>>,
    deferrals: HashMap<&'static str, BoundCounter<u64>>,
    unknown_outcomes: BoundCounter<u64>,
    cache_repairs: BoundCounter<u64>,
    expired: BoundCounter<u64>,
    due_to_fresh: BoundHistogram<f64>,
    lead: BoundHistogram<f64>,
    duration: BoundHistogram<f64>,
    last_success: BoundGauge<f64>,
}

impl JobMetrics {
    /// With all series of these providers at zero. Those of another one are made with its first message.
    pub fn new<'a>(metrics: &Metrics, providers: impl IntoIterator<Item = &'a str>) -> Self {
        let families = Families {
            refreshes: metrics.counter(&names::REFRESHES),
            skips: metrics.counter(&names::SKIPS),
            deferrals: metrics.counter(&names::DEFERRALS),
            unknown_outcomes: metrics.counter(&names::UNKNOWN_OUTCOMES),
            cache_repairs: metrics.counter(&names::CACHE_REPAIRS),
            expired: metrics.counter(&names::EXPIRED_BEFORE_REFRESH),
            due_to_fresh: metrics.histogram(&names::DUE_TO_FRESH, &TO_FRESH),
            lead: metrics.histogram(&names::LEAD_TIME, &LEAD),
            duration: metrics.histogram(&names::REFRESH_DURATION, &DURATION),
            last_success: metrics.gauge(&names::LAST_SUCCESS),
        };
        let series = |provider: &str| Arc::new(Series::new(&families, provider));
        let of_providers = providers.into_iter().map(|name| (name.to_owned(), series(name))).collect();
        let unknown = series(NO_PROVIDER);
        Self { families, providers: RwLock::new(of_providers), unknown }
    }

    /// Counts a job that ended.
    pub fn note(&self, report: &JobReport) {
        let series = self.series(report);
        let class = match &report.outcome {
            Outcome::Failed(failed) => failed.failure.class.as_str(),
            _ => NO_CLASS,
        };
        add_one(series.refreshes.get(&(report.outcome.as_str(), class)));
        series.duration.record(report.elapsed.as_secs_f64());
        match &report.outcome {
            Outcome::Refreshed(refreshed) => series.note_refreshed(refreshed, report),
            Outcome::Skipped(skip) => add_one(series.skips.get(skip.as_str())),
            Outcome::Deferred { reason, .. } => add_one(series.deferrals.get(reason)),
            Outcome::Failed(failed) if failed.failure.may_have_spent => series.unknown_outcomes.add(1),
            Outcome::Failed(_)
            | Outcome::Stale
            | Outcome::Undecodable(_)
            | Outcome::Unavailable { .. }
            | Outcome::Parked
            | Outcome::Panicked { .. } => {}
        }
    }

    fn series(&self, report: &JobReport) -> Arc<Series> {
        let provider = match (&report.provider, &report.outcome) {
            // A name out of a message that may come from anywhere must not become a label.
            (None, _) | (_, Outcome::Undecodable(_)) => return self.unknown.clone(),
            (Some(provider), _) => provider,
        };
        let known = self.providers.read().unwrap_or_else(PoisonError::into_inner).get(provider).cloned();
        known.unwrap_or_else(|| {
            let mut providers = self.providers.write().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(Series::new(&self.families, provider));
            providers.entry(provider.clone()).or_insert_with(new).clone()
        })
    }
}

fn add_one(counter: Option<&BoundCounter<u64>>) {
    // All that an outcome can say is bound.
    debug_assert!(counter.is_some());
    if let Some(counter) = counter {
        counter.add(1);
    }
}

impl Series {
    fn new(families: &Families, provider: &str) -> Self {
        let other = Outcome::LABELS.into_iter().filter(|outcome| *outcome != Outcome::FAILED);
        let failed = FailureClass::ALL.into_iter().map(|class| (Outcome::FAILED, class.as_str()));
        let outcomes = other.map(|outcome| (outcome, NO_CLASS)).chain(failed);
        let reasons = DeferralReason::ALL.map(DeferralReason::as_str);
        Self {
            refreshes: outcomes
                .map(|(outcome, class)| {
                    ((outcome, class), families.refreshes.with(&[provider, outcome, class]))
                })
                .collect(),
            skips: Skip::all().map(|skip| (skip, families.skips.with(&[provider, skip]))).collect(),
            deferrals: reasons
                .into_iter()
                .map(|reason| (reason, families.deferrals.with(&[provider, reason])))
                .collect(),
            unknown_outcomes: families.unknown_outcomes.with(&[provider]),
            cache_repairs: families.cache_repairs.with(&[provider]),
            expired: families.expired.with(&[provider]),
            due_to_fresh: families.due_to_fresh.with(&[provider]),
            lead: families.lead.with(&[provider]),
            duration: families.duration.with(&[provider]),
            last_success: families.last_success.with(&[provider]),
        }
    }

    fn note_refreshed(&self, refreshed: &Refreshed, report: &JobReport) {
        self.last_success.record(refreshed.stored_at.timestamp_millis() as f64 / 1e3);
        if let Some(due_at) = report.due_at {
            self.due_to_fresh.record((refreshed.stored_at - due_at).as_seconds_f64().max(0.0));
        }
        if let Some(lead) = refreshed.lead {
            self.lead.record(lead.as_seconds_f64().max(0.0));
            if lead < chrono::TimeDelta::zero() {
                self.expired.add(1);
            }
        }
        if matches!(refreshed.cached, Cached::Failed | Cached::Unplanned) {
            self.cache_repairs.add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono::{DateTime, TimeDelta, Utc};
    use freshet_shared::domain::connection::{ConnectionId, ConnectionState, Generation};
    use freshet_shared::domain::failure::Failure;
    use freshet_shared::domain::lane::Lane;
    use freshet_shared::domain::message::MessageError;
    use freshet_shared::domain::outcome::Failed;

    use super::*;

    fn noon() -> DateTime<Utc> {
        DateTime::from_timestamp(1_795_262_400, 0).unwrap()
    }

    fn refreshed(lead: i64, cached: Cached) -> Outcome {
        Outcome::Refreshed(Refreshed {
            generation: Generation(2),
            expires_at: Some(noon() + TimeDelta::hours(1)),
            stored_at: noon(),
            lead: Some(TimeDelta::seconds(lead)),
            cached,
        })
    }

    fn failed(failure: Failure) -> Outcome {
        Outcome::Failed(Failed { failure, next_attempt_at: noon(), state: ConnectionState::Active })
    }

    fn report(provider: Option<&str>, outcome: Outcome) -> JobReport {
        JobReport {
            lane: Lane::Early,
            provider: provider.map(str::to_owned),
            connection_id: Some(ConnectionId(7)),
            due_at: Some(noon() - TimeDelta::seconds(40)),
            outcome,
            elapsed: Duration::from_millis(30),
        }
    }

    /// The lines behind names after these jobs; those at zero left out.
    fn counted(outcomes: impl IntoIterator<Item = (Option<&'static str>, Outcome)>) -> Vec<String> {
        let metrics = Metrics::collected("test").unwrap();
        let jobs = JobMetrics::new(&metrics, ["fynd"]);
        for (provider, outcome) in outcomes {
            jobs.note(&report(provider, outcome));
        }
        let text = metrics.render().unwrap();
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.contains("duration"));
        lines
            .filter(|line| {
                !line.ends_with(" 0") && !line.contains("_bucket") && !line.contains("target_info")
            })
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn a_stored_token_is_counted_with_its_times() {
        let fynd = Some("fynd");
        let seen = counted([(fynd, refreshed(300, Cached::Written)), (fynd, refreshed(-20, Cached::Failed))]);
        let expected = [
            r#"freshet_cache_repairs_total{provider="fynd"} 1"#,
            r#"freshet_due_to_fresh_seconds_sum{provider="fynd"} 80"#,
            r#"freshet_due_to_fresh_seconds_count{provider="fynd"} 2"#,
            r#"freshet_expired_before_refresh_total{provider="fynd"} 1"#,
            r#"freshet_last_success_seconds{provider="fynd"} 1795262400"#,
            r#"freshet_lead_time_seconds_sum{provider="fynd"} 300"#,
            r#"freshet_lead_time_seconds_count{provider="fynd"} 2"#,
            r#"freshet_refreshes_total{class="none",outcome="refreshed",provider="fynd"} 2"#,
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn each_other_outcome_is_counted_by_what_it_says() {
        let fynd = Some("fynd");
        let lost = Failure::of_unknown_effect(FailureClass::AnswerLost, "");
        let unreadable = MessageError::UnknownProvider { name: "s3cret".into() };
        let seen = counted([
            (fynd, failed(lost)),
            (fynd, Outcome::Skipped(Skip::Waiting(ConnectionState::Quarantined))),
            (fynd, Outcome::Deferred { until: noon(), reason: DeferralReason::RateLimited.as_str() }),
            (Some("s3cret"), Outcome::Undecodable(unreadable)),
            (None, Outcome::Undecodable(MessageError::NotJson { line: 1, column: 1 })),
            (Some("new"), Outcome::Stale),
        ]);
        let expected = [
            r#"freshet_deferrals_total{provider="fynd",reason="rate_limited"} 1"#,
            r#"freshet_refreshes_total{class="answer_lost",outcome="failed",provider="fynd"} 1"#,
            r#"freshet_refreshes_total{class="none",outcome="deferred",provider="fynd"} 1"#,
            r#"freshet_refreshes_total{class="none",outcome="skipped",provider="fynd"} 1"#,
            r#"freshet_refreshes_total{class="none",outcome="stale",provider="new"} 1"#,
            r#"freshet_refreshes_total{class="none",outcome="undecodable",provider="unknown"} 2"#,
            r#"freshet_skips_total{provider="fynd",reason="quarantined"} 1"#,
            r#"freshet_unknown_outcomes_total{provider="fynd"} 1"#,
        ];
        assert_eq!(seen, expected);
    }
}
