//! A provider that does not answer, with a queue pool of its own, and another one beside it.

use anyhow::{Result, ensure};
use freshet_shared::domain::lane::Lane;
use freshet_tests::binaries::Binary;
use freshet_tests::fleet::{NewConnection, PATIENCE};
use freshet_tests::model_provider::{
    DefinedFleet, DefinitionOptions, Fault, Grant, ModelProvider, Rotation, Settings,
};
use freshet_tests::waiting::eventually;
use serde_json::json;

/// More than the worker has slots.
const SLOW: i64 = 40;
/// Of the others, more than half of its slots.
const OTHERS: i64 = 30;

#[tokio::test]
async fn a_provider_that_hangs_leaves_half_of_the_slots_to_other_pools() -> Result<()> {
    let model = ModelProvider::start(Settings::new(Rotation::None)).await?;
    model.set_standing_fault(Some(Fault::hang()));
    let options = DefinitionOptions {
        integration_type: Some(DefinedFleet::INTEGRATION_TYPE.into()),
        ..DefinitionOptions::new("model", Grant::ClientCredentials)
    };
    let definition = model.definition(&options).replacen("name =", "pool = \"slow\"\nname =", 1);
    let mut defined = DefinedFleet::found(&definition).await?;
    defined.fleet.environment.insert("FRESHET_WORKER__CONCURRENCY".into(), "8".into());
    // Longer than the test has patience for the others.
    defined.fleet.environment.insert("FRESHET_CALL__TIMEOUT".into(), "60s".into());
    for id in 1..=SLOW {
        defined.add(id, &json!({"client_id": format!("client-{id}"), "client_secret": "s"}), None).await?;
    }
    let fleet = &defined.fleet;
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, SLOW as u64);
    let worker = Binary::new("worker")?.arguments(["run"]).variables(&fleet.environment).start()?;
    eventually("the slow provider has all the calls that it gets", PATIENCE, async || {
        let calls = model.ledger().len();
        ensure!(calls >= 3, "{calls} calls; the worker says:\n{}", worker.stderr());
        Ok(())
    })
    .await?;
    fleet.add((100..100 + OTHERS).map(|id| NewConnection::fynd(id, 300))).await?;
    assert_eq!(fleet.scan(Lane::Urgent).await?.published, OTHERS as u64);
    eventually("the other provider's connections are fresh", PATIENCE, async || {
        let fresh = fleet.number("SELECT COUNT(*) FROM token_refresh WHERE generation = 1").await?;
        ensure!(fresh == OTHERS, "{fresh} of {OTHERS} are");
        Ok(())
    })
    .await?;
    let calls = model.ledger().len();
    ensure!(calls <= 4, "{calls} calls: more than half of 8 slots wait for the provider that hangs");
    drop(worker);
    defined.fleet.vhost.delete_vhost().await
}
