//! What has expired and waits is not walked over by each scan, and what stirs among it is found all the same.

use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::domain::lane::Lane;
use freshet_shared::ports::store::ScanStore;

use super::{Bench, noon};
use crate::scan::{Target, scan};
use crate::settled::Settled;

const URGENT: Target = Target::Lane(Lane::Urgent);
/// What one scan looks at again, with pages of 2.
const LOOKED_BACK_AT: i64 = 10;

fn ago(minutes: i64) -> DateTime<Utc> {
    noon() - TimeDelta::minutes(minutes)
}

/// A producer that has been scanning, among connections 1 to `waiting`, which wait for their merchants: the higher the number
/// the longer.
async fn scanning(waiting: i64) -> Bench {
    let bench = Bench::new(2).await;
    for id in 1..=waiting {
        bench.add(id, Some(ago(1_000 + id))).await;
        let enrolled =
            format!("INSERT INTO token_refresh (connection_id, state) VALUES ({id}, 'needs_reauth')");
        bench.execute(&enrolled).await;
    }
    assert_eq!(scan(&bench.scanner, URGENT).await.unwrap().found, 0);
    bench
}

async fn begins_at(bench: &Bench) -> Option<DateTime<Utc>> {
    let store: &dyn ScanStore = &bench.database;
    bench.scanner.settled.until(store, "15", 2, bench.scanner.clock.now()).await.unwrap()
}

async fn found(bench: &Bench) -> Vec<i64> {
    scan(&bench.scanner, URGENT).await.unwrap();
    let mut ids = bench.ids().await;
    ids.sort_unstable();
    ids
}

#[tokio::test]
async fn a_scan_begins_behind_those_that_wait() {
    let bench = scanning(5).await;
    assert_eq!(begins_at(&bench).await, Some(ago(60)));
    bench.add(11, Some(ago(50))).await;
    bench.add(12, Some(ago(-9))).await;
    assert_eq!(found(&bench).await, [11, 12]);
    // Neither was refreshed, so neither is left behind.
    bench.clock.advance(TimeDelta::hours(5));
    assert_eq!(begins_at(&bench).await, Some(ago(50)));
    assert_eq!(found(&bench).await, [11, 12]);
}

#[tokio::test]
async fn the_first_scan_of_a_process_walks_over_all() {
    let bench = scanning(5).await;
    // Nobody may be there who scans for next attempts.
    bench
        .execute("UPDATE token_refresh SET state = 'active', next_attempt_at = '2026-11-21 11:00:00' WHERE connection_id = 3")
        .await;
    assert_eq!(found(&bench).await, [0_i64; 0]);
    let scanner = crate::scan::Scanner { settled: Settled::default(), ..bench.scanner };
    let bench = Bench { scanner, ..bench };
    assert_eq!(found(&bench).await, [3]);
}

#[tokio::test]
async fn whose_next_attempt_has_come_is_found_by_the_scan_for_next_attempts() {
    let bench = scanning(5).await;
    bench
        .execute("UPDATE token_refresh SET state = 'active', next_attempt_at = '2026-11-21 11:00:00' WHERE connection_id = 3")
        .await;
    assert_eq!(found(&bench).await, [0_i64; 0]);
    scan(&bench.scanner, Target::NextAttempts).await.unwrap();
    assert_eq!(bench.ids().await, [3]);
}

#[tokio::test]
async fn a_merchant_who_comes_back_with_an_old_token_is_found_by_the_next_scan() {
    let bench = scanning(LOOKED_BACK_AT).await;
    bench.add(20, Some(ago(1_005))).await;
    assert_eq!(found(&bench).await, [20]);
    bench.execute("UPDATE ie_appinstall_connection SET isActive = 'no' WHERE id = 20").await;
    bench.execute("UPDATE token_refresh SET queued_until = NULL WHERE connection_id = 20").await;
    assert_eq!(found(&bench).await, [0_i64; 0]);
    assert_eq!(begins_at(&bench).await, Some(ago(60)));
    bench.execute("UPDATE ie_appinstall_connection SET isActive = 'active' WHERE id = 20").await;
    assert_eq!(found(&bench).await, [20]);
}

#[tokio::test]
async fn among_many_that_wait_who_comes_back_is_found_when_its_turn_comes() {
    let bench = scanning(3 * LOOKED_BACK_AT).await;
    bench.add(100, Some(ago(1_001))).await;
    let mut turns = 0;
    while found(&bench).await.is_empty() {
        turns += 1;
        assert!(turns < 3, "not found");
    }
    assert_eq!(turns, 2, "the third part holds it");
}

#[tokio::test]
async fn of_many_that_died_at_one_moment_none_is_passed_over() {
    let bench = scanning(0).await;
    for id in 1..=3 * LOOKED_BACK_AT {
        bench.add(id, Some(ago(500))).await;
        bench
            .execute(&format!(
                "INSERT INTO token_refresh (connection_id, state) VALUES ({id}, 'quarantined')"
            ))
            .await;
    }
    bench.add(100, Some(ago(400))).await;
    let mut turns = 0;
    while found(&bench).await.is_empty() {
        turns += 1;
        assert!(turns < 3, "not found");
    }
}

#[tokio::test]
async fn a_database_that_went_back_to_a_backup_is_scanned_as_a_whole() {
    let bench = scanning(5 * LOOKED_BACK_AT).await;
    let restored = "UPDATE token_refresh SET state = 'active' WHERE connection_id % 2 = 0";
    bench.execute(restored).await;
    let even: Vec<i64> = (1..=5 * LOOKED_BACK_AT).filter(|id| id % 2 == 0).collect();
    assert_eq!(found(&bench).await, even);
}

#[tokio::test]
async fn a_lost_message_is_made_up_for_however_long_ago_the_token_died() {
    let bench = scanning(5).await;
    bench.execute("UPDATE token_refresh SET state = 'active' WHERE connection_id = 3").await;
    assert_eq!(found(&bench).await, [3]);
    for _ in 0..4 {
        bench.clock.advance(TimeDelta::minutes(1));
        assert_eq!(found(&bench).await, [0_i64; 0]);
    }
    bench.clock.advance(TimeDelta::minutes(1));
    assert_eq!(found(&bench).await, [3]);
}

#[tokio::test]
async fn a_connection_is_found_once_however_many_channels_it_has() {
    let bench = Bench::new(2).await;
    for id in 1..=3 {
        bench.add(id, Some(ago(10 - id))).await;
        for _ in 0..3 {
            let channel = format!("INSERT INTO channels (connectionId, integrationType) VALUES ({id}, '15')");
            bench.execute(&channel).await;
        }
    }
    let report = scan(&bench.scanner, URGENT).await.unwrap();
    assert_eq!((report.found, report.claimed, report.published), (3, 3, 3));
    assert_eq!(bench.ids().await, [1, 2, 3]);
}
