//! What the servers make of the scans' statements: each page is read along an index, from where the page before ended, and
//! costs what is due, whatever else there is.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use freshet_producer::settled::Settled;
use freshet_shared::adapters::database::{Database, DatabaseSettings};
use freshet_shared::domain::secret::Secret;
use freshet_shared::ports::store::{Due, DueScan, Expired, ScanStore};
use freshet_tests::fleet::{TestFleet, now};
use sea_orm::sea_query::SelectStatement;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

/// Of each kind that a scan looks for.
const DUE: i64 = 60;
const PAGE: u32 = 20;

const BY_EXPIRY: &str = "ix_freshet_connection_expiry";
const BY_PLAN: &str = "ix_token_refresh_refresh_at";
const BY_ATTEMPT: &str = "ix_token_refresh_next_attempt";

const URGENT: Due = Due::ExpiredOrExpiring { from: None, within: TimeDelta::minutes(10) };

struct Scan {
    name: &'static str,
    due: Due,
    index: &'static str,
}

/// Every scan that goes on by time.
const SCANS: [Scan; 4] = [
    Scan { name: "early", due: Due::Expiring(TimeDelta::minutes(30)), index: BY_EXPIRY },
    Scan { name: "urgent", due: URGENT, index: BY_EXPIRY },
    Scan { name: "planned", due: Due::Planned(TimeDelta::minutes(30)), index: BY_PLAN },
    Scan { name: "retry", due: Due::NextAttempt, index: BY_ATTEMPT },
];

/// Of each kind that is due some, at different times and some of them at the same.
async fn add_due(fleet: &TestFleet) -> Result<()> {
    let minutes = |minutes: i64| format!("UTC_TIMESTAMP() + INTERVAL {minutes} MINUTE");
    let mut id = 0;
    for place in 0..DUE {
        let pair = place / 2;
        let later = minutes(10_000 + place);
        let days_ago = minutes(pair - 2_000);
        let rows = [
            // Expired, expiring in the windows of both lanes, planned, to be tried again, never refreshed.
            (minutes(pair - 3_000), "NULL".to_owned(), "NULL".to_owned()),
            // Not in the urgent window before the test is over, however slow the machine.
            (minutes(16 + pair % 12), "NULL".into(), "NULL".into()),
            (later.clone(), days_ago.clone(), "NULL".into()),
            (later.clone(), minutes(9_000), days_ago),
            ("NULL".into(), "NULL".into(), "NULL".into()),
        ];
        for (expiry, plan, attempt) in rows {
            id += 1;
            add_rows(fleet, &format!("SELECT {id} AS n"), &expiry, &plan, &attempt).await?;
        }
    }
    Ok(())
}

/// As many that are not due: their tokens live for days, their plans and next attempts lie ahead.
async fn add_others(fleet: &TestFleet, from: i64, until: i64) -> Result<()> {
    add_rows(
        fleet,
        &numbers(from, until),
        "UTC_TIMESTAMP() + INTERVAL 2000 + n MINUTE",
        "UTC_TIMESTAMP() + INTERVAL 1000 + n MINUTE",
        "IF(n % 10 = 0, UTC_TIMESTAMP() + INTERVAL n SECOND + INTERVAL 1 HOUR, NULL)",
    )
    .await?;
    analyze(fleet).await
}

fn numbers(from: i64, until: i64) -> String {
    let digits = "(SELECT 0 AS d UNION ALL SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 UNION ALL SELECT 4 \
                  UNION ALL SELECT 5 UNION ALL SELECT 6 UNION ALL SELECT 7 UNION ALL SELECT 8 UNION ALL SELECT 9)";
    format!(
        "SELECT n FROM (SELECT a.d + 10 * b.d + 100 * c.d + 1000 * e.d + 10000 * f.d + 100000 * g.d AS n \
         FROM {digits} a, {digits} b, {digits} c, {digits} e, {digits} f, {digits} g) AS numbers \
         WHERE n > {from} AND n <= {until}"
    )
}

async fn analyze(fleet: &TestFleet) -> Result<()> {
    fleet.execute("ANALYZE TABLE ie_appinstall_connection, token_refresh, channels", []).await?;
    Ok(())
}

