//! A short run of it, and one that has to fail.

use std::time::Duration;

use freshet_tests::binaries::{Binary, Ended};

const PATIENCE: Duration = Duration::from_secs(300);

async fn chaos(arguments: &[&str]) -> Ended {
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

/// Where the servers' programs are; the harness starts with an empty environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[tokio::test]
async fn a_fleet_under_faults_loses_nothing_and_does_nothing_twice() {
    let ended =
        chaos(&["--jobs", "300", "--worker-kills", "6", "--network-faults", "2"]).await.with_code(0).unwrap();
    assert!(ended.stdout.contains("worker kills"), "{}", ended.stdout);
}

#[tokio::test]
async fn without_safe_dead_letters_the_oracle_objects() {
    let calm = ["--jobs", "20", "--worker-kills", "1", "--worker-terms", "0", "--worker-stops", "0"];
    let calm =
        [&calm[..], &["--producer-kills", "0", "--broker-kills", "0", "--database-kills", "0"]].concat();
    let calm =
        [&calm[..], &["--redis-kills", "0", "--network-faults", "0", "--without", "dead-lettering"]].concat();
    let ended = chaos(&calm).await.with_code(1).unwrap();
    assert!(ended.stdout.contains("freshet.refresh.shared.urgent.v1"), "{}", ended.stdout);
}

#[tokio::test]
async fn without_the_journal_the_oracle_objects() {
    // Calls that take their time, so that whoever is killed dies with some of them.
    let kills = ["--jobs", "300", "--worker-kills", "8", "--latency", "500", "--first-failures", "0"];
    let alone =
        ["--worker-terms", "0", "--worker-stops", "0", "--producer-kills", "0", "--broker-kills", "0"];
    let alone =
        [&alone[..], &["--database-kills", "0", "--redis-kills", "0", "--network-faults", "0"]].concat();
    let ended =
        chaos(&[&kills[..], &alone[..], &["--without", "journal"]].concat()).await.with_code(1).unwrap();
    let found = ended.stdout.lines().find(|line| line.starts_with("spent token presented")).unwrap();
    assert!(!found.ends_with(" 0"), "{}", ended.stdout);
}
