//! The oracle: the provider's ledger against the database against the cache against the queues.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::TimeDelta;
use fred::interfaces::KeysInterface;
use freshet_shared::domain::sealing::SecretColumn;
use freshet_tests::model_provider::{Did, LedgerEntry, ModelProvider};
use freshet_tests::waiting::eventually;

use crate::arguments::Arguments;
use crate::ends;
use crate::explanations::{Past, Reasons};
use crate::mischief::Done;
use crate::said::{self, Delivered, End, Job, Quarantined, Written};
use crate::stage::{LENIENT, Messages, REPEATABLE, STRICT, Stage, account_of, kind_of};

/// What was found, kind by kind; the first few of each by name.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) refreshed: u64,
    pub(crate) calls: u64,
    /// Second calls of a connection, by what explains them.
    pub(crate) explained: BTreeMap<&'static str, u64>,
    /// Messages that came again although they had been done, by what explains that.
    pub(crate) came_again: BTreeMap<&'static str, u64>,
    /// From when the provider answers to when the worker says that row and cache have it, as [`window`] measures it. Who dies
    /// before the row loses the answer.
    pub(crate) windows: Vec<Duration>,
    /// The same from when such a call has been written down: who dies in between loses the answer.
    pub(crate) whole_windows: Vec<Duration>,
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

/// A broker has statistics by then.
const COUNTED_WITHIN: Duration = Duration::from_secs(60);

/// As the row says it.
const QUARANTINED: &str = "quarantined";

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

/// What is known of all connections, by their ids or accounts.
#[derive(Default)]
struct Pasts<'a> {
    /// By kind of connection, then by account.
    calls: Vec<HashMap<String, Vec<LedgerEntry>>>,
    jobs: HashMap<i64, Vec<&'a Job>>,
    written: HashMap<i64, Vec<&'a Written>>,
    quarantined: HashMap<i64, &'a Quarantined>,
}

impl<'a> Pasts<'a> {
    fn gather(stage: &Stage, done: &'a Done) -> Self {
        let mut pasts = Self::default();
        for model in &stage.models {
            let mut ledger: HashMap<String, Vec<LedgerEntry>> = HashMap::new();
            for entry in model.ledger() {
                ledger.entry(entry.account.clone().unwrap_or_default()).or_default().push(entry);
            }
            pasts.calls.push(ledger);
        }
        for job in &done.said.jobs {
            pasts.jobs.entry(job.connection_id).or_default().push(job);
        }
        for written in &done.said.written {
            pasts.written.entry(written.connection_id).or_default().push(written);
        }
        // Each worker was heard of at its own end.
        pasts.jobs.values_mut().for_each(|jobs| jobs.sort_by_key(|job| job.at));
        pasts.quarantined = done.said.quarantined.iter().map(|lost| (lost.connection_id, lost)).collect();
        pasts
    }

    fn of(&self, connection_id: i64) -> Past<'_> {
        let (kind, _) = kind_of(connection_id);
        let calls = self.calls.get(kind).and_then(|ledger| ledger.get(&account_of(connection_id)));
        let jobs = self.jobs.get(&connection_id);
        Past { calls: calls.map_or(&[], Vec::as_slice), jobs: jobs.map_or(&[], Vec::as_slice) }
    }
}

/// What is found out row by row.
#[derive(Default)]
struct Found {
    lost: Vec<String>,
    twice: Vec<String>,
    stale: Vec<String>,
    missing: Vec<String>,
    unexplained: Vec<String>,
    done_again: Vec<String>,
    spent: Vec<String>,
    due: Vec<String>,
}

