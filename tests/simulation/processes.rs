//! Producers and workers: the product's own code, started again whenever it has died.

use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use chrono::TimeDelta;
use croner::Cron;
use freshet_producer::leadership::{Campaign, Leadership, campaign};
use freshet_producer::metrics::ScanMetrics;
use freshet_producer::scan::Scanner;
use freshet_producer::schedule::Schedule;
use freshet_producer::settled::Settled;
use freshet_shared::adapters::embedded::events::InProcessEvents;
use freshet_shared::adapters::embedded::queue::InProcessQueue;
use freshet_shared::adapters::embedded::rate_limiter::InProcessRateLimiter;
use freshet_shared::domain::breaker::BreakerPolicy;
use freshet_shared::domain::limits::share;
use freshet_shared::domain::provider::catalogue::Providers;
use freshet_shared::domain::retry::RetryPolicy;
use freshet_shared::domain::window::RefreshWindows;
use freshet_worker::job::JobReport;
use freshet_worker::permit::{PermitSettings, Permits};
use freshet_worker::pool::PoolSettings;
use freshet_worker::refresh::Refresher;
use freshet_worker::warming::Warming;
use freshet_worker::working::{Sources, work};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::deadlines::{BACKOFF, CLAIM, Wait};
use crate::depot::{Depot, Gate};
use crate::fleet::Ledger;
use crate::host::Host;
use crate::invariants::URGENT;
use crate::marketplace::{CALL_TIMEOUT, Caller, Marketplace};
use crate::reigns::Reigns;
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
    pub(crate) depot: Arc<Depot>,
    pub(crate) limiter: Arc<InProcessRateLimiter>,
    pub(crate) marketplace: Arc<Marketplace>,
    pub(crate) ledger: Arc<Ledger>,
    pub(crate) reigns: Arc<Reigns>,
    pub(crate) providers: Providers,
    pub(crate) settings: Settings,
    /// Those that live.
    pub(crate) hosts: Mutex<Vec<Weak<Host>>>,
}

/// What differs from run to run; all of it keys of the configuration.
pub(crate) struct Settings {
    pub(crate) early: Cron,
    pub(crate) urgent: Cron,
    /// `scan.retry_every`
    pub(crate) retry_every: TimeDelta,
    /// `scan.lease`
    pub(crate) lease: Duration,
    /// `redis.check_every`
    pub(crate) check_every: Duration,
    /// `limits.workers`
    pub(crate) workers: NonZeroU32,
    /// `worker.concurrency`
    pub(crate) concurrency: usize,
}

impl Settings {
    /// How many of a worker's jobs may have a call under way, at a provider that takes so many at once.
    pub(crate) fn slots(&self, concurrency: Option<u32>) -> u32 {
        let jobs = u32::try_from(self.concurrency).unwrap_or(u32::MAX);
        let part = concurrency.and_then(NonZeroU32::new).map(|number| share(number, self.workers).get());
        part.map_or(jobs, |part| part.min(jobs))
    }
}

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Producer,
    Worker,
}

const GRACE: Duration = Duration::from_secs(25);
/// Whoever stands still longer than its pod may take to end (`terminationGracePeriodSeconds`) is killed by Kubernetes.
const KILLED_AFTER: Duration = Duration::from_secs(38);

impl Parts {
    /// Keeps one process running: whenever it has died or was asked to end, another takes its place.
    pub(crate) async fn keep_running(self: Arc<Self>, kind: Kind, number: u32) {
        for life in 1_u32.. {
            let name = match kind {
                Kind::Producer => format!("producer {number}.{life}"),
                Kind::Worker => format!("worker {number}.{life}"),
            };
            let host = Host::new(&self.world, name, kind == Kind::Producer);
            host.trace(format_args!("starts"));
            self.register(&host);
            let shutdown = host.end.clone();
            let mut process = JoinSet::new();
            match kind {
                Kind::Producer => process.spawn(self.clone().produce(host.clone(), shutdown.clone())),
                Kind::Worker => process.spawn(self.clone().work(host.clone(), shutdown.clone())),
            };
            let term = self.world.between(Duration::from_secs(600), Duration::from_secs(6 * 3_600));
            tokio::select! {
                biased;
                () = host.death.cancelled() => {}
                () = shutdown.cancelled() => {}
                () = sleep(term) => shutdown.cancel(),
            }
            host.leaves(self.what_lacks_without(kind, &host));
            if !host.death.is_cancelled() {
                host.trace(format_args!("is asked to end"));
                tokio::select! {
                    biased;
                    () = host.death.cancelled() => {}
                    _ = process.join_next() => host.trace(format_args!("has ended")),
                    () = sleep(KILLED_AFTER) => {
                        host.trace(format_args!("is killed, for it did not end"));
                        host.death.cancel();
                    }
                }
                host.leaves(self.what_lacks_without(kind, &host));
            }
            process.shutdown().await;
            self.reigns.ends(&host.name);
            // Nobody may be there until then.
            let pause = self.world.between(Duration::from_secs(1), Duration::from_secs(30));
            self.world.disturbed_until(self.world.now() + pause);
            sleep(pause).await;
        }
    }

