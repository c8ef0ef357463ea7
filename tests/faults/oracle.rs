//! The oracle: the provider's ledger against the database against the cache against the queues.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use fred::interfaces::KeysInterface;
use freshet_tests::model_provider::{Did, LedgerEntry};

use crate::arguments::Arguments;
use crate::events::{Event, What, Whom};
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
    /// Strict connections whose answer died with its worker.
    pub(crate) quarantined: u64,
    /// Tokens that Redis lost when it was killed, and that their next refresh writes.
    pub(crate) uncached: u64,
    /// Kinds of violations.
    pub(crate) violations: Vec<(&'static str, Vec<String>)>,
}

impl Verdict {
    /// Whether nothing happened that must not.
    pub(crate) fn is_clean(&self) -> bool {
        self.violations.iter().all(|(_, found)| found.is_empty())
    }
}

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
    let (mut lost, mut twice, mut stale, mut unexplained, mut spent, mut due) =
        (Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new());
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
        let added = added(row.id, done);
        // A call that spends is written down, and the second of two messages finds it.
        let doubled_since = added.filter(|_| name == "repeatable");
        explain(&who, calls, doubled_since, done, &mut verdict, &mut unexplained);
        for again in came_again.get(&row.id).into_iter().flatten() {
            explain_again(&who, again, calls, done, &mut verdict, &mut done_again);
        }
        let answered_after = TimeDelta::milliseconds(i64::try_from(arguments.latency)?);
        verdict.windows.extend(stored.get(&row.id).and_then(|at| window(calls, *at, answered_after)));
        match (row.generation, row.state.as_str()) {
            (1, "active") => verdict.refreshed += 1,
            (0, "quarantined") if name == "strict" && is_window(calls) => {
                verdict.quarantined += 1;
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
            None => verdict.uncached += 1,
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
    // Without a kill of Redis nothing is missing in it.
    let was_emptied = done.counts.iter().any(|(name, count)| *name == "Redis kills" && *count > 0);
    let missing = (!was_emptied && verdict.uncached > 0).then(|| format!("{} tokens", verdict.uncached));
    let bad_ends = bad_ends(done, &mut verdict);
    verdict.violations = vec![
        ("lost", lost),
        ("stored twice", twice),
        ("stale in the cache", stale),
        ("missing in the cache", missing.into_iter().collect()),
        ("spent token presented", spent),
        ("second call unexplained", unexplained),
        ("done message came again", done_again),
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

/// Each call but the first one needs a reason: the provider was told to fail the one before it, something hit the worker
/// that made it before the next one came, the worker that made the next one stood still meanwhile, or there may be two messages
/// since `doubled_since`. That a worker was asked to end is none.
fn explain(
    who: &str,
    calls: &[LedgerEntry],
    doubled_since: Option<DateTime<Utc>>,
    done: &Done,
    verdict: &mut Verdict,
    unexplained: &mut Vec<String>,
) {
    for pair in calls.windows(2) {
        let [before, after] = pair else { continue };
        let caller = before.caller.as_deref().unwrap_or_default();
        let reason = match before.fault {
            Some(_) => Some("the provider failed"),
            None => what_hit(caller, before.arrived_at, after.arrived_at, done)
                .or_else(|| what_held_up(after, before.arrived_at, done))
                .or_else(|| what_doubled(doubled_since, after.arrived_at, done)),
        };
        match reason {
            Some(reason) => *verdict.explained.entry(reason).or_default() += 1,
            None => unexplained.push(format!(
                "{who}: {caller} at {}, {:?}; {} at {}",
                before.arrived_at,
                before.sent,
                after.caller.as_deref().unwrap_or_default(),
                after.arrived_at
            )),
        }
    }
}

/// What hit this worker between its call and the next thing that happened to the connection.
fn what_hit(caller: &str, call: DateTime<Utc>, next: DateTime<Utc>, done: &Done) -> Option<&'static str> {
    let explains = |event: &&Event| event.explains(caller, call, next);
    let of_worker = |event: &&Event| matches!(event.whom, Whom::Worker(_));
    let events = || done.events.iter().filter(explains);
    events().find(of_worker).or_else(|| events().next()).map(|event| event.what.as_str())
}

/// Whoever stood still between its look at the row and its call does not know of one that was made meanwhile.
fn what_held_up(call: &LedgerEntry, before: DateTime<Utc>, done: &Done) -> Option<&'static str> {
    let caller = call.caller.as_deref().unwrap_or_default();
    let explains = |event: &&Event| {
        event.what == What::WorkerStoodStill && event.explains(caller, before, call.arrived_at)
    };
    done.events.iter().find(explains).map(|event| event.what.as_str())
}

/// A message that was done comes again only if something hit the worker that did it before the broker knew, or if there are
/// two of it: what the broker took in and could not confirm is published again, and the first one may wait anywhere.
fn explain_again(
    who: &str,
    again: &Again,
    calls: &[LedgerEntry],
    done: &Done,
    verdict: &mut Verdict,
    unexplained: &mut Vec<String>,
) {
    let before = calls.iter().rfind(|call| call.arrived_at <= again.at);
    let caller = before.and_then(|call| call.caller.as_deref()).unwrap_or_default();
    let reason = before
        .and_then(|call| what_hit(caller, call.arrived_at, again.at, done))
        .or_else(|| what_doubled(added(again.connection_id, done), again.at, done));
    match reason {
        Some(reason) => *verdict.came_again.entry(reason).or_default() += 1,
        None => {
            let at = before.map(|call| call.arrived_at.to_string()).unwrap_or_default();
            unexplained
                .push(format!("{who}: done by {caller} at {at}; came to {} at {}", again.to, again.at));
        }
    }
}

/// What may have kept the broker's confirmation from the producer since the connection is there.
fn what_doubled(added: Option<DateTime<Utc>>, until: DateTime<Utc>, done: &Done) -> Option<&'static str> {
    let added = added?;
    let doubles = |event: &&Event| {
        matches!(event.what, What::BrokerAway | What::NetworkFailing) && event.explains("", added, until)
    };
    done.events.iter().find(doubles).map(|event| event.what.as_str())
}

