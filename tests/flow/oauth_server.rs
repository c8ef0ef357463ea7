//! Against an OAuth server that is none of our code: whether what we send is understood by somebody who never saw it.
//!
//! The server itself says whether a token is good (RFC 7662). It ends a grant whose spent refresh token comes again.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use chrono::TimeDelta;
use freshet_shared::adapters::system::SystemClock;
use freshet_shared::domain::failure::FailureClass;
use freshet_tests::model_provider::{
    ClientAuthentication, DefinedCaller, DefinedFleet, DefinitionOptions, Grant, Rotation, SecretOf,
};
use freshet_tests::services::OAuthServer;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(60);
const BOTH: [ClientAuthentication; 2] = [ClientAuthentication::Basic, ClientAuthentication::Body];

fn caller(server: &OAuthServer, options: &DefinitionOptions, secret: &str) -> Result<DefinedCaller> {
    let input = json!({"client_id": OAuthServer::CLIENT_ID, "client_secret": secret});
    DefinedCaller::new(&options.text(server.token_url()), &input, &[], PATIENCE, Arc::new(SystemClock))
}

/// What the server says of a token.
async fn introspect(server: &OAuthServer, token: &str) -> Result<Value> {
    let members = [
        ("client_id", OAuthServer::CLIENT_ID),
        ("client_secret", OAuthServer::CLIENT_SECRET),
        ("token", token),
    ];
    let form: Vec<_> = members
        .iter()
        .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
        .collect();
    let request = reqwest::Client::new()
        .post(server.introspection_url())
        .header("content-type", "application/x-www-form-urlencoded")
        .body(form.join("&"));
    let answer = request.send().await?.error_for_status()?.bytes().await?;
    serde_json::from_slice(&answer).context("the server does not answer in JSON")
}

async fn is_active(server: &OAuthServer, token: &str) -> Result<bool> {
    introspect(server, token).await?["active"]
        .as_bool()
        .context("the server does not say whether it is active")
}

#[tokio::test]
async fn client_credentials_are_taken_in_header_and_body() -> Result<()> {
    let server = OAuthServer::start().await?;
    let lifetime = TimeDelta::seconds(OAuthServer::ACCESS_TOKEN_LIFETIME.into());
    for authentication in BOTH {
        let options = DefinitionOptions {
            authentication,
            scope: Some(OAuthServer::SCOPE.into()),
            secret: SecretOf::Connection,
            ..DefinitionOptions::new("real", Grant::ClientCredentials)
        };
        let granted = caller(&server, &options, OAuthServer::CLIENT_SECRET)?.call(None, 0, None).await;
        let granted = granted.map_err(|failure| anyhow!("{authentication:?}: {failure}"))?;
        assert_eq!(granted.lifetime, Some(lifetime));
        let said = introspect(&server, granted.access_token.expose()).await?;
        assert_eq!(
            (&said["active"], &said["client_id"]),
            (&json!(true), &json!(OAuthServer::CLIENT_ID)),
            "{said}"
        );
        assert_eq!(said["scope"], json!(OAuthServer::SCOPE));
        let until = granted.expires_at.context("no expiry")?.timestamp();
        let until_by_the_server = said["exp"].as_i64().context("no exp")?;
        assert!((until_by_the_server - 60..=until_by_the_server).contains(&until), "{until}: {said}");

        let refused = caller(&server, &options, "another secret")?.call(None, 0, None).await;
        let failure = refused.err().context("a wrong secret was taken")?;
        assert_eq!(
            (failure.class, failure.may_have_spent),
            (FailureClass::InvalidClient, false),
            "{failure}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn refresh_tokens_rotate_over_generations_and_a_spent_one_ends_the_grant() -> Result<()> {
    for authentication in BOTH {
        let server = OAuthServer::start().await?;
        let grant = Grant::RefreshToken(Rotation::Strict);
        let options = DefinitionOptions { authentication, ..DefinitionOptions::new("real", grant) };
        let caller = caller(&server, &options, OAuthServer::CLIENT_SECRET)?;
        let mut refresh_tokens = vec![server.refresh_token().to_owned()];
        let mut access_tokens = Vec::new();
        for generation in 1..=3 {
            let spent = refresh_tokens.last().context("no refresh token")?;
            let granted = caller.call(Some(spent), 0, None).await;
            let granted =
                granted.map_err(|failure| anyhow!("{authentication:?}, {generation}: {failure}"))?;
            let next = granted.refresh_token.context("it names no new refresh token")?.expose().to_owned();
            assert!(!refresh_tokens.contains(&next), "{generation}: it is replaced each time");
            assert!(is_active(&server, granted.access_token.expose()).await?, "{generation}");
            assert!(is_active(&server, &next).await?, "{generation}");
            refresh_tokens.push(next);
            access_tokens.push(granted.access_token.expose().to_owned());
        }

        let failure =
            caller.call(Some(&refresh_tokens[1]), 0, None).await.err().context("a spent one was taken")?;
        assert_eq!((failure.class, failure.may_have_spent), (FailureClass::InvalidGrant, false), "{failure}");
        let newest = refresh_tokens.last().context("no refresh token")?;
        assert!(!is_active(&server, newest).await?, "the whole grant has ended");
        let failure = caller.call(Some(newest), 0, None).await.err().context("the grant has ended")?;
        assert_eq!(failure.class, FailureClass::InvalidGrant, "{failure}");
        for access_token in &access_tokens {
            assert!(!is_active(&server, access_token).await?);
        }
    }
    Ok(())
}

#[tokio::test]
async fn a_fleet_refreshes_two_generations() -> Result<()> {
    let server = OAuthServer::start().await?;
    let options = DefinitionOptions {
        integration_type: Some(DefinedFleet::INTEGRATION_TYPE.into()),
        ..DefinitionOptions::new("real", Grant::RefreshToken(Rotation::Strict))
    };
    let defined = DefinedFleet::found(&options.text(server.token_url())).await?;
    let input = json!({"client_id": OAuthServer::CLIENT_ID, "client_secret": OAuthServer::CLIENT_SECRET});
    defined.add(1, &input, Some(server.refresh_token())).await?;
    let mut refresh_tokens = vec![server.refresh_token().to_owned()];
    for generation in 1..=2 {
        defined.come_due().await?;
        assert_eq!(defined.refresh(1).await?, ["refreshed"]);
        let stored = defined.fleet.stored(1).await?;
        assert_eq!(stored.generation(), generation);
        let access_token = stored.access_token.context("no access token")?;
        assert_eq!(defined.fleet.cache().await?["connectionAccessToken_1"].value, access_token);
        assert!(is_active(&server, &access_token).await?);
        let refresh_token = defined.refresh_token(1).await?.context("no refresh token")?;
        assert!(is_active(&server, &refresh_token).await?);
        assert!(!refresh_tokens.contains(&refresh_token));
        refresh_tokens.push(refresh_token);
    }
    defined.fleet.dissolve().await
}
