//! The simulation itself: that it repeats itself, and that it sees what it looks for.

use std::sync::Arc;
use std::time::Duration;

use freshet_tests::binaries::{Binary, Ended};

use crate::run::run;
use crate::store::Tables;

const LENGTH: Duration = Duration::from_secs(4 * 3_600);

#[test]
fn the_same_seed_gives_the_same_run() {
    let tables = Arc::new(Tables::create().unwrap());
    for seed in [3, 10] {
        let first = run(seed, LENGTH, false, &tables).unwrap();
        let second = run(seed, LENGTH, false, &tables).unwrap();
        assert_eq!(first, second);
        assert!(first.digest.1 > 200, "little happened: {first:?}");
    }
    let (one, other) = (run(5, LENGTH, false, &tables).unwrap(), run(6, LENGTH, false, &tables).unwrap());
    assert_ne!(one.digest, other.digest);
}

/// An invariant about what never comes up would hold for no reason.
#[test]
fn leaders_follow_each_other_caches_are_filled_and_answers_are_parked() {
    let tables = Arc::new(Tables::create().unwrap());
    let (mut taken_over, mut filled, mut parked) = (0, 0, 0);
    for seed in 1..=200 {
        let report = run(seed, LENGTH, false, &tables).unwrap();
        assert_eq!(report.violations, Vec::<String>::new(), "seed {seed}");
        taken_over += report.taken_over;
        filled += report.filled;
        parked += report.parked;
        if taken_over > 0 && filled > 0 && parked > 0 {
            return;
        }
    }
    panic!("taken over {taken_over} times, filled {filled} times, parked {parked}");
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
    let ended = simulate(&["--seeds", "25", "--hours", "3"]).await.with_code(0).unwrap();
    assert!(ended.stdout.contains("no violation"), "{}", ended.stdout);
}
