//! What a run came to, and its exit code.

use std::process::ExitCode;
use std::time::Duration;

use freshet_shared::ports::store::Census;
use freshet_worker::pool::PoolReport;
use serde::Serialize;

use super::tally::Tally;
use crate::arguments::ReportForm;

/// The report; in JSON one object with these members.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Report {
    /// Active connections.
    connections: u64,
    /// Connections with a token that has not expired, at the end.
    valid_now: u64,
    /// Connections whose token had expired at the end, or that had none.
    expired_now: u64,
    /// Tokens that expired during the run before they were renewed.
    expired_before_refresh: u64,
    /// Tokens that expired during the run although their provider answered.
    expired_while_provider_answered: u64,
    /// Tokens renewed.
    refreshed: u64,
    /// Attempts that failed and were planned again.
    retried: u64,
    /// Connections whose last attempt had failed at the end.
    failed: u64,
    /// Grants that came second to another.
    stale: u64,
    /// Messages that asked for nothing.
    skipped: u64,
    /// Messages put aside as unreadable.
    dead_letters: u64,
    /// Refreshes that were cut off by the end.
    abandoned: u64,
    /// Time of a refresh, from the message to its settlement: median.
    p50_ms: f64,
    /// The same, 99th percentile.
    p99_ms: f64,
    /// How long it ran.
    seconds: f64,
    /// Tokens renewed per second, over the whole run.
    refreshed_per_second: f64,
}

impl Report {
    /// A simulated provider always answers; a real one is excused where the connection's last failure was its fault.
    pub(super) fn new(
        census: &Census,
        tally: &Tally,
        pool: &PoolReport,
        expired_here: Vec<i64>,
        elapsed: Duration,
        is_simulated: bool,
    ) -> Self {
        let counts = tally.counts();
        let is_excused =
            |id: &i64| !is_simulated && counts.failing.get(id).is_some_and(|class| class.is_providers());
        let still_expired = expired_here.len() as u64;
        let excused = expired_here.iter().filter(|id| is_excused(id)).count() as u64
            + if is_simulated { 0 } else { counts.expired_by_provider };
        let expired_before_refresh = counts.expired_before_refresh + still_expired;
        let seconds = elapsed.as_secs_f64();
        Self {
            connections: census.connections,
            valid_now: census.valid,
            expired_now: census.expired(),
            expired_before_refresh,
            expired_while_provider_answered: expired_before_refresh.saturating_sub(excused),
            refreshed: counts.refreshed,
            retried: counts.retried,
            failed: counts.failing.len() as u64,
            stale: counts.stale,
            skipped: counts.skipped,
            dead_letters: counts.dead_letters,
            abandoned: pool.abandoned,
            p50_ms: milliseconds(counts.elapsed.value_at_quantile(0.5)),
            p99_ms: milliseconds(counts.elapsed.value_at_quantile(0.99)),
            seconds: rounded(seconds),
            refreshed_per_second: rounded(as_float(counts.refreshed) / seconds.max(0.001)),
        }
    }

    /// 0 only if no token expired while its provider answered.
    pub(super) fn exit_code(&self) -> ExitCode {
        ExitCode::from(u8::from(self.expired_while_provider_answered > 0))
    }

    #[expect(clippy::print_stdout, reason = "the report is what was asked for")]
    pub(super) fn print(&self, form: ReportForm) {
        match form {
            // Numbers always have a JSON form.
            ReportForm::Json => println!("{}", serde_json::to_string(self).unwrap_or_default()),
            ReportForm::Text => println!("{}", self.text()),
        }
    }

    fn text(&self) -> String {
        let verdict = match self.expired_while_provider_answered {
            0 => "No token expired while its provider answered.".to_owned(),
            count => format!("{count} tokens expired although their provider answered."),
        };
        [
            format!(
                "connections  {:>10}   valid now {}, expired now {}",
                self.connections, self.valid_now, self.expired_now
            ),
            format!(
                "refreshed    {:>10}   in {} s, {} per second",
                self.refreshed, self.seconds, self.refreshed_per_second
            ),
            format!("retried      {:>10}   attempts that failed and were planned again", self.retried),
            format!(
                "failed       {:>10}   connections whose last attempt had failed at the end",
                self.failed
            ),
            format!("refresh time p50 {} ms, p99 {} ms", self.p50_ms, self.p99_ms),
            verdict,
        ]
        .join("\n")
    }
}

#[expect(clippy::cast_precision_loss, reason = "counts of a run are far below 2^52")]
fn as_float(count: u64) -> f64 {
    count as f64
}

fn milliseconds(microseconds: u64) -> f64 {
    rounded(as_float(microseconds) / 1_000.0)
}

fn rounded(value: f64) -> f64 {
    (value * 100.0).round() / 100.0
}