/// Compares them all.
pub(crate) async fn judge(stage: &Stage, done: &Done, arguments: &Arguments) -> Result<Verdict> {
    let (mut verdict, mut found) = (Verdict::default(), Found::default());
    let pasts = Pasts::gather(stage, done);
    let may_take = TimeDelta::seconds(i64::try_from(arguments.call_seconds)?) + STORING;
    let reasons = Reasons { done, may_take };
    let answered_after = TimeDelta::milliseconds(i64::try_from(arguments.latency)?);
    let cache = stage.cache().await?;
    for row in rows(stage).await? {
        let past = pasts.of(row.id);
        judge_calls(&row, past, &reasons, &mut verdict, &mut found);
        verdict.windows.extend(window(past, answered_after));
        let written = pasts.written.get(&row.id).map_or(&[][..], Vec::as_slice);
        verdict.whole_windows.extend(whole_window(past, written));
        judge_row(&row, pasts.quarantined.get(&row.id).copied(), past, &reasons, &mut verdict, &mut found);
        if row.generation > 0 && !is_what_the_provider_gave(&row, &stage.models, past) {
            found.lost.push(format!("{}: what is stored is not what the provider gave last", who(&row)));
        }
        let cached = cache.get::<Option<String>, _>(format!("connectionAccessToken_{}", row.id)).await?;
        judge_cache(&row, cached.as_deref(), past, &reasons, &mut found);
    }
    let counting = "the broker counts its messages";
    let leftover = leftover(eventually(counting, COUNTED_WITHIN, async || stage.messages().await).await);
    let bad_ends = ends::bad_ends(&reasons, &mut verdict.excused_ends);
    let gave_up = done.gave_up.iter().filter_map(|gone| reasons.of_giving_up(gone).err()).collect();
    verdict.violations = vec![
        ("lost", found.lost),
        ("stored twice", found.twice),
        ("stale in the cache", found.stale),
        ("missing in the cache", found.missing),
        ("spent token presented", found.spent),
        ("second call unexplained", found.unexplained),
        ("ended message came again", found.done_again),
        ("left due", found.due),
        ("message left over", leftover),
        ("dead letter lost", done.lost_dead_letters.clone()),
        ("dead letters may be lost", unsafe_dead_letters(stage).await?),
        ("process did not end well", bad_ends),
        ("job begun and dropped at SIGTERM", ends::dropped(done)),
        ("gave up without reason", gave_up),
        (
            "resumed late",
            [&done.resumed_in, &done.all_resumed_in].into_iter().filter_map(|times| late(times)).collect(),
        ),
        ("did not recover", done.recovered_in.is_none().then(|| "in time".to_owned()).into_iter().collect()),
    ];
    Ok(verdict)
}

fn who(row: &Row) -> String {
    format!("{} connection {}", kind_of(row.id).1, row.id)
}

/// What happened on the way to what stands in the row.
fn judge_calls(row: &Row, past: Past<'_>, reasons: &Reasons<'_>, verdict: &mut Verdict, found: &mut Found) {
    verdict.calls += past.calls.len() as u64;
    if past.calls.iter().any(|call| call.did == Did::ReuseDetected) {
        found.spent.push(who(row));
    }
    // A call that spends is written down, and the second of two messages finds it.
    let doubled_since = reasons.done.added(row.id).filter(|_| kind_of(row.id).1 == REPEATABLE);
    for second in reasons.of_second_calls(past, doubled_since) {
        match second {
            Ok(reason) => *verdict.explained.entry(reason).or_default() += 1,
            Err(what) => found.unexplained.push(format!("{}: {what}", who(row))),
        }
    }
    for job in past.jobs {
        let End::Nothing(stood, Delivered::Again) = job.end else { continue };
        if stood == said::Found::Other {
            continue;
        }
        match reasons.of_coming_again(job, stood, past) {
            Ok(reason) => *verdict.came_again.entry(reason).or_default() += 1,
            Err(what) => found.done_again.push(format!("{}: {what}", who(row))),
        }
    }
}

/// What stands in the row, without its tokens.
fn judge_row(
    row: &Row,
    quarantined: Option<&Quarantined>,
    past: Past<'_>,
    reasons: &Reasons<'_>,
    verdict: &mut Verdict,
    found: &mut Found,
) {
    match (row.generation, row.state.as_str()) {
        (1, "active") => verdict.refreshed += 1,
        (0, QUARANTINED) if kind_of(row.id).1 == STRICT => {
            match reasons.of_quarantine(quarantined, past) {
                Ok(reason) => *verdict.quarantined.entry(reason).or_default() += 1,
                Err(what) => found.lost.push(format!("{}: {what}", who(row))),
            }
            return;
        }
        (2.., _) => found.twice.push(format!("{}: generation {}", who(row), row.generation)),
        (generation, state) => {
            let calls = past.calls.len();
            found.lost.push(format!("{}: generation {generation}, {state}, {calls} calls", who(row)));
            return;
        }
    }
    if row.is_due {
        found.due.push(who(row));
    }
}

/// What the cache holds beside the row.
fn judge_cache(row: &Row, cached: Option<&str>, past: Past<'_>, reasons: &Reasons<'_>, found: &mut Found) {
    let kind = match in_cache(row, cached) {
        Cached::Right => return,
        Cached::Stale => &mut found.stale,
        Cached::Missing => &mut found.missing,
    };
    kind.push(who(row) + &of_cache(past, reasons));
}

