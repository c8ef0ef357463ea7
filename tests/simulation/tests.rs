//! The simulation itself: that it repeats itself, and that it sees what it looks for.

use std::sync::Arc;
use std::time::Duration;

use freshet_tests::binaries::{Binary, Ended};

use crate::deadlines::{Judged, Wait};
use crate::run::run;
use crate::store::Tables;
use crate::world::World;

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
fn leaders_follow_each_other_caches_are_filled_answers_are_parked_and_deaths_are_judged() {
    let tables = Arc::new(Tables::create().unwrap());
    let (mut taken_over, mut filled, mut parked, mut judged) = (0, 0, 0, Judged::default());
    for seed in 1..=200 {
        let report = run(seed, LENGTH, false, &tables).unwrap();
        assert_eq!(report.violations, Vec::<String>::new(), "seed {seed}");
        taken_over += report.taken_over;
        filled += report.filled;
        parked += report.parked;
        judged.add(report.judged);
        // Excuses are many in storms, and must not be all there is.
        let Judged { calm, stormy } = judged;
        let is_judged = calm.unexcused * 2 > calm.of && stormy.unexcused * 50 > stormy.of;
        if taken_over > 0 && filled > 0 && parked > 0 && is_judged {
            return;
        }
    }
    panic!("taken over {taken_over} times, filled {filled} times, parked {parked}, no excuse in {judged}");
}

#[test]
fn a_quarantine_needs_a_call_of_which_nobody_knows_what_it_came_to() {
    let world = World::new(1, false, Arc::new(Tables::create().unwrap()));
    let violations = || std::mem::take(&mut world.state().violations).len();
    world.was_quarantined(1);
    world.excuse(Some(1), Wait::CallFailed);
    world.was_quarantined(1);
    assert_eq!(violations(), 2);
    world.excuse(Some(1), Wait::GoneWithIt);
    world.was_quarantined(1);
    assert_eq!(violations(), 0);
    world.was_quarantined(2);
    world.doubts_no_more(1);
    world.was_quarantined(1);
    assert_eq!(violations(), 2);
}

/// Longer than any of these takes, also on a machine that does everything at once.
const PATIENCE: Duration = Duration::from_secs(300);

/// Runs the command as a process, because a guard is off for all of a process.
async fn simulate(arguments: &[&str]) -> Ended {
    let command = Binary::new("simulate").unwrap().arguments(arguments);
    command.start().unwrap().ended(PATIENCE).await.unwrap()
}

/// Before the command that replays a seed.
const REPLAY: &str = "replay it with: ";

/// From the line that names the seed to the end: what was violated, when, and how to see it again.
fn verdict(printed: &str) -> &str {
    let at = printed.rfind("\nseed ").map_or(0, |at| at + 1);
    &printed[at..]
}

/// Runs what somebody would copy from the report, from the folder that they would be in.
async fn replay(printed: &str) -> Ended {
    let command = printed.lines().find_map(|line| line.strip_prefix(REPLAY)).unwrap();
    // Without it the script would build.
    let script =
        Binary::script(command).unwrap().variable("SIMULATE_BINARY", Binary::path_of("simulate").unwrap());
    script.start().unwrap().ended(PATIENCE).await.unwrap()
}

/// Without this guard a seed fails like this, and is printed with the command by which it fails alike: at the same virtual
/// times.
async fn is_missed(guard: &str, violation: &str) {
    let searched = ["--seeds", "300", "--hours", "3", "--without", guard];
    let found = simulate(&searched).await.with_code(1).unwrap();
    assert!(found.stdout.contains(violation), "{}", found.stdout);
    let replayed = replay(&found.stdout).await.with_code(1).unwrap();
    assert_eq!(verdict(&replayed.stdout), verdict(&found.stdout));
    // All that happened comes with it, each violation at its time.
    let happened = replayed.stdout.lines().filter(|line| line.contains(" VIOLATION: "));
    let happened: Vec<String> = happened.map(|line| line.replace(" VIOLATION: ", " ")).take(10).collect();
    let told = verdict(&found.stdout).lines().filter_map(|line| line.strip_prefix("  "));
    assert!(!happened.is_empty() && told.eq(happened), "{}", replayed.stdout);
    // It is the guard that was missing.
    let seed = verdict(&found.stdout).split([' ', ':']).nth(1).unwrap();
    let held = simulate(&["--seed", seed, "--hours", "3"]).await.with_code(0).unwrap();
    assert!(held.stdout.contains("no violation"), "{}", held.stdout);
}

#[tokio::test]
async fn without_the_fence_a_violation_is_found_and_replayed() {
    is_missed("fence", "was stored twice").await;
}

#[tokio::test]
async fn without_the_journal_a_violation_is_found_and_replayed() {
    is_missed("journal", "a refresh token that was spent was presented again").await;
}

#[tokio::test]
async fn without_the_urgent_scan_a_token_that_dies_is_found_and_replayed() {
    is_missed("urgent", "its provider answers and the limit allows").await;
}

#[tokio::test]
async fn without_the_scan_for_next_attempts_a_merchant_who_is_not_heard_is_found_and_replayed() {
    is_missed("retry", "the merchant has authorised again, and it still waits for that").await;
}

#[tokio::test]
async fn seeds_without_number_hold() {
    let ended = simulate(&["--seeds", "25", "--hours", "3"]).await.with_code(0).unwrap();
    assert!(ended.stdout.contains("no violation"), "{}", ended.stdout);
}

/// The README tells of these figures.
#[tokio::test]
async fn capacity_is_planned_for_a_million_and_for_ten_million_connections() {
    let under = async |limit: &str| {
        let ended =
            simulate(&["plan", "--lifetime", "6h", "--limit", limit, "--outage", "1h"]).await.with_code(0);
        ended.unwrap().stdout
    };
    assert_eq!(
        under("2000/s").await,
        "tokens of 360 min, an outage of 60 min, 2000.0 requests a second allowed\n \
         connections  refreshes/s  workers  deepest queue  worst staleness    recovers in\n     \
             1000000         53.0        2         190800         32.3 min        4.9 min\n    \
            10000000        529.5        2        1908000         42.7 min       21.6 min\n"
    );
    let narrow = under("500/s").await;
    let verdict = "the limit does not keep up: at least 529.5/s is needed, and more to catch up";
    assert!(narrow.lines().last().is_some_and(|line| line.ends_with(verdict)), "{narrow}");
}
