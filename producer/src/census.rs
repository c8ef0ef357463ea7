//! Counting the fleet for whoever watches it: how many tokens are good, and for how long.
//!
//! Each statement counts one span of expiry, over the index that the scans use, without reading a token. A census of many
//! millions of connections still visits each of them once, so it is taken the more rarely the longer it takes: it keeps the
//! database busy for a twentieth of the time at most.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::domain::connection::ConnectionState;
use freshet_shared::domain::provider::catalogue::Providers;
use freshet_shared::domain::window::RefreshWindows;
use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::store::{Cause, CensusStore, ExpirySpan, Standing, StoreError};
use freshet_shared::telemetry::metrics::names::Instrument;
use freshet_shared::telemetry::metrics::{Metrics, names};
use tokio_util::sync::CancellationToken;

use crate::activity::Activity;

/// How many times as long as a census takes there is at least between two.
const REST: u32 = 19;

/// Bounds of the distribution, in seconds, beside the windows of both lanes.
const BOUNDS: [i64; 9] = [60, 300, 600, 1_200, 1_800, 3_600, 21_600, 86_400, 604_800];

/// Takes the census.
pub struct Census {
    /// Where connections stand.
    pub store: Arc<dyn CensusStore>,
    /// Those whose connections are counted.
    pub providers: Providers,
    /// When a token is due.
    pub windows: RefreshWindows,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// How often it is taken, unless it takes long.
    pub every: Duration,
}