/// Queues that are not empty, or of which nobody knows it.
fn leftover(messages: Result<Messages>) -> Vec<String> {
    let messages = match messages {
        Ok(messages) => messages,
        Err(error) => return vec![format!("nobody knows: {error:#}")],
    };
    let left = messages.into_iter().filter(|(_, counts)| *counts != [0; 3]);
    left.map(|(queue, [all, ready, held])| format!("{queue}: {all}, of which {ready} ready and {held} held"))
        .collect()
}

/// Whether its provider takes what is stored: the access token; and the refresh token, where each call replaces that.
fn is_what_the_provider_gave(row: &Row, models: &[ModelProvider], past: Past<'_>) -> bool {
    let (kind, name) = kind_of(row.id);
    let Some(model) = models.get(kind) else { return false };
    let refresh_token = row.refresh_token.as_deref();
    let is_good = match name {
        // There is one that is good, and no other.
        STRICT => row.refresh_token == model.refresh_token(&account_of(row.id)),
        LENIENT => refresh_token
            .and_then(|token| model.serial_of(token))
            .is_some_and(|serial| is_unspent(serial, past.calls)),
        // Not used here.
        _ => true,
    };
    is_good && model.is_valid(row.access_token.as_deref().unwrap_or_default())
}

/// Of several refresh tokens that a lenient provider gave for one that it was shown again and again, each is good until it is
/// shown itself.
fn is_unspent(serial: u64, calls: &[LedgerEntry]) -> bool {
    let is_given =
        |did: Did| matches!(did, Did::Granted { refresh_token: Some(given), .. } if given == serial);
    let is_granted = |did: Did| matches!(did, Did::Granted { .. });
    let is_spent = calls.iter().any(|call| call.presented == Some(serial) && is_granted(call.did));
    calls.iter().any(|call| is_given(call.did)) && !is_spent
}

/// What may have happened to the cache on the way.
fn of_cache(past: Past<'_>, reasons: &Reasons<'_>) -> String {
    let called = past.calls.last().map(|call| call.arrived_at);
    let said = past.jobs.last().map(|job| job.at);
    called.max(said).map(|last| reasons.story(past, last + STORING)).unwrap_or_default()
}

/// What the cache holds, beside the row.
#[derive(Debug, PartialEq, Eq)]
enum Cached {
    Right,
    /// Another token than the row.
    Stale,
    /// None, although there is a good one.
    Missing,
}

/// Nobody fills the cache for a connection that waits for a person once its token has died; but it never holds another one.
fn in_cache(row: &Row, cached: Option<&str>) -> Cached {
    match cached {
        Some(cached) if Some(cached) == row.access_token.as_deref() => Cached::Right,
        Some(_) => Cached::Stale,
        None if row.state == QUARANTINED => Cached::Right,
        None => Cached::Missing,
    }
}

/// From when the provider answers, which is when the request arrived and the latency that was ordered after it, to the time on
/// the worker's line `refreshed`, by which the row has the answer, and the cache has it or its repair is planned. More than the
/// window in which a kill loses the answer: the provider's own work, the way back, and the cache are part of it. `None` where
/// something was wrong with the call.
fn window(past: Past<'_>, answered_after: TimeDelta) -> Option<Duration> {
    let (stored, call) = granted(past)?;
    (stored.at - call.arrived_at - answered_after).to_std().ok()
}

/// From when the database had taken in that the call is made, as its worker says right after, to the same end.
fn whole_window(past: Past<'_>, written: &[&Written]) -> Option<Duration> {
    let (stored, call) = granted(past)?;
    // By one clock: the request arrives after its worker has said that it is written down.
    let is_its_own = |written: &&&Written| written.by == stored.by && written.at <= call.arrived_at;
    let written = written.iter().filter(is_its_own).map(|written| written.at).max()?;
    (stored.at - written).to_std().ok()
}

