//! The definition's text.

use chrono::TimeDelta;

use super::super::{ClientAuthentication, DefinitionOptions, Grant, Rotation, SecretOf, Successor};
use super::rotating;

#[tokio::test]
async fn it_says_what_the_model_does() {
    let (model, _) = rotating(Rotation::Strict).await;
    let leeway = Rotation::Leeway { window: TimeDelta::seconds(60), again: Successor::Same };
    let body = DefinitionOptions {
        authentication: ClientAuthentication::Body,
        secret: SecretOf::Operator,
        integration_type: Some("99".into()),
        lifetime: "[{ seconds = \"/expires_in\" }, \"observed\"]".into(),
        more: "[limits]\nconcurrency = 2\n".into(),
        ..DefinitionOptions::new("model", Grant::RefreshToken(leeway))
    };
    let text = model.definition(&body);
    for line in [
        "name = \"model\"",
        "integration_type = \"99\"",
        "[[secrets]]\nkey = \"client_secret\"",
        &format!("url = \"{}\"", model.token_url()),
        "[\"refresh_token\", \"{refresh_token}\"], [\"client_id\", \"{input.client_id}\"], [\"client_secret\", \"{secret.client_secret}\"]]",
        "lifetime = [{ seconds = \"/expires_in\" }, \"observed\"]",
        "[refresh_token]\nrotation = { leeway = \"60s\" }\nanswer = \"/refresh_token\"",
        "[limits]\nconcurrency = 2",
    ] {
        assert!(text.contains(line), "{line}\n\n{text}");
    }
    assert!(!text.contains("basic ="));

    let text = model.definition(&DefinitionOptions::new("model", Grant::ClientCredentials));
    assert!(text.contains(
        "form = [[\"grant_type\", \"client_credentials\"]]\nbasic = { username = \"{input.client_id}\", "
    ));
    assert!(!text.contains("refresh_token") && !text.contains("integration_type"), "{text}");
}