/// What was counted.
#[derive(Debug, Clone, PartialEq)]
pub struct Counted {
    /// When.
    pub at: DateTime<Utc>,
    /// How long it took.
    pub took: Duration,
    /// The bounds of the spans in seconds, ascending, the first being 0.
    pub bounds: Vec<i64>,
    /// Per provider and state, how many expire by each bound but not by the one before; the last number is those beyond all
    /// of them.
    pub connections: BTreeMap<(String, &'static str), Vec<u64>>,
    /// Per provider and cause, how many are to be kept fresh and have no good token.
    pub overdue: BTreeMap<(String, &'static str), u64>,
}

impl Census {
    /// Takes one.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn take(&self) -> Result<Counted, StoreError> {
        let (at, begun) = (self.clock.now(), tokio::time::Instant::now());
        let bounds = self.bounds();
        let mut counted = Counted {
            at,
            took: Duration::ZERO,
            bounds,
            connections: BTreeMap::new(),
            overdue: BTreeMap::new(),
        };
        for provider in self.providers.scanned() {
            let Some(integration_type) = &provider.integration_type else { continue };
            counted.begin(provider.name());
            for (index, span) in spans(at, &counted.bounds) {
                for standing in self.store.count_expiring(integration_type, span).await? {
                    counted.add(provider.name(), index, span, standing);
                }
            }
        }
        counted.took = begun.elapsed();
        Ok(counted)
    }

    /// Takes one after another until `shutdown`, as long as this producer leads.
    pub async fn run(&self, taken: &Taken, activity: &Activity, shutdown: &CancellationToken) {
        while !shutdown.is_cancelled() {
            let mut wait = self.every;
            let counted = if activity.is_leader() { self.take_or_say_why_not().await } else { None };
            if let Some(counted) = &counted {
                wait = wait.max(counted.took * REST);
            }
            taken.set(counted);
            tokio::select! {
                () = self.clock.sleep(wait) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    async fn take_or_say_why_not(&self) -> Option<Counted> {
        let taken = self.take().await;
        taken.inspect_err(|error| tracing::warn!(%error, "the connections were not counted")).ok()
    }

    fn bounds(&self) -> Vec<i64> {
        let windows = [self.windows.urgent, self.windows.early].map(|window| window.num_seconds());
        let mut bounds: Vec<i64> = [0].into_iter().chain(BOUNDS).chain(windows).collect();
        bounds.sort_unstable();
        bounds.dedup();
        bounds
    }
}

/// The spans between the bounds, with the place where each is counted.
fn spans(now: DateTime<Utc>, bounds: &[i64]) -> Vec<(usize, ExpirySpan)> {
    let at = |seconds: i64| now + TimeDelta::seconds(seconds);
    let mut spans = vec![(0, ExpirySpan::Never), (0, ExpirySpan::Until(now))];
    for (index, pair) in (1..).zip(bounds.windows(2)) {
        spans.push((index, ExpirySpan::Between { after: at(pair[0]), until: at(pair[1]) }));
    }
    let last = bounds.last().copied().unwrap_or_default();
    spans.push((bounds.len(), ExpirySpan::After(at(last))));
    spans
}

/// The last census, for whoever reads the metrics; empty where none was taken, or where another producer takes it.
#[derive(Clone, Default)]
pub struct Taken(Arc<Mutex<Option<Counted>>>);

impl Taken {
    pub(crate) fn set(&self, counted: Option<Counted>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = counted;
    }

    fn read(&self, read: impl FnOnce(&Counted)) {
        if let Some(counted) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            read(counted);
        }
    }

    /// Shows it among the metrics.
    pub fn show(&self, metrics: &Metrics, windows: &RefreshWindows) {
        let early = windows.early.num_seconds();
        self.observe(metrics, &names::CONNECTIONS, |counted, observe| {
            counted.each(|provider, state, counts| observe(counts.iter().sum(), &[provider, state]));
        });
        self.observe(metrics, &names::VALID, |counted, observe| {
            counted.each(|provider, state, counts| observe(counts[1..].iter().sum(), &[provider, state]));
        });
        self.observe(metrics, &names::DUE, move |counted, observe| {
            counted.each(|provider, state, counts| {
                if state == ConnectionState::Active.as_str() {
                    observe(counted.within(counts, early) - counted.within(counts, 0), &[provider]);
                }
            });
        });
        self.observe(metrics, &names::OVERDUE, |counted, observe| {
            for ((provider, cause), count) in &counted.overdue {
                observe(*count, &[provider, cause]);
            }
        });
        self.observe(metrics, &names::EXPIRY, Counted::show_expiry);
        let taken = self.clone();
        metrics.observed(&names::CENSUS_AT, move |observe| {
            taken.read(|counted| observe(counted.at.timestamp() as f64, &[]));
        });
        let taken = self.clone();
        metrics.observed(&names::CENSUS_DURATION, move |observe| {
            taken.read(|counted| observe(counted.took.as_secs_f64(), &[]));
        });
    }

    fn observe(
        &self,
        metrics: &Metrics,
        instrument: &'static Instrument,
        show: impl Fn(&Counted, &dyn Fn(u64, &[&str])) + Send + Sync + 'static,
    ) {
        let taken = self.clone();
        metrics.observed(instrument, move |observe| {
            taken.read(|counted| show(counted, &|count, labels| observe(count as f64, labels)));
        });
    }
}

impl Counted {
    /// All that can be counted of a provider, at zero.
    fn begin(&mut self, provider: &str) {
        for state in ConnectionState::ALL {
            let nobody = vec![0; self.bounds.len() + 1];
            self.connections.insert((provider.to_owned(), state.as_str()), nobody);
        }
        for cause in Cause::ALL {
            self.overdue.insert((provider.to_owned(), cause.as_str()), 0);
        }
    }

    fn add(&mut self, provider: &str, index: usize, span: ExpirySpan, standing: Standing) {
        let Standing { state, cause, connections } = standing;
        let beyond = self.bounds.len();
        // Nobody knows when its token dies; of all others no expiry means that there is no token.
        let is_life_unknown = span == ExpirySpan::Never && state == Some(ConnectionState::Unmonitored);
        let index = if is_life_unknown { beyond } else { index };
        let state_word = state.map_or("unknown", ConnectionState::as_str);
        let counts = self.connections.entry((provider.to_owned(), state_word));
        counts.or_insert_with(|| vec![0; beyond + 1])[index] += connections;
        if index == 0 && state == Some(ConnectionState::Active) {
            *self.overdue.entry((provider.to_owned(), cause.as_str())).or_default() += connections;
        }
    }

    /// How many of these expire within `bound` seconds, expired ones included.
    fn within(&self, counts: &[u64], bound: i64) -> u64 {
        let spans = self.bounds.iter().zip(counts).take_while(|(upper, _)| **upper <= bound);
        spans.map(|(_, count)| count).sum()
    }

    fn each(&self, mut show: impl FnMut(&str, &str, &[u64])) {
        for ((provider, state), counts) in &self.connections {
            show(provider, state, counts);
        }
    }

    fn show_expiry(&self, observe: &dyn Fn(u64, &[&str])) {
        self.each(|provider, state, counts| {
            let mut within = 0;
            for (bound, count) in self.bounds.iter().map(Some).chain([None]).zip(counts) {
                within += count;
                let bound = bound.map_or_else(|| "+Inf".to_owned(), ToString::to_string);
                observe(within, &[provider, state, &bound]);
            }
        });
    }
}
