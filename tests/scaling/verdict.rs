//! What came of it: the provider's ledger against the database, and the workers against their ScaledObject.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Result;
use chrono::TimeDelta;
use freshet_tests::model_provider::Did;

use crate::play::{Played, Seen};
use crate::scenario::{CALL, Provider, Scenario};
use crate::stage::{Stage, account_of};

/// What a play came to.
pub(crate) struct Verdict {
    /// Names and values, in the order in which they are told.
    pub(crate) figures: Vec<(&'static str, String)>,
    /// Kinds of what must not happen, and where it did.
    pub(crate) violations: Vec<(&'static str, Vec<String>)>,
}

impl Verdict {
    /// Whether nothing happened that must not.
    pub(crate) fn is_clean(&self) -> bool {
        self.violations.iter().all(|(_, found)| found.is_empty())
    }
}

/// Compares all of it.
pub(crate) async fn judge(
    stage: &Stage,
    scenario: &Scenario,
    least: u32,
    played: &Played,
) -> Result<Verdict> {
    let (mut lost, mut twice, mut late) = (Vec::new(), Vec::new(), Vec::new());
    let mut grants: HashMap<String, Vec<_>> = HashMap::new();
    let ledger = stage.model.ledger();
    for entry in &ledger {
        if let (Some(account), Did::Granted { .. }) = (&entry.account, entry.did) {
            grants.entry(account.clone()).or_default().push(entry.arrived_at);
        }
    }
    let granted: usize = grants.values().map(Vec::len).sum();
    let mut tightest = TimeDelta::MAX;
    let query = "SELECT k.id AS id, k.accessToken AS token, COALESCE(r.generation, 0) AS generation \
         FROM ie_appinstall_connection k LEFT JOIN token_refresh r ON r.connection_id = k.id ORDER BY k.id";
    let rows = stage.query(query).await?;
    for (row, expiry) in rows.iter().zip(&played.expiries) {
        let (id, generation): (i64, i64) = (row.try_get("", "id")?, row.try_get("", "generation")?);
        let token: Option<String> = row.try_get("", "token")?;
        let calls = grants.get(&account_of(id)).map_or(&[][..], Vec::as_slice);
        if generation == 0 || !token.is_some_and(|token| stage.model.is_valid(&token)) {
            lost.push(format!("connection {id}: generation {generation}, granted {} times", calls.len()));
        } else if calls.len() != 1 || generation != 1 {
            twice.push(format!("connection {id}: generation {generation}, granted {} times", calls.len()));
        }
        if let Some(first) = calls.first() {
            let left = *expiry - *first - TimeDelta::from_std(CALL)?;
            tightest = tightest.min(left);
            if left <= TimeDelta::zero() {
                late.push(format!("connection {id}: {} s", -left.num_seconds()));
            }
        }
    }
    let least_valid = played.seen.iter().map(|seen| seen.valid).fold(100.0, f64::min);
    if least_valid < 100.0 && late.is_empty() {
        late.push(format!("only {least_valid:.2} of a hundred tokens were good at a time"));
    }
    let queues = stage.messages().await?.into_iter().filter(|(_, messages)| *messages > 0);
    let left = queues.map(|(queue, messages)| format!("{queue}: {messages}")).collect();
    let departures = &played.departures;
    let most = played.seen.iter().map(|seen| seen.replicas).max().unwrap_or_default();
    let mut unplayed = Vec::new();
    if most <= least + 1 {
        unplayed.push(format!("there were never more than {most} workers"));
    }
    if departures.busy == 0 {
        unplayed.push(format!("none of the {} workers that were ended was busy", departures.number));
    }
    let minutes = |left: TimeDelta| left.as_seconds_f64() * scenario.speed / 60.0;
    let figures = vec![
        ("connections that came due", played.expiries.len().to_string()),
        ("calls", ledger.len().to_string()),
        ("tokens granted", granted.to_string()),
        ("most messages at a time", most_messages(&played.seen).to_string()),
        ("workers", format!("{least} to {most}")),
        ("workers ended", departures.number.to_string()),
        ("of them busy", departures.busy.to_string()),
        ("refreshes in their hands", departures.in_hand.to_string()),
        ("longest end", format!("{:.1} s", departures.longest.as_secs_f64())),
        ("least left of a token", format!("{:.1} min", minutes(tightest))),
    ];
    let violations = vec![
        ("tokens lost", lost),
        ("granted twice", twice),
        ("expired", late),
        ("left in queues", left),
        ("workers that ended badly", departures.bad.clone()),
        ("scaled out in an outage", grown(scenario, &played.seen)),
        ("not rehearsed", unplayed),
    ];
    Ok(Verdict { figures, violations })
}

fn most_messages(seen: &[Seen]) -> u64 {
    seen.iter().map(|seen| seen.depth).fold(0.0, f64::max) as u64
}

/// Outages at whose end there had been more workers than at their begin.
fn grown(scenario: &Scenario, seen: &[Seen]) -> Vec<String> {
    let outages = scenario.plan().filter(|(.., phase)| phase.provider != Provider::Serves);
    let grown = outages.filter_map(|(from, until, _)| {
        let before = seen.iter().rfind(|seen| seen.minute < from)?.replicas;
        let within = seen.iter().filter(|seen| seen.minute >= from && seen.minute < until);
        let most = within.map(|seen| seen.replicas).max()?;
        (most > before).then(|| format!("minutes {from} to {until}: from {before} to {most} workers"))
    });
    grown.collect()
}

/// Prints it.
#[expect(clippy::print_stdout, reason = "the table is what was asked for")]
pub(crate) fn print(verdict: &Verdict, took: Duration) {
    let line = |name: &str, value: &str| println!("{name:<28} {value:>14}");
    for (name, value) in &verdict.figures {
        line(name, value);
    }
    line("took", &format!("{} s", took.as_secs()));
    println!("{}", "-".repeat(43));
    for (name, found) in &verdict.violations {
        line(name, &found.len().to_string());
        for one in found.iter().take(5) {
            println!("    {one}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outage_in_which_workers_are_added_is_found() {
        let scenario = Scenario::of(true);
        let seen =
            |minute: f64, replicas: u32| Seen { minute, depth: 0.0, replicas, soonest: 1.0, valid: 100.0 };
        assert_eq!(grown(scenario, &[seen(13.9, 3), seen(14.1, 3), seen(16.0, 2), seen(17.5, 6)]).len(), 0);
        assert_eq!(grown(scenario, &[seen(13.9, 3), seen(14.1, 3), seen(16.0, 4), seen(17.5, 4)]).len(), 1);
    }
}
