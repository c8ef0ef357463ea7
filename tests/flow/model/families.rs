//! Whole refreshes, and what they leave of a family of refresh tokens.

use anyhow::{Context, Result};
use chrono::TimeDelta;
use freshet_tests::fleet::PATIENCE;
use freshet_tests::model_provider::{
    DefinedFleet, DefinitionOptions, Did, Fault, Grant, ModelProvider, RetryAfter, Rotation, SecretOf, Sent,
    Settings, Successor,
};
use serde_json::json;

use super::exchange::{CLIENT, SECRET};

const LEEWAY: Rotation = Rotation::Leeway { window: TimeDelta::seconds(600), again: Successor::Same };

/// A fleet on a model, with the accounts `1..=accounts`, each the connection of that id.
async fn founded(rotation: Rotation, accounts: i64) -> Result<(ModelProvider, DefinedFleet)> {
    let model = ModelProvider::start(Settings::new(rotation)).await?;
    model.set_client_secrets(CLIENT, &[SECRET]);
    let options = DefinitionOptions {
        integration_type: Some(DefinedFleet::INTEGRATION_TYPE.into()),
        secret: SecretOf::Connection,
        ..DefinitionOptions::new("model", Grant::RefreshToken(rotation))
    };
    let mut defined = DefinedFleet::found(&model.definition(&options)).await?;
    // Silence is waited for no longer than this.
    let environment = &mut defined.fleet.environment;
    environment.insert("FRESHET_CALL__TIMEOUT".into(), "5s".into());
    environment.insert("FRESHET_CALL__CONNECT_TIMEOUT".into(), "1s".into());
    for id in 1..=accounts {
        let refresh_token = model.authorise(&id.to_string(), CLIENT);
        let input = json!({"client_id": CLIENT, "client_secret": SECRET});
        defined.add(id, &input, Some(&refresh_token)).await?;
    }
    Ok((model, defined))
}

/// What is stored is what the model knows to be good.
async fn assert_stored(model: &ModelProvider, defined: &DefinedFleet, id: i64, name: &str) -> Result<()> {
    let stored = defined.fleet.stored(id).await?;
    let access_token = stored.access_token.context("no access token")?;
    assert!(model.is_valid(&access_token), "{name}");
    assert_eq!(
        defined.fleet.cache().await?[&format!("connectionAccessToken_{id}")].value,
        access_token,
        "{name}"
    );
    assert_eq!(defined.refresh_token(id).await?, model.refresh_token(&id.to_string()), "{name}");
    Ok(())
}

