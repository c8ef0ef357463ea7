//! A short run of it, and one that has to fail.

use std::time::Duration;

use freshet_tests::binaries::{Binary, Ended};
use tokio::sync::Semaphore;

const PATIENCE: Duration = Duration::from_secs(300);
/// Each run has servers of its own, and more of them at once than this take from each other what they need to start.
static PLACES: Semaphore = Semaphore::const_new(3);

async fn chaos(arguments: &[&str]) -> Ended {
    let _place = PLACES.acquire().await.unwrap();
    Binary::new("chaos")
        .unwrap()
        .arguments(arguments)
        .variable("PATH", PATH)
        .start()
        .unwrap()
        .ended(PATIENCE)
        .await
        .unwrap()
}

/// What a kill or a stop meets is chance: one of three runs has to show it.
async fn until_shown(arguments: &[&str], is_shown: impl Fn(&Ended) -> bool) -> Ended {
    let mut printed = String::new();
    for _ in 0..3 {
        let ended = chaos(arguments).await;
        if is_shown(&ended) {
            return ended;
        }
        printed = ended.stdout;
    }
    panic!("three runs did not show it; the last one printed:\n{printed}")
}

/// Whether the table has any of these.
fn counts(ended: &Ended, kind: &str) -> bool {
    ended.stdout.lines().any(|line| line.starts_with(kind) && !line.ends_with(" 0"))
}

/// Where the servers' programs are; the harness starts with an empty environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[tokio::test]
async fn a_fleet_under_faults_loses_nothing_and_does_nothing_twice() {
    let ended =
        chaos(&["--jobs", "300", "--worker-kills", "6", "--network-faults", "2"]).await.with_code(0).unwrap();
    assert!(counts(&ended, "worker kills"), "{}", ended.stdout);
}

/// Nothing of what is done unless something else is ordered.
const CALM: [&str; 18] = [
    "--worker-kills",
    "0",
    "--worker-terms",
    "0",
    "--worker-stops",
    "0",
    "--producer-kills",
    "0",
    "--producer-terms",
    "0",
    "--producer-stops",
    "0",
    "--broker-kills",
    "0",
    "--database-kills",
    "0",
    "--redis-kills",
    "0",
];

#[tokio::test]
async fn work_goes_on_when_a_broker_that_was_away_is_back() {
    let ordered = ["--jobs", "30", "--network-faults", "0", "--broker-kills", "2", "--broker-seconds", "3"];
    let ended = chaos(&[&CALM[..], &ordered].concat()).await.with_code(0).unwrap();
    let timed = |line: &&str| line.starts_with("broker back to work, p99");
    assert_eq!(ended.stdout.lines().filter(timed).count(), 1, "{}", ended.stdout);
    // Work of its own for each absence.
    let jobs = ended.stdout.lines().find(|line| line.starts_with("jobs ")).unwrap();
    assert!(jobs.ends_with(" 430"), "{jobs}");
}

/// Workers that stand still for so long that the broker gives their messages to others, while calls wait for them that end
/// well: two of them have a token for one connection.
const OVERTAKEN: [&str; 14] = [
    "--jobs",
    "600",
    "--network-faults",
    "0",
    "--worker-stops",
    "4",
    "--stop-seconds",
    "10",
    "--call-seconds",
    "20",
    "--latency",
    "500",
    "--first-failures",
    "0",
];

#[tokio::test]
async fn of_two_workers_with_a_token_for_one_connection_one_stores_it() {
    let arguments = [&CALM[..], &OVERTAKEN].concat();
    let _ = until_shown(&arguments, |ended| {
        assert_eq!(ended.code, Some(0), "{}", ended.stdout);
        ended.stdout.lines().any(|line| line.starts_with("called again: worker stood still"))
    })
    .await;
}

/// A lease lasts 23 s here.
#[tokio::test]
async fn whoever_stands_still_beyond_a_lease_or_a_claim_does_nothing_twice() {
    let stops = ["--jobs", "400", "--worker-stops", "2", "--producer-stops", "1", "--stop-seconds", "30"];
    let ordered = ["--network-faults", "0", "--latency", "200"];
    let _ = until_shown(&[&CALM[..], &stops, &ordered].concat(), |ended| {
        assert_eq!(ended.code, Some(0), "{}", ended.stdout);
        for stood_still in ["worker SIGSTOPs", "producer SIGSTOPs"] {
            assert!(counts(ended, stood_still), "{}", ended.stdout);
        }
        // The broker gave to others what the sleeper had.
        let reasons = ["called again: ", "ended, came again: ", "quarantined: "];
        let is_reason = |line: &str| {
            reasons.iter().any(|reason| line.starts_with(reason)) && line.contains("worker stood still")
        };
        ended.stdout.lines().any(is_reason)
    })
    .await;
}

#[tokio::test]
async fn without_the_fence_the_oracle_objects() {
    let arguments = [&CALM[..], &OVERTAKEN, &["--without", "fence"]].concat();
    let ended = until_shown(&arguments, |ended| counts(ended, "stored twice")).await;
    let _ = ended.with_code(1).unwrap();
}

/// Messages put aside while the broker is killed, and hardly anything else.
const PUT_ASIDE: [&str; 6] = ["--jobs", "20", "--network-faults", "0", "--dead-letters", "8000"];

#[tokio::test]
async fn no_dead_letter_is_lost_with_the_broker() {
    let ended = chaos(&[&CALM[..], &PUT_ASIDE].concat()).await.with_code(0).unwrap();
    let kills = ended.stdout.lines().find(|line| line.starts_with("broker kills among them")).unwrap();
    assert!(kills.ends_with(" 4"), "{}", ended.stdout);
}

#[tokio::test]
async fn with_dead_letters_as_the_broker_has_them_by_itself_some_are_lost() {
    let arguments = [&CALM[..], &PUT_ASIDE, &["--without", "dead-lettering"]].concat();
    let ended =
        until_shown(&arguments, |ended| counts(ended, "dead letter lost")).await.with_code(1).unwrap();
    // A queue that could lose them is named before it does.
    assert!(ended.stdout.contains("freshet.refresh.shared.urgent.v1"), "{}", ended.stdout);
}

#[tokio::test]
async fn without_the_journal_the_oracle_objects() {
    // Calls that take their time, so that whoever is killed dies with some of them.
    let kills = ["--jobs", "300", "--worker-kills", "8", "--latency", "500", "--first-failures", "0"];
    let ordered = ["--network-faults", "0", "--without", "journal"];
    let ended = chaos(&[&CALM[..], &kills, &ordered].concat()).await.with_code(1).unwrap();
    let found = ended.stdout.lines().find(|line| line.starts_with("spent token presented")).unwrap();
    assert!(!found.ends_with(" 0"), "{}", ended.stdout);
}