async fn add_rows(fleet: &TestFleet, numbers: &str, expiry: &str, plan: &str, attempt: &str) -> Result<()> {
    let inserts = [
        format!(
            "INSERT INTO ie_appinstall_connection (id, isActive, accessToken, accessTokenExpiryAt, inputFields) \
             SELECT n, 'active', 'token', {expiry}, '{{}}' FROM ({numbers}) AS given"
        ),
        format!(
            "INSERT INTO channels (connectionId, account_id, channel_id, integrationType) \
             SELECT n, n, n, '15' FROM ({numbers}) AS given"
        ),
        format!(
            "INSERT INTO token_refresh (connection_id, lifetime_s, refresh_at, next_attempt_at) \
             SELECT n, 2592000, {plan}, {attempt} FROM ({numbers}) AS given"
        ),
    ];
    for insert in inserts {
        fleet.execute(&insert, []).await?;
    }
    Ok(())
}

/// One session, so that what it has read is counted in one place.
async fn connect(fleet: &TestFleet) -> Result<Database> {
    let settings = DatabaseSettings {
        url: Secret::new(fleet.database.url()),
        max_connections: 1,
        acquire_timeout: Duration::from_secs(20),
    };
    Ok(Database::connect(settings).await?)
}

fn scan_for(due: Due, now: DateTime<Utc>) -> DueScan {
    DueScan { integration_type: "15".into(), due, now }
}

struct Step {
    table: String,
    access: String,
    key: Option<String>,
    extra: String,
}

async fn explain(database: &Database, select: &SelectStatement) -> Result<Vec<Step>> {
    let statement = DbBackend::MySql.build(select);
    let explain = Statement { sql: format!("EXPLAIN FORMAT=TRADITIONAL {}", statement.sql), ..statement };
    let rows = database.connection().query_all_raw(explain).await?;
    rows.iter()
        .map(|row| {
            let text = |name: &str| row.try_get("", name).map(Option::<String>::unwrap_or_default);
            Ok(Step {
                table: text("table")?,
                access: text("type")?,
                key: row.try_get("", "key")?,
                extra: text("Extra")?,
            })
        })
        .collect()
}

fn follows(index: &str, steps: &[Step]) -> Result<()> {
    let lines: Vec<_> = steps
        .iter()
        .map(|step| format!("{} {} {:?} {}", step.table, step.access, step.key, step.extra))
        .collect();
    let shown = lines.join("\n");
    let (first, others) = steps.split_first().context("nothing is explained")?;
    ensure!(first.access == "range" && first.key.as_deref() == Some(index), "{shown}");
    for step in steps {
        ensure!(!step.extra.contains("filesort") && !step.extra.contains("temporary"), "{shown}");
    }
    for step in others {
        ensure!(["eq_ref", "ref"].contains(&step.access.as_str()), "{shown}");
    }
    Ok(())
}

#[tokio::test]
async fn each_page_of_each_scan_follows_an_index_and_sorts_nothing() -> Result<()> {
    let fleet = TestFleet::found().await?;
    add_due(&fleet).await?;
    add_others(&fleet, 1_000, 20_000).await?;
    let database = connect(&fleet).await?;
    for Scan { name, due, index } in SCANS {
        let scan = scan_for(due, now());
        let second = database.due_page(&scan, None, PAGE).await?.next.context("there is one page only")?;
        for after in [None, Some(second)] {
            let steps = explain(&database, &database.due_statement(&scan, after, PAGE)).await?;
            follows(index, &steps).with_context(|| format!("{name}, {after:?}"))?;
        }
    }
    let expired = Expired { from: Some(now() - TimeDelta::days(100)), until: now() };
    for (name, select) in [
        ("who is settled", database.first_unsettled_statement("15", expired)),
        ("looking back", database.end_of_first_statement(expired, PAGE)),
    ] {
        follows(BY_EXPIRY, &explain(&database, &select).await?).context(name)?;
    }
    fleet.dissolve().await
}

/// Rows that the session has read, through whatever index.
async fn rows_read(database: &Database) -> Result<i64> {
    let statement = Statement::from_string(DbBackend::MySql, "SHOW SESSION STATUS LIKE 'Handler_read%'");
    let mut sum = 0;
    for row in database.connection().query_all_raw(statement).await? {
        sum += row.try_get::<String>("", "Value")?.parse::<i64>()?;
    }
    Ok(sum)
}

