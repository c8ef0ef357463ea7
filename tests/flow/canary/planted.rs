//! The search itself: what is planted in a place is found there, in every form.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use fred::interfaces::KeysInterface;
use freshet_shared::adapters::rabbitmq::DEAD_LETTER_QUEUE;
use freshet_shared::domain::lane::Lane;
use freshet_tests::binaries::{Binary, TestFolder};
use freshet_tests::fleet::{NewConnection, PATIENCE, TestFleet};
use freshet_tests::otlp::Collector;
use freshet_tests::waiting::eventually;

use super::searched::Searched;
use super::seen;
use super::tap::Tap;
use super::{MARK, everything_told};

/// A provider whose name is to be seen.
const PLANTED: &str = r#"
name = "NAME"
title = "Planted"
integration_type = "33"
[[inputs]]
key = "key"
[token.request]
method = "GET"
url = "https://planted.example/{input.key}"
[token.response]
access_token = "/token"
lifetime = { fixed = "1h" }
"#;

#[tokio::test]
async fn whatever_is_told_in_any_place_is_found_in_every_form() -> Result<()> {
    let searched = Searched::for_marks();
    let lines: Vec<&str> = searched.forms().iter().map(|(_, form)| form.as_str()).collect();
    let mut fleet = TestFleet::found().await?;
    let collector = Collector::start().await?;
    fleet.environment.extend(everything_told(&collector.endpoint()));
    fleet.environment.insert("FRESHET_RETRY__SHORTEST".into(), "1m".into());
    let definitions = TestFolder::create()?;
    definitions.write("planted.toml", &PLANTED.replace("NAME", MARK))?;
    fleet.environment.insert("FRESHET_PROVIDER_DIRECTORY".into(), definitions.path().display().to_string());
    let count = i64::try_from(lines.len())?;
    fleet.add((1..=count).map(|id| NewConnection::fynd(id, 1_500))).await?;

    // Told by a worker itself: in logs and spans, and in the columns of a failure.
    let worker = Binary::new("faulty-worker")?.variables(&fleet.environment).variables([
        ("TEST_FAULT", "tell"),
        ("TEST_TOLD", &lines.join("\n")),
        // One after the other, and no breaker before the last line.
        ("FRESHET_BREAKER__MINIMUM", "1000"),
    ]);
    let mut worker = worker.start()?;
    let tap = Tap::open(&fleet).await?;
    // In the early lane nothing but the token is asked for: one call for each.
    assert_eq!(fleet.scan(Lane::Early).await?.published, u64::try_from(count)?);
    eventually("all lines are told", PATIENCE, async || {
        let told = fleet.number("SELECT COUNT(*) FROM token_refresh WHERE failure_class = 'network'").await?;
        ensure!(told == count, "{told} of {count} are");
        Ok(())
    })
    .await?;
    let all = lines.join("\n");
    // An undecodable message becomes a dead letter as it is.
    fleet.publish_body(Lane::Early, all.as_bytes()).await?;
    eventually("it is put aside", PATIENCE, async || {
        ensure!(fleet.vhost.ready_messages(DEAD_LETTER_QUEUE).await? == 1, "it is not");
        Ok(())
    })
    .await?;
    tap.publish(all.as_bytes()).await?;
    let shown = seen::shown(&mut worker).await?;
    let ended = worker.terminate(PATIENCE).await?.with_code(0)?;
    // In the places that no worker writes a text of its own to.
    let key = format!("{}freshet:planted", fleet.keys.prefix());
    fleet.keys.client().set::<(), _, _>(key.as_str(), all.as_str(), None, None, false).await?;
    for (number, line) in lines.iter().enumerate() {
        let statement = "INSERT INTO provider_control (provider, paused, reason) VALUES (?, 0, ?)";
        fleet.execute(statement, [format!("provider-{number}").into(), (*line).into()]).await?;
    }

    let names: BTreeSet<_> = searched.forms().iter().map(|(name, _)| *name).collect();
    for (place, bytes) in seen::seen(&fleet, &collector, &tap, &ended.stderr, &shown).await? {
        if place == "probes and metrics" {
            // A name of a provider is all that gets into a label.
            ensure!(searched.found_in(&bytes).contains("itself"), "not found in {place}");
            continue;
        }
        if ["producer_lease", "freshet_migrations"].contains(&place) {
            continue;
        }
        let missed: Vec<_> = names.difference(&searched.found_in(&bytes)).copied().collect();
        ensure!(missed.is_empty(), "not found in {place}: {missed:?}");
    }
    tap.close().await?;
    fleet.dissolve().await
}
