//! All that a fleet lets others see, by where it is seen.

use anyhow::Result;
use freshet_tests::binaries::Process;
use freshet_tests::fleet::TestFleet;
use freshet_tests::monitoring::Watched;
use freshet_tests::otlp::Collector;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

use super::tap::Tap;

/// Our tables: what is not the platform's.
const TABLES: [&str; 5] =
    ["token_refresh", "refresh_attempt", "provider_control", "producer_lease", "freshet_migrations"];

/// A place, and all that stands there.
pub(super) type Seen = Vec<(&'static str, Vec<u8>)>;

/// What a process answers to whoever watches it.
pub(super) async fn shown(process: &mut Process) -> Result<String> {
    let watched = Watched::of(process).await?;
    let mut shown = String::new();
    for path in ["/livez", "/readyz", "/metrics", "/elsewhere"] {
        shown.push_str(&watched.get(path).await?.1);
    }
    Ok(shown)
}

/// Everything. `said`: what the processes wrote; `shown`: what they answered to whoever watched them. Takes messages,
/// events and dead letters out of their queues.
pub(super) async fn seen(
    fleet: &TestFleet,
    collector: &Collector,
    tap: &Tap,
    said: &str,
    shown: &str,
) -> Result<Seen> {
    let mut seen = vec![
        ("logs", said.as_bytes().to_vec()),
        ("probes and metrics", shown.as_bytes().to_vec()),
        ("spans", collector.bytes()),
        ("messages and events", tap.messages().await?.concat()),
        ("dead letters", tap.dead_letters().await?.concat()),
        ("our keys in Redis", our_keys(fleet).await?.into_bytes()),
    ];
    for table in TABLES {
        seen.push((table, rows(fleet, table).await?.into_bytes()));
    }
    Ok(seen)
}

/// Names and values of all keys but those that other systems read tokens and headers from.
async fn our_keys(fleet: &TestFleet) -> Result<String> {
    let entries = fleet.keys.entries().await?;
    let ours = entries.iter().filter(|(name, _)| !name.starts_with("connection"));
    Ok(ours.map(|(name, entry)| format!("{name} {}\n", entry.value)).collect())
}

/// All rows of a table, as text.
async fn rows(fleet: &TestFleet, table: &str) -> Result<String> {
    let columns = format!(
        "SELECT GROUP_CONCAT(CONCAT('COALESCE(HEX(', COLUMN_NAME, '), '''')') SEPARATOR ', ''/'', ') \
         FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME = '{table}'"
    );
    let columns = one(fleet, &columns).await?.unwrap_or_default();
    let rows =
        one(fleet, &format!("SELECT GROUP_CONCAT(CONCAT({columns}) SEPARATOR ';') FROM {table}")).await?;
    // In hexadecimal, so that no character set gets in the way; and as the bytes that it stands for.
    Ok(rows.unwrap_or_default().split(['/', ';']).map(unhex).collect::<Vec<_>>().join("/"))
}

fn unhex(text: &str) -> String {
    let bytes: Vec<u8> = (0..text.len() / 2)
        .filter_map(|at| u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok())
        .collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn one(fleet: &TestFleet, query: &str) -> Result<Option<String>> {
    let connection = fleet.store.connection();
    connection.execute_unprepared("SET SESSION group_concat_max_len = 10000000").await?;
    let row = connection.query_one_raw(Statement::from_string(DbBackend::MySql, query)).await?;
    Ok(row.map(|row| row.try_get_by_index::<Option<String>>(0)).transpose()?.flatten())
}