    /// What all have to wait for when this one does not go on.
    fn what_lacks_without(&self, kind: Kind, host: &Host) -> Option<Wait> {
        match kind {
            Kind::Worker => {
                let living = self.living("worker");
                let is_last = !living.iter().any(|other| other.name != host.name && other.is_at_work());
                is_last.then_some(Wait::NoWorker)
            }
            Kind::Producer if !self.reigns.may_hold_the_lease(&host.name) => None,
            Kind::Producer if host.death.is_cancelled() => Some(Wait::LeaderGone),
            Kind::Producer => Some(Wait::LeaderEnds),
        }
    }

    fn register(&self, host: &Arc<Host>) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.retain(|host| host.strong_count() > 0);
        hosts.push(Arc::downgrade(host));
    }

    /// The processes that live, whose names begin so.
    pub(crate) fn living(&self, name: &str) -> Vec<Arc<Host>> {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let living = hosts.iter().filter_map(Weak::upgrade);
        living.filter(|host| host.name.starts_with(name) && !host.death.is_cancelled()).collect()
    }

    fn line(&self, host: &Arc<Host>) -> Arc<Line> {
        Line::new(host, &self.tables, &self.ledger, &self.reigns)
    }

    async fn produce(self: Arc<Self>, host: Arc<Host>, shutdown: CancellationToken) {
        let (line, leadership) = (self.line(&host), Leadership::to_be_won());
        self.reigns.begins(&host.name, &leadership);
        let race = Campaign { store: line.clone(), holder: host.name.clone(), length: self.settings.lease };
        let scanner = Scanner {
            store: line,
            publisher: Arc::new(Sender { host: host.clone(), queue: self.queue.clone() }),
            clock: host.clone(),
            randomness: host,
            providers: self.providers.clone(),
            windows: windows(),
            claim: CLAIM,
            page_size: 5,
            metrics: ScanMetrics::off(),
            leadership: leadership.clone(),
            activity: Arc::default(),
            settled: Settled::default(),
        };
        let schedule = Schedule {
            early: self.settings.early.clone(),
            urgent: self.settings.urgent.clone(),
            retry_every: self.settings.retry_every,
            history: TimeDelta::days(14),
            grant_warning: TimeDelta::days(7),
        };
        // As the producer's `app.rs` has it: the lease is held until the last scan has ended.
        let over = CancellationToken::new();
        let scanning = async {
            freshet_producer::schedule::run(&scanner, &schedule, &shutdown).await;
            over.cancel();
        };
        tokio::join!(scanning, campaign(&leadership, &race, &over));
    }

    async fn work(self: Arc<Self>, host: Arc<Host>, shutdown: CancellationToken) {
        let seconds = Duration::from_secs;
        let policies = (
            BreakerPolicy::new(0.5, 20, seconds(60), seconds(30), seconds(300)),
            RetryPolicy::new(seconds(2), BACKOFF, seconds(900)),
        );
        let (Ok(breaker), Ok(retry)) = policies else {
            return self.world.violated("the product refuses its own default settings".into());
        };
        let settings = PermitSettings {
            workers: self.settings.workers,
            waiting: NonZeroU32::new(2).unwrap_or(NonZeroU32::MIN),
            breaker,
            longest_spread: TimeDelta::minutes(5),
            longest_call: CALL_TIMEOUT,
        };
        let line = self.line(&host);
        let gate = Gate {
            host: host.clone(),
            depot: self.depot.clone(),
            tables: self.tables.clone(),
            ledger: self.ledger.clone(),
        };
        let refresher = Refresher {
            store: line.clone(),
            cache: Arc::new(Reach { host: host.clone(), shelf: self.shelf.clone() }),
            caller: Arc::new(Caller {
                host: host.clone(),
                marketplace: self.marketplace.clone(),
                ledger: self.ledger.clone(),
            }),
            permits: Permits::new(self.limiter.clone(), host.clone(), host.clone(), settings),
            events: Arc::new(InProcessEvents::keeping(0)),
            parking: Arc::new(gate.clone()),
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
        let refreshes = Box::new(Receiver { host, inner: self.queue.consumer() });
        let sources = Sources { refreshes, parked: Box::new(gate) };
        let warming = Warming { leases: line, check_every: self.settings.check_every };
        let concurrency = self.settings.concurrency;
        let settings = PoolSettings { concurrency, grace: GRACE, activity: Arc::default() };
        let nobody = Arc::new(|_: &JobReport| ());
        // A future of its own size is moved about.
        let ended =
            Box::pin(work(&Arc::new(refresher), sources, &warming, settings, nobody, &shutdown)).await;
        if let Err(error) = ended {
            self.world.violated(format!("consuming ended: {error}"));
        }
    }
}

fn windows() -> RefreshWindows {
    RefreshWindows { early: TimeDelta::minutes(30), urgent: URGENT, shortest_interval: TimeDelta::minutes(1) }
}