/// Every page of the scan, one after the other: the connections that were found, and the rows read for them.
async fn whole_scan(database: &Database, due: Due) -> Result<(usize, i64)> {
    let scan = scan_for(due, now());
    let (mut found, mut next) = (0, None);
    // The server answers this question with rows of its own, too.
    let asking = -rows_read(database).await? + rows_read(database).await?;
    let before = rows_read(database).await?;
    loop {
        let page = database.due_page(&scan, next, PAGE).await?;
        ensure!(page.unreadable.is_empty(), "{} rows are unreadable", page.unreadable.len());
        found += page.due.len();
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    Ok((found, rows_read(database).await? - before - asking))
}

/// Some that expired weeks ago and wait: for their merchants, or for a next attempt.
async fn add_waiting(fleet: &TestFleet, from: i64, until: i64) -> Result<()> {
    let expired = "UTC_TIMESTAMP() - INTERVAL 20000 + n % 10000 MINUTE";
    let attempt = "IF(n % 2 = 0, UTC_TIMESTAMP() + INTERVAL 1 HOUR, NULL)";
    add_rows(fleet, &numbers(from, until), expired, "NULL", attempt).await?;
    let wait = "UPDATE token_refresh SET state = IF(next_attempt_at IS NULL, 'needs_reauth', 'misconfigured') \
                WHERE connection_id > ? AND connection_id <= ?";
    fleet.execute(wait, [from.into(), until.into()]).await?;
    analyze(fleet).await
}

/// As a producer makes it that has been scanning already.
async fn urgent_scan(database: &Database, settled: &Settled) -> Result<(usize, i64)> {
    let asking = -rows_read(database).await? + rows_read(database).await?;
    let before = rows_read(database).await?;
    let from = settled.until(database, "15", PAGE, now()).await?;
    ensure!(from.is_some(), "nothing is known yet");
    let begun = rows_read(database).await? - before - asking;
    let (found, read) =
        whole_scan(database, Due::ExpiredOrExpiring { from, within: TimeDelta::minutes(10) }).await?;
    Ok((found, begun + read))
}

#[tokio::test]
async fn an_urgent_scan_does_not_walk_over_those_that_wait() -> Result<()> {
    let fleet = TestFleet::found().await?;
    add_due(&fleet).await?;
    add_waiting(&fleet, 1_000, 1_500).await?;
    let (database, settled) = (connect(&fleet).await?, Settled::default());
    ensure!(settled.until(&database, "15", PAGE, now()).await?.is_none(), "more is known than can be");
    let (found, few) = urgent_scan(&database, &settled).await?;
    ensure!(found as i64 == DUE, "{found} found");
    add_waiting(&fleet, 2_000, 12_000).await?;
    let (found, many) = urgent_scan(&database, &settled).await?;
    ensure!(found as i64 == DUE, "{found} found");
    ensure!(many <= few + few / 5, "{many} rows read among 10,500 that wait, {few} among 500");
    fleet.dissolve().await
}

#[tokio::test]
async fn a_scan_costs_what_is_due_and_not_what_exists() -> Result<()> {
    let fleet = TestFleet::found().await?;
    add_due(&fleet).await?;
    add_others(&fleet, 1_000, 2_000).await?;
    let database = connect(&fleet).await?;
    let scans =
        || SCANS.iter().map(|scan| (scan.name, scan.due)).chain([("never refreshed", Due::NeverRefreshed)]);
    let mut among_few = Vec::new();
    for (name, due) in scans() {
        let (found, read) = whole_scan(&database, due).await?;
        ensure!(found as i64 == DUE, "{name}: {found} found");
        // The connection, its companion and its channel, each through an index; and what ends a page.
        ensure!(read <= DUE * 8, "{name}: {read} rows read for {found}");
        among_few.push(read);
    }
    add_others(&fleet, 2_000, 101_000).await?;
    for ((name, due), few) in scans().zip(among_few) {
        let (found, many) = whole_scan(&database, due).await?;
        ensure!(found as i64 == DUE, "{name}: {found} found");
        ensure!(
            many <= few + few / 5,
            "{name}: {many} rows read among 100,000 that are not due, {few} among 1,000"
        );
    }
    fleet.dissolve().await
}