/// What was stored last, and the call that was granted for it.
fn granted<'a>(past: Past<'a>) -> Option<(&'a Job, &'a LedgerEntry)> {
    let stored = past.jobs.iter().copied().rfind(|job| job.end == End::Stored)?;
    let call = past.calls.iter().rfind(|call| call.arrived_at <= stored.at)?;
    let is_granted = matches!(call.did, Did::Granted { .. }) && call.fault.is_none();
    is_granted.then_some((stored, call))
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
    let queues = queues.as_array().context("the list of queues is not a list")?;
    let unsafe_ones = queues.iter().filter_map(|queue| {
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
    use chrono::{DateTime, Utc};
    use freshet_tests::model_provider::{Rotation, Sent, Settings};

    use crate::events::{Event, What, Whom};

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

    #[test]
    fn the_cache_holds_what_the_row_holds_and_may_hold_nothing_for_a_connection_that_waits_for_a_person() {
        let row = |state: &str| Row { state: state.into(), ..row(1) };
        for (state, without) in [("active", Cached::Missing), (QUARANTINED, Cached::Right)] {
            assert_eq!(in_cache(&row(state), Some("a")), Cached::Right, "{state}");
            assert_eq!(in_cache(&row(state), Some("b")), Cached::Stale, "{state}");
            assert_eq!(in_cache(&row(state), None), without, "{state}");
        }
    }

    /// A row in which all is well.
    fn row(id: i64) -> Row {
        Row {
            id,
            access_token: Some("a".into()),
            refresh_token: Some("r".into()),
            generation: 1,
            state: "active".into(),
            is_due: false,
        }
    }

    const NOBODY: Past<'_> = Past { calls: &[], jobs: &[] };
    /// A connection of each kind.
    const IDS: [i64; 3] = [3, 4, 5];

    /// What is found of one row, and how many refreshed rows and lost answers with a reason are counted.
    fn judged(row: &Row, quarantined: Option<&Quarantined>, done: &Done) -> (Found, [u64; 2]) {
        let (mut verdict, mut found) = (Verdict::default(), Found::default());
        let reasons = Reasons { done, may_take: TimeDelta::seconds(7) };
        judge_row(row, quarantined, NOBODY, &reasons, &mut verdict, &mut found);
        (found, [verdict.refreshed, verdict.quarantined.values().sum()])
    }

    /// How many are lost, stored twice, and left due.
    fn counts(row: &Row) -> [usize; 3] {
        let (found, _) = judged(row, None, &Done::default());
        [found.lost.len(), found.twice.len(), found.due.len()]
    }

    #[test]
    fn a_row_is_refreshed_once_or_lost_or_stored_twice_and_must_not_be_due() {
        for id in IDS {
            assert_eq!(counts(&row(id)), [0; 3]);
            assert_eq!(judged(&row(id), None, &Done::default()).1, [1, 0]);
            assert_eq!(counts(&Row { is_due: true, ..row(id) }), [0, 0, 1]);
            assert_eq!(counts(&Row { generation: 2, ..row(id) }), [0, 1, 0]);
            assert_eq!(counts(&Row { generation: 2, is_due: true, ..row(id) }), [0, 1, 1]);
            for state in ["active", QUARANTINED, "not enrolled"] {
                let (found, _) =
                    judged(&Row { generation: 0, state: state.into(), ..row(id) }, None, &Done::default());
                assert!(matches!(&found.lost[..], [lost] if lost.contains(&id.to_string())), "{state}");
            }
            assert_eq!(counts(&Row { state: QUARANTINED.into(), ..row(id) }), [1, 0, 0]);
        }
    }

    #[test]
    fn a_quarantine_needs_a_kind_that_can_lose_its_answer_and_a_reason() {
        let killed = Event {
            what: What::WorkerKilled,
            whom: Whom::Worker("a".into()),
            from: DateTime::<Utc>::UNIX_EPOCH,
            until: DateTime::<Utc>::UNIX_EPOCH,
        };
        let mut done = Done { events: vec![killed], ..Done::default() };
        done.said.note_writer("0a", "a");
        for id in IDS {
            let row = Row { generation: 0, state: QUARANTINED.into(), ..row(id) };
            let unknown_since = DateTime::<Utc>::UNIX_EPOCH;
            let attempt = Some("0a".to_owned());
            let lost = Quarantined { connection_id: id, unknown_since, by: "b".into(), attempt };
            let (found, counted) = judged(&row, Some(&lost), &done);
            let is_strict = kind_of(id).1 == STRICT;
            assert_eq!((found.lost.is_empty(), counted), (is_strict, [0, u64::from(is_strict)]));
            assert_eq!(judged(&row, Some(&lost), &Done::default()).0.lost.len(), 1, "nothing was done");
        }
    }

    #[test]
    fn another_token_in_the_cache_is_stale_and_none_is_missing() {
        let done = Done::default();
        let reasons = Reasons { done: &done, may_take: TimeDelta::seconds(7) };
        let found = |cached| {
            let mut found = Found::default();
            judge_cache(&row(3), cached, NOBODY, &reasons, &mut found);
            [found.stale.len(), found.missing.len()]
        };
        assert_eq!((found(Some("a")), found(Some("b")), found(None)), ([0, 0], [1, 0], [0, 1]));
    }

    #[tokio::test]
    async fn what_no_provider_gave_is_lost() {
        let mut models = Vec::new();
        for rotation in [Rotation::None, Rotation::Strict, Rotation::Strict] {
            models.push(ModelProvider::start(Settings::new(rotation)).await.unwrap());
        }
        for id in IDS {
            let given = models[kind_of(id).0].authorise(&account_of(id), &account_of(id));
            assert!(!is_what_the_provider_gave(&row(id), &models, NOBODY));
            let another = Row { refresh_token: Some(given), ..row(id) };
            assert!(!is_what_the_provider_gave(&another, &models, NOBODY), "its access token is no token");
        }
    }

    #[test]
    fn a_queue_is_left_over_that_holds_a_message_or_of_which_nobody_knows() {
        let of = |counts| leftover(Ok(Messages::from([("q".to_owned(), counts), ("r".to_owned(), [0; 3])])));
        assert!(of([0; 3]).is_empty());
        for counts in [[1, 1, 0], [1, 0, 1], [1, 0, 0], [0, 1, 0]] {
            assert!(matches!(&of(counts)[..], [one] if one.starts_with("q: ")), "{counts:?}");
        }
        let unknown = leftover(Err(anyhow::anyhow!("q has no count of messages")));
        assert!(matches!(&unknown[..], [one] if one.contains("q has no count")));
    }

    fn ledger_entry(presented: u64, did: Did) -> LedgerEntry {
        LedgerEntry {
            arrived_at: START,
            at_once: 1,
            account: None,
            caller: None,
            grant_type: None,
            presented: Some(presented),
            client_secret: None,
            did,
            fault: None,
            sent: Sent::Pending,
        }
    }

    #[test]
    fn a_refresh_token_is_good_that_was_given_and_not_shown_since() {
        let call = ledger_entry;
        let granted = |token| Did::Granted { access_token: 1, refresh_token: Some(token) };
        // The first one is shown twice, and there are two good ones.
        let calls = [call(1, granted(2)), call(1, granted(3)), call(2, Did::NotAsked)];
        let good: Vec<u64> = (1..=4).filter(|serial| is_unspent(*serial, &calls)).collect();
        assert_eq!(good, [2, 3]);
        let calls = [call(1, granted(2)), call(2, granted(3))];
        let good: Vec<u64> = (1..=4).filter(|serial| is_unspent(*serial, &calls)).collect();
        assert_eq!(good, [3]);
    }

    const START: DateTime<Utc> = DateTime::<Utc>::UNIX_EPOCH;

    fn at(second: i64) -> DateTime<Utc> {
        START + TimeDelta::seconds(second)
    }

    fn job(by: &str, said: i64, end: End) -> Job {
        Job { connection_id: 7, at: at(said), by: by.into(), end }
    }

    #[test]
    fn the_whole_window_begins_where_the_worker_that_stored_had_written_its_call_down() {
        let granted = Did::Granted { access_token: 1, refresh_token: Some(2) };
        let calls = [LedgerEntry { arrived_at: at(10), ..ledger_entry(1, granted) }];
        let stored = job("a", 12, End::Stored);
        let past = Past { calls: &calls, jobs: &[&stored] };
        let written = |by: &str, second| Written { connection_id: 7, at: at(second), by: by.into() };
        let (earlier, own, later, others) =
            (written("a", 5), written("a", 9), written("a", 11), written("b", 10));
        let whole = |written: &[&Written]| whole_window(past, written);
        assert_eq!(whole(&[&earlier, &own, &later, &others]), Some(Duration::from_secs(3)));
        assert_eq!(window(past, TimeDelta::seconds(1)), Some(Duration::from_secs(1)));
        assert_eq!((whole(&[&others]), whole(&[])), (None, None), "nothing was spent, or nobody has said so");
        let failed = [LedgerEntry { fault: Some("status 503"), ..calls[0].clone() }];
        assert_eq!(whole_window(Past { calls: &failed, ..past }, &[&own]), None);
    }
}
