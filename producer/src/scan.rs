//! One scan: what is due is claimed page by page and published.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::domain::connection::ConnectionId;
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::message::{RefreshMessage, VERSION};
use freshet_shared::domain::provider::Provider;
use freshet_shared::domain::provider::catalogue::Providers;
use freshet_shared::domain::window::RefreshWindows;
use freshet_shared::failpoints::{Point, reached};
use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::queue::Publisher;
use freshet_shared::ports::randomness::Randomness;
use freshet_shared::ports::store::{
    Claim, Due, DueConnection, DuePage, DueScan, PageKey, ScanStore, StoreError,
};
use tracing::{Instrument, info_span};

use crate::activity::Activity;
use crate::leadership::Leadership;
use crate::metrics::ScanMetrics;
use crate::publish::{Planned, PublishReport, publish};
use crate::settled::Settled;

/// A claim holds for so long at least, however short a token lives: its message takes its time.
const SHORTEST_CLAIM: TimeDelta = TimeDelta::seconds(10);

/// What a scan works with.
pub struct Scanner {
    /// What is due.
    pub store: Arc<dyn ScanStore>,
    /// Where it goes.
    pub publisher: Arc<dyn Publisher>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness, for the ids of claims.
    pub randomness: Arc<dyn Randomness>,
    /// The providers whose connections are scanned.
    pub providers: Providers,
    /// When a token is due.
    pub windows: RefreshWindows,
    /// How long a claim holds.
    pub claim: TimeDelta,
    /// Connections per page.
    pub page_size: u32,
    /// What is counted.
    pub metrics: Arc<ScanMetrics>,
    /// What it says of itself while it scans.
    pub activity: Arc<Activity>,
    /// Whether this process may scan.
    pub leadership: Arc<Leadership>,
    /// What it need not walk over again.
    pub settled: Settled,
}

/// What is scanned for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The connections of a lane.
    Lane(Lane),
    /// Those whose next attempt is due, whatever their lane.
    NextAttempts,
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Target {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 3] = [Self::Lane(Lane::Urgent), Self::Lane(Lane::Early), Self::NextAttempts];

    /// For logs and labels.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Lane(lane) => lane.as_str(),
            Self::NextAttempts => "retry",
        }
    }

    /// What is due by this target, in the order in which it is looked for; all that expired before `settled` is settled.
    fn due(self, windows: &RefreshWindows, settled: Option<DateTime<Utc>>) -> Vec<Due> {
        match self {
            // A token that lives for weeks is renewed long before its last half hour.
            Self::Lane(Lane::Early) => vec![Due::Expiring(windows.early), Due::Planned(windows.early)],
            // Nobody else would ever refresh a connection that has no token yet.
            Self::Lane(Lane::Urgent) => {
                vec![Due::ExpiredOrExpiring { from: settled, within: windows.urgent }, Due::NeverRefreshed]
            }
            // The lanes' cron expressions are too coarse for a token that lives for minutes.
            Self::NextAttempts => vec![Due::NextAttempt, Due::Planned(TimeDelta::zero())],
        }
    }
}

/// What a scan came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ScanReport {
    /// Connections found due.
    pub found: u64,
    /// Rows passed over because they cannot be read; each is in the log.
    pub unreadable: u64,
    /// Those claimed by this scan; somebody else claimed the others.
    pub claimed: u64,
    /// Those whose message the broker confirmed.
    pub published: u64,
    /// Those whose message it did not. They are found again: at once where it is certain that no queue has the message, else
    /// once their claims have run out.
    pub unpublished: u64,
    /// Providers passed over because somebody paused them.
    pub paused_providers: u64,
}

impl fmt::Display for ScanReport {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "found {}, claimed {}, published {}, not published {}, unreadable rows {}, paused providers {}",
            self.found,
            self.claimed,
            self.published,
            self.unpublished,
            self.unreadable,
            self.paused_providers
        )
    }
}

/// Scans for `target` at every provider that has an integration type.
///
/// # Errors
/// If the database does not answer. What was published until then stays published.
pub async fn scan(scanner: &Scanner, target: Target) -> Result<ScanReport, StoreError> {
    let span = info_span!("scan", otel.name = %format!("scan {target}"), scan = %target);
    scan_providers(scanner, target).instrument(span).await
}

async fn scan_providers(scanner: &Scanner, target: Target) -> Result<ScanReport, StoreError> {
    let mut report = ScanReport::default();
    let mut silent = SilentQueues::default();
    let paused = scanner.store.paused_providers().await?;
    scanner.metrics.note_paused(&paused);
    for provider in scanner.providers.iter() {
        let Some(integration_type) = provider.integration_type.clone() else { continue };
        if paused.iter().any(|name| name == provider.name()) {
            report.paused_providers += 1;
            continue;
        }
        let now = scanner.clock.now();
        let settled = match target {
            Target::Lane(Lane::Urgent) => {
                scanner.activity.steps();
                let (store, page_size) = (scanner.store.as_ref(), scanner.page_size);
                scanner.settled.until(store, &integration_type, page_size, now).await?
            }
            Target::Lane(Lane::Early) | Target::NextAttempts => None,
        };
        for due in target.due(&scanner.windows, settled) {
            let query = DueScan { integration_type: integration_type.clone(), due, now };
            // Waited for once in a scan, whosever connections it takes.
            if let Target::Lane(lane) = target
                && silent.holds(provider, lane)
            {
                break;
            }
            match scan_pages(scanner, provider, target, &query, &mut silent, &mut report).await? {
                Ended::AllPages => {}
                // Its queue is full or missing; the other providers' may not be.
                Ended::QueueRefuses => break,
                // What is left is found by the next scan.
                Ended::BrokerAway | Ended::Deposed => return Ok(report),
            }
        }
    }
    Ok(report)
}

