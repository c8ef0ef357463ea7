//! When to scan: each lane on its cron expression, next attempts every few seconds.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use croner::Cron;
use freshet_shared::domain::lane::Lane;
use tokio_util::sync::CancellationToken;

use crate::grants::{take_watch_turn, warn_of_ending_grants};
use crate::scan::{Scanner, Target, scan};

/// Failed attempts are pruned about this often.
const PRUNE_EVERY: TimeDelta = TimeDelta::hours(1);
/// Refresh tokens that die soon are warned of this often.
const WARN_EVERY: TimeDelta = TimeDelta::hours(1);

/// The walk over refresh tokens that nobody watches yet begins this often.
const WATCH_EVERY: TimeDelta = TimeDelta::hours(1);
/// A producer that does not lead shows that it lives about this often.
const STANDS_BY: Duration = Duration::from_secs(30);

/// When each target is scanned.
pub struct Schedule {
    /// The early lane's cron expression, in UTC.
    pub early: Cron,
    /// The urgent lane's.
    pub urgent: Cron,
    /// Interval of the scan for next attempts.
    pub retry_every: TimeDelta,
    /// How long failed attempts are kept.
    pub history: TimeDelta,
    /// How long before its death a refresh token is warned of.
    pub grant_warning: TimeDelta,
}

impl Schedule {
    /// When `target` is to be scanned next after `now`; `None` for an expression that never comes round again.
    fn next(&self, target: Target, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        match target {
            Target::Lane(Lane::Early) => self.early.find_next_occurrence(&now, false).ok(),
            Target::Lane(Lane::Urgent) => self.urgent.find_next_occurrence(&now, false).ok(),
            Target::NextAttempts => Some(now + self.retry_every),
        }
    }
}

/// Scans on schedule until `shutdown`. A scan that is running ends with the page that it is at; one whose time came while another was running
/// is made up for once, however often it came. While another producer leads, nothing is scanned; what came meanwhile is made
/// up for once, too.
pub async fn run(scanner: &Scanner, schedule: &Schedule, shutdown: &CancellationToken) {
    let standing_down = async {
        shutdown.cancelled().await;
        scanner.leadership.stand_down();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = scan_on_schedule(scanner, schedule, shutdown) => {}
        () = standing_down => {}
    }
}

async fn scan_on_schedule(scanner: &Scanner, schedule: &Schedule, shutdown: &CancellationToken) {
    let start = scanner.clock.now();
    // After a restart nobody should wait for the next full hour.
    let mut next: Vec<_> = Target::ALL.into_iter().map(|target| (target, Some(start))).collect();
    let (mut prune_at, mut warn_at, mut watch_at) = (start, start, start);
    let mut watched_until = None;
    while !shutdown.is_cancelled() {
        if !scanner.leadership.leads() {
            scanner.activity.leads(false);
            scanner.activity.sleeps(STANDS_BY);
            tokio::select! {
                () = scanner.leadership.elected() => {}
                () = scanner.clock.sleep(STANDS_BY) => {}
                () = shutdown.cancelled() => {}
            }
            continue;
        }
        scanner.activity.leads(true);
        let now = scanner.clock.now();
        for (target, at) in &mut next {
            if at.is_some_and(|at| at <= now) && !shutdown.is_cancelled() {
                scan_once(scanner, *target).await;
                *at = schedule.next(*target, now);
            }
            // A clock that was set back must not keep us waiting for a time that lies far ahead now.
            *at = (*at).min(schedule.next(*target, now)).or(*at);
        }
        scanner.activity.steps();
        if prune_at <= now {
            // As long as there is more, it goes on with the next turn.
            let is_done = prune(scanner, now - schedule.history).await;
            prune_at = if is_done { now + PRUNE_EVERY } else { now };
        }
        if warn_at <= now {
            warn_of_ending_grants(scanner, now, now + schedule.grant_warning).await;
            warn_at = now + WARN_EVERY;
        }
        if watch_at <= now {
            // A bounded part of the fleet, so that no scan waits for long.
            watched_until = take_watch_turn(scanner, watched_until).await;
            watch_at = now + watched_until.map_or(WATCH_EVERY, |_| schedule.retry_every);
        }
        let others = [prune_at, warn_at, watch_at];
        let soonest = next.iter().filter_map(|(_, at)| *at).chain(others).min().unwrap_or(prune_at);
        let wait = (soonest - scanner.clock.now()).to_std().unwrap_or(Duration::ZERO);
        scanner.activity.sleeps(wait);
        tokio::select! {
            () = scanner.clock.sleep(wait) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

async fn scan_once(scanner: &Scanner, target: Target) {
    let begun = tokio::time::Instant::now();
    let result = scan(scanner, target).await;
    scanner.metrics.note(target, &result, begun.elapsed(), scanner.clock.now());
    scanner.activity.answered(result.is_ok());
    match result {
        Ok(report) if report.found > 0 || report.unreadable > 0 => {
            tracing::info!(scan = %target, "scanned: {report}")
        }
        Ok(report) => tracing::debug!(scan = %target, "scanned: {report}"),
        // Whatever was not found now is found by the next scan.
        Err(error) => tracing::error!(scan = %target, %error, "scan ended early"),
    }
}

/// `true` once nothing is left to prune, or the database does not answer.
async fn prune(scanner: &Scanner, before: DateTime<Utc>) -> bool {
    match scanner.store.prune_attempts(before).await {
        Ok(0) => return true,
        Ok(count) => {
            tracing::info!(count, "pruned the history of failed attempts");
            return false;
        }
        Err(error) => tracing::warn!(%error, "history of failed attempts not pruned"),
    }
    true
}