fn added(connection_id: i64, done: &Done) -> Option<DateTime<Utc>> {
    done.waves.iter().rfind(|(first, _)| *first <= connection_id).map(|(_, at)| *at)
}

/// Those that nothing excuses.
fn bad_ends(done: &Done, verdict: &mut Verdict) -> Vec<String> {
    let mut bad = Vec::new();
    for end in &done.ends {
        let Some(wrong) = &end.wrong else { continue };
        if done.events.iter().any(|event| event.excuses(end.asked, end.ended)) {
            verdict.excused_ends += 1;
        } else {
            bad.push(format!("{wrong} (asked at {})", end.asked));
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

/// Whether a token was spent by a call whose answer nobody could store: the window that cannot be closed. A call that was
/// written down and never sent looks alike from here.
fn is_window(calls: &[LedgerEntry]) -> bool {
    calls.iter().filter(|call| matches!(call.did, Did::Granted { .. })).count() <= 1
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
        Ok(Row {
            id: row.try_get("", "id")?,
            access_token: row.try_get("", "accessToken")?,
            refresh_token: row.try_get("", "refreshToken")?,
            generation: row.try_get("", "generation")?,
            state: row.try_get("", "state")?,
            is_due: row.try_get::<i64>("", "is_due")? != 0,
        })
    };
    stage.query(QUERY).await?.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use freshet_tests::fleet::now;

    use super::*;

    #[test]
    fn a_message_is_doubled_only_by_what_happened_since_its_connection_is_there() {
        let seconds = TimeDelta::seconds;
        let begun = now();
        let away = |what| Event::since(begun - seconds(10), what, Whom::Everyone);
        let done = |what| Done {
            waves: vec![(1, begun - seconds(60)), (201, begun + seconds(60))],
            events: vec![away(what)],
            ..Done::default()
        };
        let doubled =
            |connection_id, until, done: &Done| what_doubled(added(connection_id, done), until, done);
        let late = begun + seconds(120);
        assert_eq!(doubled(200, late, &done(What::BrokerAway)), Some("broker away"));
        assert!(doubled(200, late, &done(What::NetworkFailing)).is_some());
        assert_eq!(doubled(201, late, &done(What::BrokerAway)), None, "it came after");
        assert_eq!(doubled(200, begun - seconds(30), &done(What::BrokerAway)), None, "before");
        assert_eq!(doubled(200, late, &done(What::RedisAway)), None);
    }

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
