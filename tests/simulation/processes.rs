//! Producers and workers: the product's own code, started again whenever it has died.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use croner::Cron;
use freshet_producer::leadership::Leadership;
use freshet_producer::metrics::ScanMetrics;
use freshet_producer::scan::Scanner;
use freshet_producer::schedule::Schedule;
use freshet_shared::adapters::embedded::events::InProcessEvents;
use freshet_shared::adapters::embedded::parking::InProcessParking;
use freshet_shared::adapters::embedded::queue::InProcessQueue;
use freshet_shared::adapters::embedded::rate_limiter::InProcessRateLimiter;
use freshet_shared::domain::breaker::BreakerPolicy;
use freshet_shared::domain::provider::catalogue::Providers;
use freshet_shared::domain::retry::RetryPolicy;
use freshet_shared::domain::window::RefreshWindows;
use freshet_worker::permit::{PermitSettings, Permits};
use freshet_worker::pool::PoolSettings;
use freshet_worker::refresh::Refresher;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::fleet::Ledger;
use crate::host::Host;
use crate::marketplace::{CALL_TIMEOUT, Caller, Marketplace};
use crate::shelf::{Reach, Shelf};
use crate::store::{Line, Tables};
use crate::wire::{Receiver, Sender};
use crate::world::World;

/// What every process of a run is made of.
pub(crate) struct Parts {
    pub(crate) world: Arc<World>,
    pub(crate) tables: Arc<Tables>,
    pub(crate) shelf: Arc<Shelf>,
    pub(crate) queue: Arc<InProcessQueue>,
    pub(crate) limiter: Arc<InProcessRateLimiter>,
    pub(crate) marketplace: Arc<Marketplace>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) providers: Providers,
    pub(crate) early: Cron,
    pub(crate) urgent: Cron,
    pub(crate) retry_every: TimeDelta,
    pub(crate) workers: NonZeroU32,
}

/// What a process is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Producer,
    Worker,
}

const GRACE: Duration = Duration::from_secs(25);

impl Parts {
    /// Keeps one process running: whenever it has died or was asked to end, another takes its place.
    pub(crate) async fn keep_running(self: Arc<Self>, kind: Kind, number: u32) {
        for life in 1_u32.. {
            let name = match kind {
                Kind::Producer => format!("producer {number}.{life}"),
                Kind::Worker => format!("worker {number}.{life}"),
            };
            let host = Host::new(&self.world, name);
            host.trace(format_args!("starts"));
            let shutdown = CancellationToken::new();
            let mut process = JoinSet::new();
            match kind {
                Kind::Producer => process.spawn(self.clone().produce(host.clone(), shutdown.clone())),
                Kind::Worker => process.spawn(self.clone().work(host.clone(), shutdown.clone())),
            };
            let term = self.world.between(Duration::from_secs(600), Duration::from_secs(6 * 3_600));
            tokio::select! {
                biased;
                () = host.death.cancelled() => process.shutdown().await,
                () = tokio::time::sleep(term) => {
                    host.trace(format_args!("is asked to end"));
                    shutdown.cancel();
                    tokio::select! {
                        biased;
                        () = host.death.cancelled() => process.shutdown().await,
                        _ = process.join_next() => host.trace(format_args!("has ended")),
                    }
                }
            }
            tokio::time::sleep(self.world.between(Duration::from_secs(1), Duration::from_secs(30))).await;
        }
    }

    fn line(&self, host: &Arc<Host>) -> Arc<Line> {
        Arc::new(Line { host: host.clone(), tables: self.tables.clone(), ledger: self.ledger.clone() })
    }

    async fn produce(self: Arc<Self>, host: Arc<Host>, shutdown: CancellationToken) {
        let scanner = Scanner {
            store: self.line(&host),
            publisher: Arc::new(Sender { host: host.clone(), queue: self.queue.clone() }),
            clock: host.clone(),
            randomness: host,
            providers: self.providers.clone(),
            windows: windows(),
            claim: TimeDelta::minutes(5),
            page_size: 5,
            metrics: ScanMetrics::off(),
            leadership: Leadership::without_election(),
            activity: Arc::default(),
        };
        let schedule = Schedule {
            early: self.early.clone(),
            urgent: self.urgent.clone(),
            retry_every: self.retry_every,
            history: TimeDelta::days(14),
            grant_warning: TimeDelta::days(7),
        };
        freshet_producer::schedule::run(&scanner, &schedule, &shutdown).await;
    }

    async fn work(self: Arc<Self>, host: Arc<Host>, shutdown: CancellationToken) {
        let seconds = Duration::from_secs;
        let policies = (
            BreakerPolicy::new(0.5, 20, seconds(60), seconds(30), seconds(300)),
            RetryPolicy::new(seconds(2), seconds(300), seconds(900)),
        );
        let (Ok(breaker), Ok(retry)) = policies else {
            return self.world.violated("the product refuses its own default settings".into());
        };
        let settings = PermitSettings {
            workers: self.workers,
            waiting: NonZeroU32::new(2).unwrap_or(NonZeroU32::MIN),
            breaker,
            longest_spread: TimeDelta::minutes(5),
        };
        let refresher = Refresher {
            store: self.line(&host),
            cache: Arc::new(Reach { host: host.clone(), shelf: self.shelf.clone() }),
            caller: Arc::new(Caller {
                host: host.clone(),
                marketplace: self.marketplace.clone(),
                ledger: self.ledger.clone(),
            }),
            permits: Permits::new(self.limiter.clone(), host.clone(), host.clone(), settings),
            events: Arc::new(InProcessEvents::keeping(0)),
            // An answer that nobody could store dies with its process, which is the worse case.
            parking: Arc::new(InProcessParking::default()),
            clock: host.clone(),
            randomness: host.clone(),
            providers: self.providers.clone(),
            windows: windows(),
            retry,
            holder: host.name.clone(),
            details_limit: CALL_TIMEOUT,
            in_flight: CALL_TIMEOUT * 4 + seconds(30),
            lease: TimeDelta::seconds(90),
            last_call: CancellationToken::new(),
        };
        let consumer = Box::new(Receiver { host, inner: self.queue.consumer() });
        let settings = PoolSettings { concurrency: 4, grace: GRACE, activity: Arc::default() };
        let ended =
            freshet_worker::pool::run(Arc::new(refresher), consumer, settings, Arc::new(|_| ()), shutdown)
                .await;
        if let Err(error) = ended {
            self.world.violated(format!("consuming ended: {error}"));
        }
    }
}

fn windows() -> RefreshWindows {
    RefreshWindows {
        early: TimeDelta::minutes(30),
        urgent: TimeDelta::minutes(10),
        shortest_interval: TimeDelta::minutes(1),
    }
}