/// Queues that did not answer in this scan, by pool and lane.
#[derive(Default)]
struct SilentQueues<'p>(BTreeSet<(&'p str, Lane)>);

impl<'p> SilentQueues<'p> {
    fn note(&mut self, provider: &'p Provider, lanes: BTreeSet<Lane>) {
        self.0.extend(lanes.into_iter().map(|lane| (provider.pool(), lane)));
    }

    fn holds(&self, provider: &Provider, lane: Lane) -> bool {
        self.0.contains(&(provider.pool(), lane))
    }
}

/// How the pages of one provider ended.
enum Ended {
    AllPages,
    QueueRefuses,
    BrokerAway,
    /// Somebody else may lead by now, and goes on with it.
    Deposed,
}

async fn scan_pages<'p>(
    scanner: &Scanner,
    provider: &'p Provider,
    target: Target,
    query: &DueScan,
    silent: &mut SilentQueues<'p>,
    report: &mut ScanReport,
) -> Result<Ended, StoreError> {
    let mut after: Option<PageKey> = None;
    loop {
        scanner.activity.steps();
        let mut page = scanner.store.due_page(query, after, scanner.page_size).await?;
        reached(Point::AfterSelect).await;
        note(provider, &page, report);
        // Not claimed for a queue that would not take them, they are found again as soon as it does.
        page.due.retain(|due| !silent.holds(provider, lane_of(scanner, target, due, query.now)));
        // What is claimed is published, whoever leads by then: nobody else does it before the claim runs out.
        if !scanner.leadership.leads() {
            return Ok(Ended::Deposed);
        }
        let claim_id = draw_claim_id(scanner);
        let claimed = claim(scanner, &page.due, claim_id).await?;
        reached(Point::AfterClaim).await;
        report.claimed += claimed.len() as u64;
        let messages = claimed.into_iter().map(|due| {
            let message = message(scanner, provider, target, &due, query.now);
            Planned { message, attempt_before: due.attempt_before }
        });
        let published =
            publish(scanner.publisher.as_ref(), &scanner.metrics, provider.pool(), messages.collect()).await;
        let PublishReport { confirmed, failed, unsent, is_broker_away, silent: lanes, is_refused } =
            published;
        report.published += confirmed;
        report.unpublished += failed;
        give_back(scanner, provider, &unsent, claim_id).await;
        if is_broker_away {
            return Ok(Ended::BrokerAway);
        }
        // One that scans for next attempts has other lanes, too.
        let is_over = is_refused || !lanes.is_empty() && target != Target::NextAttempts;
        silent.note(provider, lanes);
        if is_over {
            return Ok(Ended::QueueRefuses);
        }
        match page.next {
            Some(next) => after = Some(next),
            None => return Ok(Ended::AllPages),
        }
    }
}

fn note(provider: &Provider, page: &DuePage, report: &mut ScanReport) {
    report.found += page.due.len() as u64;
    report.unreadable += page.unreadable.len() as u64;
    for row in &page.unreadable {
        let connection_id = row.connection_id.map(|id| id.0);
        tracing::error!(provider = provider.name(), connection_id, "row passed over: {}", row.problem);
    }
}

/// Tells one claim from every other.
pub fn draw_claim_id(scanner: &Scanner) -> i64 {
    // The column is signed.
    i64::try_from(scanner.randomness.next() >> 1).unwrap_or(0)
}

/// Ends the claims on connections whose messages are certainly in no queue, so that the next scan finds them. Where the
/// database does not answer, they run out.
async fn give_back(scanner: &Scanner, provider: &Provider, unsent: &[ConnectionId], claim_id: i64) {
    if unsent.is_empty() {
        return;
    }
    if let Err(error) = scanner.store.give_back(unsent, claim_id).await {
        let (provider, connections) = (provider.name(), unsent.len());
        tracing::warn!(provider, connections, %error, "claims not given back; they run out");
    }
}

/// Claims what nobody else has claimed.
///
/// # Errors
/// If the database does not answer.
pub async fn claim(
    scanner: &Scanner,
    due: &[DueConnection],
    id: i64,
) -> Result<Vec<DueConnection>, StoreError> {
    let now = scanner.clock.now();
    // A lost message must be made up for before the token of its connection dies.
    let shortest = due.iter().filter_map(|due| due.lifetime).min();
    let claim =
        shortest.map_or(scanner.claim, |lifetime| scanner.claim.min((lifetime / 4).max(SHORTEST_CLAIM)));
    scanner.store.claim(due, Claim { id, now, until: now + claim }).await
}

fn lane_of(scanner: &Scanner, target: Target, due: &DueConnection, now: DateTime<Utc>) -> Lane {
    match target {
        Target::Lane(lane) => lane,
        Target::NextAttempts => scanner.windows.lane_for(due.expires_at, now),
    }
}

fn message(
    scanner: &Scanner,
    provider: &Provider,
    target: Target,
    due: &DueConnection,
    now: DateTime<Utc>,
) -> RefreshMessage {
    let lane = lane_of(scanner, target, due, now);
    let due_at = match (target, due.expires_at) {
        (Target::Lane(lane), Some(expires_at)) => {
            let window = expires_at - scanner.windows.of(lane);
            due.refresh_at.map_or(window, |refresh_at| refresh_at.min(window))
        }
        (Target::NextAttempts, _) => due.next_attempt_at.or(due.refresh_at).unwrap_or(now),
        (Target::Lane(_), None) => due.refresh_at.unwrap_or(now),
    };
    RefreshMessage {
        v: VERSION,
        connection_id: due.connection_id,
        generation: due.generation.unwrap_or(freshet_shared::domain::connection::Generation::FIRST),
        provider: provider.name().to_owned(),
        lane,
        due_at,
    }
}
