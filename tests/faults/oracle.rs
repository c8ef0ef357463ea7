//! The oracle: the provider's ledger against the database against the cache against the queues.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use fred::interfaces::KeysInterface;
use freshet_shared::domain::sealing::SecretColumn;
use freshet_tests::model_provider::{Did, LedgerEntry};

use crate::arguments::Arguments;
use crate::explanations::{came, chronicle, quarantined, second_calls};
use crate::mischief::Done;
use crate::said::Again;
use crate::stage::{Stage, account_of, kind_of};

/// What was found, kind by kind; the first few of each by name.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) refreshed: u64,
    pub(crate) calls: u64,
    /// Second calls of a connection, by what explains them.
    pub(crate) explained: BTreeMap<&'static str, u64>,
    /// Messages that came again although they had been done, by what explains that.
    pub(crate) came_again: BTreeMap<&'static str, u64>,
    /// From the provider's answer to the row and the cache. Who dies before the row loses the answer.
    pub(crate) windows: Vec<Duration>,
    /// Processes that did not end in good order, because there was no database meanwhile.
    pub(crate) excused_ends: u64,
    /// Strict connections whose answer is lost, by what explains that.
    pub(crate) quarantined: BTreeMap<&'static str, u64>,
    /// Kinds of violations.
    pub(crate) violations: Vec<(&'static str, Vec<String>)>,
}

impl Verdict {
    /// Whether nothing happened that must not.
    pub(crate) fn is_clean(&self) -> bool {
        self.violations.iter().all(|(_, found)| found.is_empty())
    }
}

/// What lasts longer from a provider's answer to its row has a reason of its own.
const STORING: TimeDelta = TimeDelta::seconds(5);

struct Row {
    id: i64,
    access_token: Option<String>,
    refresh_token: Option<String>,
    generation: i64,
    state: String,
    is_due: bool,
}

/// Compares them all.
pub(crate) async fn judge(stage: &Stage, done: &Done, arguments: &Arguments) -> Result<Verdict> {
    let mut verdict = Verdict::default();
    let (mut lost, mut twice, mut stale, mut missing) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut unexplained, mut spent, mut due) = (Vec::new(), Vec::new(), Vec::new());
    let mut ledgers: Vec<HashMap<String, Vec<LedgerEntry>>> = Vec::new();
    for model in &stage.models {
        let mut ledger: HashMap<String, Vec<LedgerEntry>> = HashMap::new();
        for entry in model.ledger() {
            ledger.entry(entry.account.clone().unwrap_or_default()).or_default().push(entry);
        }
        ledgers.push(ledger);
    }
    let mut came_again: HashMap<i64, Vec<&Again>> = HashMap::new();
    for again in &done.said.came_again {
        came_again.entry(again.connection_id).or_default().push(again);
    }
    let mut done_again = Vec::new();
    let stored: HashMap<i64, DateTime<Utc>> =
        done.said.stored.iter().map(|stored| (stored.connection_id, stored.at)).collect();
    let since_when: HashMap<i64, DateTime<Utc>> = done.said.quarantined.iter().copied().collect();
    let may_take = TimeDelta::seconds(i64::try_from(arguments.call_seconds)?) + STORING;
    let cache = stage.cache().await?;
    for row in rows(stage).await? {
        let (kind, name) = kind_of(row.id);
        let (Some(model), Some(ledger)) = (stage.models.get(kind), ledgers.get(kind)) else { continue };
        let who = format!("{name} connection {}", row.id);
        let none = Vec::new();
        let calls = ledger.get(&account_of(row.id)).unwrap_or(&none);
        verdict.calls += calls.len() as u64;
        if calls.iter().any(|call| call.did == Did::ReuseDetected) {
            spent.push(who.clone());
        }
        // A call that spends is written down, and the second of two messages finds it.
        let doubled_since = done.added(row.id).filter(|_| name == "repeatable");
        for second in second_calls(calls, doubled_since, done) {
            match second {
                Ok(reason) => *verdict.explained.entry(reason).or_default() += 1,
                Err(what) => unexplained.push(format!("{who}: {what}")),
            }
        }
        for again in came_again.get(&row.id).into_iter().flatten() {
            match came(again, calls, done) {
                Ok(reason) => *verdict.came_again.entry(reason).or_default() += 1,
                Err(what) => done_again.push(format!("{who}: {what}")),
            }
        }
        let answered_after = TimeDelta::milliseconds(i64::try_from(arguments.latency)?);
        verdict.windows.extend(stored.get(&row.id).and_then(|at| window(calls, *at, answered_after)));
        match (row.generation, row.state.as_str()) {
            (1, "active") => verdict.refreshed += 1,
            (0, "quarantined") if name == "strict" => {
                match quarantined(since_when.get(&row.id).copied(), calls, may_take, done) {
                    Ok(reason) => *verdict.quarantined.entry(reason).or_default() += 1,
                    Err(what) => lost.push(format!("{who}: {what}")),
                }
                continue;
            }
            (2.., _) => twice.push(format!("{who}: generation {}", row.generation)),
            (generation, state) => {
                lost.push(format!("{who}: generation {generation}, {state}, {} calls", calls.len()));
                continue;
            }
        }
        let token = row.access_token.unwrap_or_default();
        let is_the_models = model.is_valid(&token);
        let is_newest = name != "strict" || row.refresh_token == model.refresh_token(&account_of(row.id));
        if !is_the_models || !is_newest {
            lost.push(format!("{who}: what is stored is not what the provider gave last"));
        }
        match cache.get::<Option<String>, _>(format!("connectionAccessToken_{}", row.id)).await? {
            Some(cached) if cached == token => {}
            Some(_) => stale.push(who.clone()),
            None => missing.push(who.clone()),
        }
        if row.is_due {
            due.push(who);
        }
    }
    let leftover: Vec<String> = stage
        .messages()
        .await?
        .into_iter()
        .filter(|(_, [all, ready, held])| *all != 0 || all - ready - held != 0)
        .map(|(queue, [all, ready, held])| format!("{queue}: {all}, of which {ready} ready and {held} held"))
        .collect();
    let bad_ends = bad_ends(done, &mut verdict);
    verdict.violations = vec![
        ("lost", lost),
        ("stored twice", twice),
        ("stale in the cache", stale),
        ("missing in the cache", missing),
        ("spent token presented", spent),
        ("second call unexplained", unexplained),
        ("ended message came again", done_again),
        ("left due", due),
        ("message left over", leftover),
        ("dead letter lost", done.lost_dead_letters.clone()),
        ("dead letters may be lost", unsafe_dead_letters(stage).await?),
        ("process did not end well", bad_ends),
        ("resumed late", late(&done.resumed_in).into_iter().collect()),
        ("did not recover", done.recovered_in.is_none().then(|| "in time".to_owned()).into_iter().collect()),
    ];
    Ok(verdict)
}