#[tokio::test]
async fn each_generation_spends_the_token_of_the_one_before() -> Result<()> {
    for rotation in [Rotation::Strict, LEEWAY, Rotation::None] {
        let name = format!("{rotation:?}");
        let (model, defined) = founded(rotation, 1).await?;
        for generation in 1..=3 {
            defined.come_due().await?;
            assert_eq!(defined.refresh(1).await?, ["refreshed"], "{name}");
            assert_eq!(defined.fleet.stored(1).await?.generation(), generation, "{name}");
            assert_stored(&model, &defined, 1, &name).await?;
        }
        let presented: Vec<_> = model.ledger().iter().filter_map(|entry| entry.presented).collect();
        let expected = if rotation == Rotation::None { [1, 1, 1] } else { [1, 2, 3] };
        assert_eq!(presented, expected, "{name}");
        assert_eq!((model.grants("1"), model.reuse_detections("1")), (3, 0), "{name}");
        defined.fleet.dissolve().await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_strict_token_that_may_be_spent_is_never_presented_again() -> Result<()> {
    let cases = [
        ("lost", Fault::lost(), "answer_lost"),
        ("reset", Fault::reset(), "answer_lost"),
        ("half a body", Fault::short_body(), "answer_lost"),
        ("silence", Fault::hang(), "answer_lost"),
        ("a gateway's time is over", Fault::status(504).spending(), "server_error"),
        ("cut JSON", Fault::cut_json(), "malformed_answer"),
        ("no token", Fault::without("access_token"), "malformed_answer"),
    ];
    let accounts = i64::try_from(cases.len())?;
    let (model, defined) = founded(Rotation::Strict, accounts).await?;
    for (id, (_, fault, _)) in (1_i64..).zip(&cases) {
        model.script(&id.to_string(), [fault.clone()]);
    }
    assert_eq!(defined.refresh(cases.len()).await?, vec!["failed"; cases.len()]);
    // Once more, whatever is planned.
    assert!(!defined.retry().await?.contains(&"refreshed"));
    for (id, (name, _, class)) in (1_i64..).zip(&cases) {
        let account = id.to_string();
        assert_eq!(
            (model.calls(&account), model.grants(&account), model.reuse_detections(&account)),
            (1, 1, 0),
            "{name}"
        );
        let stored = defined.fleet.stored(id).await?;
        assert_eq!(stored.access_token, Some(format!("old-{id}")), "{name}");
        let ours = stored.ours.context("not enrolled")?;
        assert_eq!(
            (ours.state.as_str(), ours.failure_class.as_deref()),
            ("quarantined", Some(*class)),
            "{name}"
        );
        // The merchant authorises again, which ends the wait.
        defined.authorise(id, &model.authorise(&account, CLIENT)).await?;
    }
    assert_eq!(defined.retry().await?, vec!["refreshed"; cases.len()]);
    for (id, (name, ..)) in (1_i64..).zip(&cases) {
        assert_stored(&model, &defined, id, name).await?;
        assert_eq!(defined.fleet.stored(id).await?.ours.context("not enrolled")?.state, "active", "{name}");
    }
    defined.fleet.dissolve().await
}

#[tokio::test]
async fn a_token_that_is_not_spent_is_presented_again_when_its_time_comes() -> Result<()> {
    let cases = [
        ("429", Fault::rate_limited(RetryAfter::Seconds(60)), "rate_limited"),
        ("503", Fault::status(503), "server_error"),
        ("a refused client", Fault::error(401, "invalid_client"), "invalid_client"),
        ("a refused grant", Fault::error(400, "invalid_grant"), "invalid_grant"),
    ];
    let (model, defined) = founded(Rotation::Strict, i64::try_from(cases.len())?).await?;
    for (id, (_, fault, _)) in (1_i64..).zip(&cases) {
        model.script(&id.to_string(), [fault.clone()]);
    }
    assert_eq!(defined.refresh(cases.len()).await?, vec!["failed"; cases.len()]);
    for (id, (name, _, class)) in (1_i64..).zip(&cases) {
        let ours = defined.fleet.stored(id).await?.ours.context("not enrolled")?;
        assert_eq!((ours.state.as_str(), ours.failure_class.as_deref()), ("active", Some(*class)), "{name}");
    }
    assert_eq!(defined.retry().await?, vec!["refreshed"; cases.len()]);
    for (id, (name, ..)) in (1_i64..).zip(&cases) {
        let account = id.to_string();
        assert_stored(&model, &defined, id, name).await?;
        assert_eq!(
            (model.calls(&account), model.grants(&account), model.reuse_detections(&account)),
            (2, 1, 0),
            "{name}"
        );
    }
    assert_eq!(model.unused_faults(), 0);
    defined.fleet.dissolve().await
}

#[tokio::test]
async fn within_the_leeway_a_lost_answer_is_asked_for_again_at_once() -> Result<()> {
    let (model, defined) = founded(LEEWAY, 1).await?;
    model.script("1", [Fault::lost()]);
    assert_eq!(defined.refresh(1).await?, ["refreshed"]);
    assert_stored(&model, &defined, 1, "lost").await?;
    model.until_settled(PATIENCE).await?;
    let ledger: Vec<_> =
        model.ledger().iter().map(|entry| (entry.presented, entry.did, entry.sent)).collect();
    let granted = |access_token| Did::Granted { access_token, refresh_token: Some(2) };
    let expected =
        [(Some(1), granted(1), Sent::Nothing), (Some(1), granted(2), Sent::Complete { status: 200 })];
    assert_eq!(ledger, expected);
    defined.fleet.dissolve().await
}

#[tokio::test]
async fn after_five_refusals_of_the_grant_the_merchant_is_asked_for() -> Result<()> {
    let (model, defined) = founded(Rotation::Strict, 1).await?;
    model.revoke("1");
    assert_eq!(defined.refresh(1).await?, ["failed"]);
    for refusals in 2..=5 {
        let ours = defined.fleet.stored(1).await?.ours.context("not enrolled")?;
        assert_eq!((ours.state.as_str(), ours.failure_class.as_deref()), ("active", Some("invalid_grant")));
        assert_eq!(defined.retry().await?, ["failed"]);
        assert_eq!(model.calls("1"), refusals);
    }
    assert_eq!(defined.fleet.stored(1).await?.ours.context("not enrolled")?.state, "needs_reauth");
    defined.retry().await?;
    assert_eq!(model.calls("1"), 5, "nobody asks again");
    defined.authorise(1, &model.authorise("1", CLIENT)).await?;
    assert_eq!(defined.retry().await?, ["refreshed"]);
    assert_stored(&model, &defined, 1, "authorised").await?;
    defined.fleet.dissolve().await
}
