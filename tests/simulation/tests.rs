//! The simulation itself: that it repeats itself, and that it sees what it looks for.

use std::sync::Arc;
use std::time::Duration;

use freshet_tests::binaries::{Binary, Ended};

use crate::run::run;
use crate::store::Tables;

#[test]
fn the_same_seed_gives_the_same_run() {
    let tables = Arc::new(Tables::create().unwrap());
    for seed in [3, 10] {
        let first = run(seed, 4, false, &tables).unwrap();
        let second = run(seed, 4, false, &tables).unwrap();
        assert_eq!(first, second);
        assert!(first.digest.1 > 500, "little happened: {first:?}");
    }
    let (one, other) = (run(5, 4, false, &tables).unwrap(), run(6, 4, false, &tables).unwrap());
    assert_ne!(one.digest, other.digest);
}

/// Longer than any of these takes, also on a machine that does everything at once.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs the command as a process, because a guard is off for all of a process.
async fn simulate(arguments: &[&str]) -> Ended {
    let command = Binary::new("simulate").unwrap().arguments(arguments);
    command.start().unwrap().ended(PATIENCE).await.unwrap()
}

#[tokio::test]
async fn without_the_fence_a_violation_is_found() {
    let ended =
        simulate(&["--seeds", "300", "--hours", "3", "--without", "fence"]).await.with_code(1).unwrap();
    assert!(ended.stdout.contains("was stored twice"), "{}", ended.stdout);
    assert!(ended.stdout.contains("replay it with: tests/simulate --seed "), "{}", ended.stdout);
}

#[tokio::test]
async fn without_the_journal_a_violation_is_found() {
    let ended =
        simulate(&["--seeds", "300", "--hours", "3", "--without", "journal"]).await.with_code(1).unwrap();
    assert!(ended.stdout.contains("a refresh token that was spent was presented again"), "{}", ended.stdout);
}

#[tokio::test]
async fn seeds_without_number_hold() {
    let ended = simulate(&["--seeds", "40", "--hours", "3"]).await.with_code(0).unwrap();
    assert!(ended.stdout.contains("no violation"), "{}", ended.stdout);
}