/// How long the answer that was stored by then had been on its way into row and cache; `None` where something was wrong with
/// it.
fn window(calls: &[LedgerEntry], stored: DateTime<Utc>, answered_after: TimeDelta) -> Option<Duration> {
    let call = calls.iter().rfind(|call| call.arrived_at <= stored)?;
    let is_granted = matches!(call.did, Did::Granted { .. }) && call.fault.is_none();
    is_granted.then(|| (stored - call.arrived_at - answered_after).to_std().ok())?
}

/// Those that nothing excuses.
fn bad_ends(done: &Done, verdict: &mut Verdict) -> Vec<String> {
    let mut bad = Vec::new();
    for end in &done.ends {
        let Some(wrong) = &end.wrong else { continue };
        if done.events.iter().any(|event| event.excuses(&end.who, end.asked, end.ended)) {
            verdict.excused_ends += 1;
        } else {
            let meanwhile = chronicle(end.asked, end.ended, done);
            bad.push(format!("{}: {wrong} (asked at {}){meanwhile}", end.who, end.asked));
        }
    }
    bad
}

/// How late is too late, of a hundred times the broker comes back once.
const RESUMED_WITHIN: Duration = Duration::from_secs(15);

fn late(resumed_in: &[Duration]) -> Option<String> {
    let [_, p99, _] = quantiles(resumed_in)?;
    (p99 > RESUMED_WITHIN).then(|| format!("p99 is {:.1} s", p99.as_secs_f64()))
}

/// The median, the 99th percentile and the longest of them; `None` of none.
pub(crate) fn quantiles(of: &[Duration]) -> Option<[Duration; 3]> {
    let mut sorted = of.to_vec();
    sorted.sort_unstable();
    // The nearest rank: of fewer than a hundred the 99th percentile is the longest.
    let at = |percent: usize| sorted.get((sorted.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    Some([at(50)?, at(99)?, at(100)?])
}

/// The broker loses dead letters where it is killed, unless their queue says otherwise.
async fn unsafe_dead_letters(stage: &Stage) -> Result<Vec<String>> {
    let queues = stage.management.get("api/queues").await?;
    let empty = Vec::new();
    let unsafe_ones = queues.as_array().unwrap_or(&empty).iter().filter_map(|queue| {
        let arguments = queue.get("arguments")?;
        arguments.get("x-dead-letter-exchange")?;
        let strategy = arguments.get("x-dead-letter-strategy").and_then(serde_json::Value::as_str);
        (strategy != Some("at-least-once")).then(|| queue.get("name")?.as_str().map(str::to_owned))?
    });
    Ok(unsafe_ones.collect())
}

async fn rows(stage: &Stage) -> Result<Vec<Row>> {
    const QUERY: &str = "SELECT k.id, k.accessToken, k.refreshToken, COALESCE(r.generation, 0) AS generation, \
        COALESCE(r.state, 'not enrolled') AS state, CAST(COALESCE(r.queued_until IS NOT NULL OR r.next_attempt_at IS NOT NULL \
        OR k.accessTokenExpiryAt < UTC_TIMESTAMP() + INTERVAL 30 MINUTE, 1) AS SIGNED) AS is_due \
        FROM ie_appinstall_connection k LEFT JOIN token_refresh r ON r.connection_id = k.id ORDER BY k.id";
    let read = |row: &sea_orm::QueryResult| {
        let id = row.try_get("", "id")?;
        let token = |column: SecretColumn| stage.opened(id, column, row.try_get("", column.as_str())?);
        Ok(Row {
            id,
            access_token: token(SecretColumn::AccessToken)?,
            refresh_token: token(SecretColumn::RefreshToken)?,
            generation: row.try_get("", "generation")?,
            state: row.try_get("", "state")?,
            is_due: row.try_get::<i64>("", "is_due")? != 0,
        })
    };
    stage.query(QUERY).await?.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_nearest_ranks() {
        let seconds =
            |numbers: std::ops::RangeInclusive<u64>| numbers.map(Duration::from_secs).collect::<Vec<_>>();
        assert_eq!(quantiles(&[]), None);
        assert_eq!(quantiles(&seconds(1..=20)), Some([10, 20, 20].map(Duration::from_secs)));
        assert_eq!(quantiles(&seconds(1..=1_000)), Some([500, 990, 1_000].map(Duration::from_secs)));
        assert!(late(&seconds(1..=16)).is_some() && late(&seconds(1..=15)).is_none());
    }
}
