//! How many statements a fleet at work asks of its database: far fewer than it refreshes connections.

use std::ops::RangeInclusive;

use anyhow::{Context, Result, ensure};
use freshet_shared::domain::lane::Lane;
use freshet_tests::binaries::Binary;
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};
use freshet_tests::services::MariaDb;
use freshet_tests::waiting::eventually;
use sea_orm::{ConnectionTrait, DbBackend, Statement};

const MANY: i64 = 600;
const FEW: i64 = 60;

/// Statements that the server was asked since it started; by this, too.
async fn statements(fleet: &TestFleet) -> Result<i64> {
    let asking = Statement::from_string(DbBackend::MySql, "SHOW GLOBAL STATUS LIKE 'Questions'");
    let row = fleet.store.connection().query_one_raw(asking).await?.context("the server does not say")?;
    let value: String = row.try_get("", "Value")?;
    Ok(value.parse()?)
}

/// Lets a worker with so many jobs at once refresh these connections; answers how many statements a scan of them takes, and
/// a refresh of each.
async fn refresh(fleet: &TestFleet, ids: RangeInclusive<i64>, at_once: &str) -> Result<(f64, f64)> {
    let count = ids.clone().count();
    fleet.add(ids.clone().map(|id| NewConnection::fynd(id, 300))).await?;
    let before = statements(fleet).await?;
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, count as u64);
    let scanned = statements(fleet).await?;
    let worker = Binary::new("worker")?.arguments(["run"]).variables(&fleet.environment);
    let worker = worker.variables([("FRESHET_WORKER__CONCURRENCY", at_once)]).start()?;
    let (first, last) = ids.into_inner();
    // What has begun is finished; and the broker's count of what is in somebody's hands comes late.
    eventually("all are asked for", PATIENCE, async || {
        let asked = fleet.token_requests().len();
        ensure!(asked as i64 >= last, "{asked} were; the worker says:\n{}", worker.stderr());
        Ok(())
    })
    .await?;
    let worker = worker.terminate(PATIENCE).await?.with_code(0)?;
    let refreshed = statements(fleet).await?;
    let fresh = format!(
        "SELECT COUNT(*) FROM token_refresh WHERE generation = 1 AND connection_id BETWEEN {first} AND {last}"
    );
    assert_eq!(
        fleet.number(&fresh).await?,
        count as i64,
        "all are refreshed; the worker said:\n{}",
        worker.stderr
    );
    let each = |statements: i64| statements as f64 / count as f64;
    Ok((each(scanned - before), each(refreshed - scanned)))
}

#[tokio::test]
async fn many_refreshes_at_once_take_far_fewer_statements_than_one_by_one() -> Result<()> {
    let server = MariaDb::start().await?;
    let mut fleet = TestFleet::found().await?;
    fleet.move_to(&server, &[]).await?;
    let (scan, together) = refresh(&fleet, 1..=MANY, "512").await?;
    let (_, one_by_one) = refresh(&fleet, MANY + 1..=MANY + FEW, "1").await?;
    // On a machine that is slow enough the groups are small.
    ensure!(together < one_by_one / 2.0, "{together} statements for each in place of {one_by_one}");
    ensure!(scan < 0.2, "a scan takes {scan} statements for each");
    fleet.dissolve().await
}
