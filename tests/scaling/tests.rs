//! The short form, and one that has to be found out.

use std::time::Duration;

use freshet_tests::binaries::{Binary, Ended};

const PATIENCE: Duration = Duration::from_secs(300);
/// Where the servers' programs are; the harness starts with an empty environment.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

async fn rehearsal(arguments: &[&str]) -> Ended {
    let binary = Binary::new("rehearsal").unwrap().arguments(arguments).variable("PATH", PATH);
    binary.start().unwrap().ended(PATIENCE).await.unwrap()
}

/// The number behind a word of the table.
fn number(printed: &str, word: &str) -> u32 {
    let line = printed.lines().find(|line| line.starts_with(word)).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn workers_come_and_go_with_the_load_and_nothing_is_interrupted() {
    let ended = rehearsal(&["--quick"]).await.with_code(0).unwrap();
    assert!(number(&ended.stdout, "of them busy") > 0, "{}", ended.stdout);
}

#[tokio::test]
async fn workers_that_are_killed_are_found_out() {
    let ended = rehearsal(&["--quick", "--ending", "kill"]).await.with_code(1).unwrap();
    assert!(number(&ended.stdout, "granted twice") > 0, "{}", ended.stdout);
    assert_eq!(number(&ended.stdout, "tokens lost"), 0, "{}", ended.stdout);
}
