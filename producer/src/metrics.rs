//! What the producer counts: scans by how they ended, messages by what the broker said.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use chrono::{DateTime, Utc};
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::message::RefreshMessage;
use freshet_shared::ports::queue::PublishError;
use freshet_shared::ports::store::StoreError;
use freshet_shared::telemetry::metrics::{
    BoundCounter, BoundGauge, BoundHistogram, Counters, Metrics, names,
};

use crate::scan::{ScanReport, Target};

const DURATION: [f64; 9] = [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0];
const CONFIRMED: &str = "confirmed";
const RESULTS: [&str; 5] = [CONFIRMED, "refused", "unroutable", "not_sent", "unconfirmed"];

/// Counts scans and publishes.
pub struct ScanMetrics {
    scans: HashMap<&'static str, ScanSeries>,
    publishes: Counters,
    paused: HashMap<String, BoundGauge<f64>>,
    providers: RwLock<HashMap<String, Arc<PublishSeries>>>,
}

struct ScanSeries {
    completed: BoundCounter<u64>,
    failed: BoundCounter<u64>,
    duration: BoundHistogram<f64>,
    last: BoundGauge<f64>,
    found: BoundCounter<u64>,
    claimed: BoundCounter<u64>,
    published: BoundCounter<u64>,
    unpublished: BoundCounter<u64>,
    unreadable: BoundCounter<u64>,
}

/// Of one provider, by lane and result.
type PublishSeries = HashMap<(Lane, &'static str), BoundCounter<u64>>;

impl ScanMetrics {
    /// With all series of these providers at zero.
    pub fn new<'a>(metrics: &Metrics, providers: impl IntoIterator<Item = &'a str>) -> Self {
        let publishes = metrics.counter(&names::PUBLISHES);
        let gauge = metrics.gauge(&names::PAUSED);
        let (mut of_providers, mut paused) = (HashMap::new(), HashMap::new());
        for name in providers {
            of_providers.insert(name.to_owned(), Arc::new(series(&publishes, name)));
            paused.insert(name.to_owned(), gauge.with(&[name]));
        }
        let scans = Target::ALL.map(|target| (target.as_str(), ScanSeries::new(metrics, target.as_str())));
        Self { scans: scans.into(), publishes, paused, providers: RwLock::new(of_providers) }
    }

    /// For a producer that nobody watches.
    pub fn off() -> Arc<Self> {
        Arc::new(Self::new(&Metrics::off(), []))
    }

    /// Counts a scan that ended at `now`.
    pub fn note(
        &self,
        target: Target,
        result: &Result<ScanReport, StoreError>,
        took: Duration,
        now: DateTime<Utc>,
    ) {
        let Some(series) = self.scans.get(target.as_str()) else { return };
        series.duration.record(took.as_secs_f64());
        match result {
            Ok(report) => {
                series.completed.add(1);
                series.last.record(now.timestamp_millis() as f64 / 1e3);
                series.found.add(report.found);
                series.claimed.add(report.claimed);
                series.published.add(report.published);
                series.unpublished.add(report.unpublished);
                series.unreadable.add(report.unreadable);
            }
            Err(_) => series.failed.add(1),
        }
    }

    /// Which providers somebody has paused by now.
    pub fn note_paused(&self, paused: &[String]) {
        for (provider, gauge) in &self.paused {
            gauge.record(f64::from(u8::from(paused.contains(provider))));
        }
    }

    /// Counts a message by the broker's answer.
    pub fn note_publish(&self, message: &RefreshMessage, result: &Result<(), PublishError>) {
        let result = result.as_ref().map_or_else(PublishError::reason, |()| CONFIRMED);
        if let Some(counter) = self.publishes_of(&message.provider).get(&(message.lane, result)) {
            counter.add(1);
        }
    }

    fn publishes_of(&self, provider: &str) -> Arc<PublishSeries> {
        let known = self.providers.read().unwrap_or_else(PoisonError::into_inner).get(provider).cloned();
        known.unwrap_or_else(|| {
            let mut providers = self.providers.write().unwrap_or_else(PoisonError::into_inner);
            let new = || Arc::new(series(&self.publishes, provider));
            providers.entry(provider.to_owned()).or_insert_with(new).clone()
        })
    }
}

fn series(publishes: &Counters, provider: &str) -> PublishSeries {
    let pairs = Lane::ALL.into_iter().flat_map(|lane| RESULTS.map(|result| (lane, result)));
    pairs.map(|(lane, result)| ((lane, result), publishes.with(&[provider, lane.as_str(), result]))).collect()
}

impl ScanSeries {
    fn new(metrics: &Metrics, scan: &str) -> Self {
        let (scans, scanned) = (metrics.counter(&names::SCANS), metrics.counter(&names::SCANNED));
        let last = metrics.gauge(&names::LAST_SCAN).with(&[scan]);
        last.record(0.0);
        Self {
            completed: scans.with(&[scan, "completed"]),
            failed: scans.with(&[scan, "failed"]),
            duration: metrics.histogram(&names::SCAN_DURATION, &DURATION).with(&[scan]),
            last,
            found: scanned.with(&[scan, "found"]),
            claimed: scanned.with(&[scan, "claimed"]),
            published: scanned.with(&[scan, "published"]),
            unpublished: scanned.with(&[scan, "unpublished"]),
            unreadable: scanned.with(&[scan, "unreadable"]),
        }
    }
}
