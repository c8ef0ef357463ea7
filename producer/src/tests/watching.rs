//! Refresh tokens that the fleet did not store itself.

use std::collections::BTreeMap;

use chrono::TimeDelta;
use freshet_shared::domain::connection::ConnectionId;
use freshet_shared::domain::lane::Lane;
use freshet_shared::domain::provider::catalogue::Providers;

use super::{Bench, noon};
use crate::grants::{ending_grants, watch_grants};
use crate::scan::{Target, scan};

/// Takes the place of Fynd, so that the bench's rows are its connections.
const DEFINITION: &str = r#"
name = "fynd"
title = "A provider whose refresh tokens die unused"
integration_type = "15"
[token.request]
method = "POST"
url = "https://idle.test/token"
form = [["refresh_token", "{refresh_token}"]]
[token.response]
access_token = "/access_token"
lifetime = { seconds = "/expires_in" }
[refresh_token]
rotation = "none"
"#;

async fn bench(page_size: u32, more: &str) -> Bench {
    let mut bench = Bench::new(page_size).await;
    let definition = ("idle.toml".to_owned(), format!("{DEFINITION}{more}\n"));
    bench.scanner.providers = Providers::new(&[definition], &BTreeMap::new()).unwrap();
    bench
}

/// Generated ten days ago, good for 50 more.
async fn onboard(bench: &Bench, ids: std::ops::RangeInclusive<i64>) {
    for id in ids {
        bench.add(id, Some(noon() + TimeDelta::days(50))).await;
    }
    bench.execute("UPDATE ie_appinstall_connection SET accessTokenGeneratedOn = '2026-11-11 12:00:00'").await;
}

#[tokio::test]
async fn a_connection_that_was_onboarded_before_is_kept_alive_without_a_refresh_of_ours() {
    let bench = bench(10, "inactivity = \"30d\"").await;
    onboard(&bench, 1..=2).await;
    // The second one has a companion row already, and nothing was ever planned.
    bench.execute("INSERT INTO token_refresh (connection_id) VALUES (2)").await;
    let report = watch_grants(&bench.scanner, None).await.unwrap();
    assert_eq!((report.noted, report.next), (2, None));
    let early = async || scan(&bench.scanner, Target::Lane(Lane::Early)).await.unwrap().published;
    assert_eq!(early().await, 0);
    // Two thirds of thirty days, ten of which are over.
    bench.clock.advance(TimeDelta::days(10) - TimeDelta::seconds(1));
    assert_eq!(early().await, 0);
    bench.clock.advance(TimeDelta::seconds(1));
    assert_eq!(early().await, 2);
    let again = watch_grants(&bench.scanner, None).await.unwrap();
    assert_eq!(again.noted, 0, "what is noted is passed over");
}

#[tokio::test]
async fn a_refresh_token_that_use_does_not_renew_is_warned_of_days_before() {
    let bench = bench(10, "lifetime = { fixed = \"15days\" }").await;
    onboard(&bench, 1..=1).await;
    assert_eq!(watch_grants(&bench.scanner, None).await.unwrap().noted, 1);
    let ending = ending_grants(&bench.scanner, noon(), noon() + TimeDelta::days(7)).await.unwrap();
    assert_eq!(
        (ending[0].connections.as_slice(), ending[0].first_at),
        ([1].as_slice(), noon() + TimeDelta::days(5))
    );
    bench.clock.advance(TimeDelta::days(6));
    let found = scan(&bench.scanner, Target::Lane(Lane::Early)).await.unwrap().found;
    assert_eq!(found, 0, "a refresh would not help");
}

#[tokio::test]
async fn where_only_the_answer_says_how_long_it_lives_one_refresh_finds_out() {
    let bench = bench(10, "lifetime = { seconds = \"/refresh_token_expires_in\" }").await;
    onboard(&bench, 1..=1).await;
    assert_eq!(watch_grants(&bench.scanner, None).await.unwrap().noted, 1);
    bench.clock.advance(TimeDelta::days(1));
    assert_eq!(scan(&bench.scanner, Target::Lane(Lane::Early)).await.unwrap().published, 1);
}

#[tokio::test]
async fn after_a_reconnect_the_end_of_the_old_refresh_token_is_applied_to_nothing() {
    let bench = bench(10, "lifetime = { fixed = \"15days\" }").await;
    onboard(&bench, 1..=1).await;
    watch_grants(&bench.scanner, None).await.unwrap();
    bench
        .execute(
            "UPDATE ie_appinstall_connection SET accessTokenExpiryAt = '2027-01-20 12:00:00', \
             accessTokenGeneratedOn = '2026-11-21 12:00:00'",
        )
        .await;
    let ending = async |days| {
        let before = noon() + TimeDelta::days(days);
        ending_grants(&bench.scanner, noon(), before).await.unwrap()
    };
    assert_eq!(ending(7).await, [], "nobody knows of the new one yet");
    assert_eq!(watch_grants(&bench.scanner, None).await.unwrap().noted, 1);
    assert_eq!(ending(7).await, []);
    assert_eq!(ending(15).await[0].first_at, noon() + TimeDelta::days(15));
}

#[tokio::test]
async fn the_walk_is_bounded_and_goes_on_where_it_ended() {
    let bench = bench(2, "inactivity = \"30d\"").await;
    onboard(&bench, 1..=45).await;
    // Others are none of its business: soon due, switched off, of another provider, waiting for a person.
    bench
        .execute(
            "UPDATE ie_appinstall_connection SET accessTokenExpiryAt = '2026-11-21 12:20:00' WHERE id = 1",
        )
        .await;
    bench.execute("UPDATE ie_appinstall_connection SET isActive = 'no' WHERE id = 2").await;
    bench.execute("UPDATE channels SET integrationType = '99' WHERE connectionId = 3").await;
    bench.execute("INSERT INTO token_refresh (connection_id, state) VALUES (4, 'needs_reauth')").await;
    let first = watch_grants(&bench.scanner, None).await.unwrap();
    assert_eq!((first.noted, first.next), (36, Some(ConnectionId(40))));
    let second = watch_grants(&bench.scanner, first.next).await.unwrap();
    assert_eq!((second.noted, second.next), (5, None));
}
