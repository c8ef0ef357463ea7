//! Several producers, of which one scans.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use freshet_shared::domain::leadership::Lease;
use freshet_shared::ports::store::LeaseStore;
use freshet_tests::binaries::{Binary, Process};
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};
use freshet_tests::waiting::eventually;
use nix::sys::signal::Signal;
use sea_orm::{ConnectionTrait, Statement};

const LEASE: Duration = Duration::from_secs(3);
const LEADS: &str = "this producer leads and scans";
const SCANNED: &str = "scanned: found";

#[tokio::test]
async fn the_lease_changes_hands_by_the_databases_clock_and_each_term_has_its_number() -> Result<()> {
    let fleet = TestFleet::found().await?;
    let length = Duration::from_secs(2);
    let take = async |holder: &str| fleet.store.take_lease("scan", holder, length).await;
    // The first question of all makes the row.
    eventually("somebody holds the lease", PATIENCE, async || {
        ensure!(take("a").await? == Lease::Ours { term: 1 });
        Ok(())
    })
    .await?;
    let Lease::Others { free_in } = take("b").await? else { panic!("two hold it") };
    assert!(free_in > Duration::from_secs(1) && free_in <= length, "{free_in:?}");
    assert_eq!(take("a").await?, Lease::Ours { term: 1 }, "it is renewed");
    eventually("the lease runs out", PATIENCE, async || {
        ensure!(take("b").await? == Lease::Ours { term: 2 });
        Ok(())
    })
    .await?;
    assert!(matches!(take("a").await?, Lease::Others { .. }));
    fleet.store.release_lease("scan", "a").await?;
    assert!(matches!(take("a").await?, Lease::Others { .. }), "it was not theirs to give up");
    fleet.store.release_lease("scan", "b").await?;
    assert_eq!(take("a").await?, Lease::Ours { term: 3 });
    fleet.dissolve().await
}

fn producer(fleet: &TestFleet) -> Result<Process> {
    Binary::new("producer")?
        .arguments(["run"])
        .variables(&fleet.environment)
        .variable("FRESHET_SCAN__LEASE", "3s")
        .variable("FRESHET_SCAN__RETRY_EVERY", "200ms")
        .variable("FRESHET_TELEMETRY__FILTER", "freshet_producer=debug")
        .start()
}

fn scans(process: &Process) -> usize {
    process.stderr().matches(SCANNED).count()
}

/// Waits until it has scanned once more, and `silent` has not.
async fn until_only_one_scans(scanning: &Process, silent: &Process) -> Result<()> {
    let (before, silent_before) = (scans(scanning), scans(silent));
    eventually("it scans", PATIENCE, async || {
        ensure!(scans(scanning) > before + 4, "it does not:\n{}", scanning.stderr());
        Ok(())
    })
    .await?;
    ensure!(scans(silent) == silent_before, "the other one scans, too:\n{}", silent.stderr());
    Ok(())
}

/// Who holds the lease, and for which term.
async fn reign(fleet: &TestFleet) -> Result<(String, i64)> {
    let connection = fleet.store.connection();
    let query = "SELECT holder, CAST(term AS SIGNED) AS term FROM producer_lease WHERE name = 'scan'";
    let statement = Statement::from_string(connection.get_database_backend(), query);
    let row = connection.query_one_raw(statement).await?.context("nobody has ever led")?;
    Ok((row.try_get("", "holder")?, row.try_get("", "term")?))
}

#[tokio::test]
async fn a_leader_that_is_started_anew_is_somebody_else_with_a_higher_term() -> Result<()> {
    let fleet = TestFleet::found().await?;
    let mut reigns = Vec::new();
    // The first is killed and its lease runs out, the second gives its own up.
    for signal in [Signal::SIGKILL, Signal::SIGTERM, Signal::SIGTERM] {
        let mut leader = producer(&fleet)?;
        leader.until_it_says(LEADS, PATIENCE).await?;
        reigns.push(reign(&fleet).await?);
        leader.signal(signal)?;
        let _ = leader.ended(PATIENCE).await?;
    }
    let terms: Vec<i64> = reigns.iter().map(|(_, term)| *term).collect();
    assert_eq!(terms, [1, 2, 3], "{reigns:?}");
    let holders: BTreeSet<&str> = reigns.iter().map(|(holder, _)| holder.as_str()).collect();
    assert_eq!(holders.len(), 3, "{reigns:?}");
    assert!(!holders.contains(""), "{reigns:?}");
    fleet.dissolve().await
}

#[tokio::test]
async fn of_two_producers_one_scans_and_the_other_takes_over_when_it_is_killed() -> Result<()> {
    let fleet = TestFleet::found().await?;
    let mut first = producer(&fleet)?;
    first.until_it_says(LEADS, PATIENCE).await?;
    let mut second = producer(&fleet)?;
    until_only_one_scans(&first, &second).await?;
    let (first_holder, first_term) = reign(&fleet).await?;
    first.signal(Signal::SIGKILL)?;
    let killed = Instant::now();
    second.until_it_says(LEADS, PATIENCE).await?;
    let taken_over = killed.elapsed();
    // The lease was renewed before the kill; the rest is a loaded machine's.
    assert!(taken_over < LEASE + Duration::from_secs(2), "it took {taken_over:?}");
    let (holder, term) = reign(&fleet).await?;
    assert!(holder != first_holder && term == first_term + 1, "{first_holder} {first_term}, {holder} {term}");
    fleet.add([NewConnection::fynd(1, 300)]).await?;
    // One that ends in good order gives the lease up.
    let mut third = producer(&fleet)?;
    until_only_one_scans(&second, &third).await?;
    let ended = second.terminate(PATIENCE).await?.with_code(0)?;
    assert!(!ended.stderr.contains("the lease is not given up"), "{}", ended.stderr);
    let asked = Instant::now();
    third.until_it_says(LEADS, PATIENCE).await?;
    assert!(asked.elapsed() < LEASE, "{:?}", asked.elapsed());
    eventually("what is due is published", PATIENCE, async || {
        let ready: u32 = fleet.vhost.all_ready_messages().await?.values().sum();
        ensure!(ready == 1, "{ready} messages:\n{}", third.stderr());
        Ok(())
    })
    .await?;
    let _ = third.terminate(PATIENCE).await?.with_code(0)?;
    fleet.work_off(1).await?;
    fleet.dissolve().await
}

#[tokio::test]
async fn a_leader_that_is_stopped_beyond_its_term_does_not_scan_when_it_goes_on() -> Result<()> {
    let fleet = TestFleet::found().await?;
    let mut first = producer(&fleet)?;
    first.until_it_says(LEADS, PATIENCE).await?;
    let mut second = producer(&fleet)?;
    until_only_one_scans(&first, &second).await?;
    first.signal(Signal::SIGSTOP)?;
    second.until_it_says(LEADS, PATIENCE).await?;
    first.signal(Signal::SIGCONT)?;
    first.until_it_says("this producer no longer leads", PATIENCE).await?;
    until_only_one_scans(&second, &first).await?;
    for process in [first, second] {
        let _ = process.terminate(PATIENCE).await?.with_code(0)?;
    }
    fleet.dissolve().await
}
