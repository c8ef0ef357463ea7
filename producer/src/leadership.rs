//! One of several producers scans: the one that holds the lease.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use freshet_shared::domain::leadership::{Lease, Standing, ask_again_in};
use freshet_shared::ports::store::LeaseStore;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// The row's name in `producer_lease`.
const LEASE: &str = "scan";

/// How long giving the lease up may take; it runs out by itself.
pub const LONGEST_RESIGNATION: Duration = Duration::from_secs(1);

/// Whether this process leads, for all who want to know.
pub struct Leadership {
    /// By a clock that nobody sets, and that goes on while the process is stopped.
    started: Instant,
    standing: watch::Sender<Standing>,
    /// Whether this process is about to end.
    is_ending: AtomicBool,
}

impl Leadership {
    /// Of a process that has to be elected.
    pub fn to_be_won() -> Arc<Self> {
        Self::in_standing(Standing::Following)
    }

    /// Of a process that asks nobody: one scan on demand, or a fleet in one process.
    pub fn without_election() -> Arc<Self> {
        Self::in_standing(Standing::Leading { term: 0, until: Duration::MAX })
    }

    fn in_standing(standing: Standing) -> Arc<Self> {
        Arc::new(Self {
            started: Instant::now(),
            standing: watch::Sender::new(standing),
            is_ending: AtomicBool::new(false),
        })
    }

    /// From now on nothing is begun: a scan ends with the page that it is at. The lease stays until the campaign gives it up.
    pub fn stand_down(&self) {
        self.is_ending.store(true, Ordering::Relaxed);
    }

    /// The term in which this process holds the lease; `None`: somebody else may lead.
    pub fn term(&self) -> Option<i64> {
        self.standing.borrow().term_at(self.started.elapsed())
    }

    /// Whether this process leads, and may begin something.
    pub fn leads(&self) -> bool {
        self.term().is_some() && !self.is_ending.load(Ordering::Relaxed)
    }

    /// Returns when this process leads.
    pub async fn elected(&self) {
        let mut standing = self.standing.subscribe();
        while !self.leads() {
            if standing.changed().await.is_err() {
                return;
            }
        }
    }

    pub(crate) fn enter(&self, standing: Standing) {
        let before = self.standing.send_replace(standing);
        match (before, standing) {
            (Standing::Following, Standing::Leading { term, .. }) => {
                tracing::info!(term, "this producer leads and scans")
            }
            (Standing::Leading { term: before, .. }, Standing::Leading { term, .. }) if before != term => {
                tracing::info!(term, "this producer leads again, after its term had run out");
            }
            (Standing::Leading { term, .. }, Standing::Following) => {
                tracing::warn!(term, "this producer no longer leads, and does not scan");
            }
            _ => {}
        }
    }
}

/// How the lease is sought.
pub struct Campaign {
    /// Where the lease is.
    pub store: Arc<dyn LeaseStore>,
    /// Names this process, another at each start.
    pub holder: String,
    /// How long the lease lasts.
    pub length: Duration,
}

/// Seeks the lease and renews it until `shutdown`, then gives it up. On any doubt this process does not lead.
pub async fn campaign(leadership: &Leadership, campaign: &Campaign, shutdown: &CancellationToken) {
    let Campaign { store, holder, length } = campaign;
    let length = *length;
    while !shutdown.is_cancelled() {
        let asked_at = leadership.started.elapsed();
        let asking = timeout(length, store.take_lease(LEASE, holder, length));
        let Some(answer) = shutdown.run_until_cancelled(asking).await else { break };
        let answer: Option<Lease> = match answer {
            Ok(Ok(lease)) => Some(lease),
            Ok(Err(error)) => {
                tracing::warn!(%error, "nobody knows who leads: this producer does not scan");
                None
            }
            Err(_) => {
                tracing::warn!(?length, "the database does not say who leads: this producer does not scan");
                None
            }
        };
        leadership.enter(Standing::after(answer, asked_at, length));
        let pause = tokio::time::sleep(ask_again_in(answer, length));
        if shutdown.run_until_cancelled(pause).await.is_none() {
            break;
        }
    }
    let led = leadership.term().is_some();
    leadership.enter(Standing::Following);
    if led && let Ok(Err(error)) = timeout(LONGEST_RESIGNATION, store.release_lease(LEASE, holder)).await {
        tracing::warn!(%error, "the lease is not given up, and runs out");
    }
}
