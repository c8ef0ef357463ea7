//! Whose secret goes along, in which form, and which one of several.

use std::sync::Arc;

use anyhow::Result;
use freshet_shared::adapters::system::SystemClock;
use freshet_shared::domain::failure::FailureClass;
use freshet_tests::model_provider::{
    ClientAuthentication, DefinedCaller, DefinitionOptions, Grant, ModelProvider, Rotation, SecretOf,
    Settings,
};
use serde_json::json;

use super::exchange::{ACCOUNT, CLIENT, PATIENT, SECRET};

#[tokio::test]
async fn a_client_is_known_in_header_and_body_by_either_grant() -> Result<()> {
    for authentication in [ClientAuthentication::Basic, ClientAuthentication::Body] {
        for rotation in [None, Some(Rotation::Strict)] {
            let settings = Settings { authentication, ..Settings::new(Rotation::Strict) };
            let model = ModelProvider::start(settings).await?;
            model.set_client_secrets(CLIENT, &[SECRET]);
            let refresh_token = model.authorise(ACCOUNT, CLIENT);
            let grant = rotation.map_or(Grant::ClientCredentials, Grant::RefreshToken);
            let options = DefinitionOptions { authentication, ..DefinitionOptions::new("model", grant) };
            let input = json!({"client_id": CLIENT, "client_secret": SECRET});
            let caller =
                DefinedCaller::new(&model.definition(&options), &input, &[], PATIENT, Arc::new(SystemClock))?;
            let spent = rotation.map(|_| refresh_token.as_str());
            let granted = caller.call(spent, 0, None).await;
            let granted =
                granted.map_err(|failure| anyhow::anyhow!("{authentication:?}, {grant:?}: {failure}"))?;
            assert!(model.is_valid(granted.access_token.expose()), "{authentication:?}, {grant:?}");
            let account = if rotation.is_some() { ACCOUNT } else { CLIENT };
            assert_eq!(model.access_tokens(account).len(), 1, "{authentication:?}, {grant:?}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_operators_secrets_are_tried_in_turn_while_the_provider_changes_its_own() -> Result<()> {
    let model = ModelProvider::start(Settings::new(Rotation::None)).await?;
    let options = DefinitionOptions {
        integration_type: Some("99".into()),
        secret: SecretOf::Operator,
        ..DefinitionOptions::new("model", Grant::ClientCredentials)
    };
    let caller = DefinedCaller::new(
        &model.definition(&options),
        &json!({"client_id": CLIENT}),
        &["new & next", "old+one"],
        PATIENT,
        Arc::new(SystemClock),
    )?;
    assert_eq!(caller.secret_choices(), 2);
    for (counting, good) in [
        (&["old+one"][..], [false, true]),
        (&["old+one", "new & next"], [true, true]),
        (&["new & next"], [true, false]),
        (&[], [false, false]),
    ] {
        model.set_client_secrets(CLIENT, counting);
        for (place, is_good) in good.into_iter().enumerate() {
            match caller.call(None, place, None).await {
                Ok(grant) => {
                    assert!(is_good && model.is_valid(grant.access_token.expose()), "{counting:?}, {place}")
                }
                Err(failure) => {
                    assert!(!is_good, "{counting:?}, {place}: {failure}");
                    assert_eq!((failure.class, failure.may_have_spent), (FailureClass::InvalidClient, false));
                }
            }
        }
    }
    Ok(())
}
