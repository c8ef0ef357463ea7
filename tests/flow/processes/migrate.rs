//! `freshet migrate`.

use anyhow::Result;
use freshet_tests::binaries::{Binary, Ended};
use freshet_tests::fleet::{NewConnection, TestFleet};

async fn migrate(url: &str, arguments: &[&str]) -> Result<Ended> {
    let migrate = Binary::new("freshet")?.arguments(["migrate"]).arguments(arguments);
    migrate.variable("FRESHET_DATABASE__URL", url).run().await
}

#[tokio::test]
async fn the_first_run_says_what_it_did_and_the_second_that_nothing_was_left() -> Result<()> {
    let fleet = TestFleet::found_without_tables(|_| ()).await?;
    let url = fleet.database.url();
    let refused = migrate(&url, &[]).await?.with_code(1)?;
    assert!(refused.stderr.contains("table `ie_appinstall_connection` does not exist"), "{refused:?}");
    let refused = Binary::new("worker")?.arguments(["run"]).variables(&fleet.environment).run().await?;
    assert!(refused.with_code(1)?.stderr.contains("run `freshet migrate`"));

    let first = migrate(&url, &["--platform-tables"]).await?.with_code(0)?;
    assert!(first.stdout.contains("applied "), "{}", first.stdout);
    assert!(first.stdout.contains("created index "), "{}", first.stdout);
    fleet.add([NewConnection::fynd(1, 300)]).await?;
    let before = fleet.stored(1).await?;
    for arguments in [[].as_slice(), &["--platform-tables"]] {
        let second = migrate(&url, arguments).await?.with_code(0)?;
        assert_eq!(second.stdout, "the database is as it should be; nothing was changed\n");
    }
    assert_eq!(fleet.stored(1).await?, before);
    fleet.dissolve().await
}

#[tokio::test]
async fn a_database_that_lets_nobody_in_is_named_without_the_password() -> Result<()> {
    let fleet = TestFleet::found().await?;
    let url = fleet.database.url();
    let host = url.rsplit_once('@').map_or(url.as_str(), |(_, host)| host);
    let missing = host.replace(fleet.database.name(), "freshet_test_nowhere");
    let (user, _) =
        url.split_once("://").map_or(("", ""), |(_, rest)| rest.split_once('@').unwrap_or_default());
    for (url, words) in [
        (format!("mysql://nobody:s3cret@{host}"), "user or password is wrong"),
        (format!("mysql://{user}@{missing}"), "the database does not exist"),
    ] {
        let ended = migrate(&url, &[]).await?.with_code(1)?;
        assert!(ended.stderr.contains(words), "{ended:?}");
        assert!(!format!("{ended:?}").contains("s3cret"), "{ended:?}");
    }
    fleet.dissolve().await
}
