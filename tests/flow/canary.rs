//! Every secret of a fleet bears a mark; refreshes come to every end that there is; and the mark is seen nowhere.

mod searched;
mod tap;

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use freshet_cli::simulator::{Matcher, Reply, ScriptedAnswer, StatusCode};
use freshet_shared::domain::failure::FailureClass;
use freshet_shared::domain::lane::Lane;
use freshet_tests::binaries::{Binary, DesertedAddress, TestFolder};
use freshet_tests::fleet::{FYND, NewConnection, PATIENCE, TestFleet, VERY};
use freshet_tests::model_provider::{
    ClientAuthentication, DefinitionOptions, Fault, Grant, ModelProvider, Rotation, Settings,
};
use freshet_tests::otlp::Collector;
use freshet_tests::waiting::eventually;
use serde_json::{Value, json};

use searched::{MARK, Searched};
use tap::Tap;

/// Connections of the model, and of a provider at an address that is nobody's to call.
const MODEL: &str = "31";
const GUARDED: &str = "32";

/// Needs encoding wherever it stands, and differently in each place.
fn secret(id: i64, what: &str) -> String {
    format!("{MARK} {what}/{id}+&%=~\"'é end")
}

fn fynd(id: i64) -> Value {
    json!({"x-integration-id": secret(id, "user"), "x-integration-token": secret(id, "password")})
}

fn very(id: i64) -> Value {
    json!({
        "useSandbox": false, "companyRefId": secret(id, "company"), "apiKey": format!("{MARK}-key-{id}"),
        "clientId": secret(id, "client"), "clientSecret": secret(id, "secret")
    })
}

fn client(id: i64) -> Value {
    json!({"client_id": format!("{MARK}-client"), "client_secret": secret(id, "secret")})
}

/// The ends that refreshes come to, one connection each; `None` is a success.
fn ends() -> Vec<(i64, &'static str, Value, Option<FailureClass>)> {
    use FailureClass::*;
    let sandbox = json!({
        "useSandbox": true, "companyRefId": secret(14, "company"), "apiKey": format!("{MARK}-key-14"),
        "clientId": secret(14, "client"), "clientSecret": secret(14, "secret")
    });
    // As if it were sealed with a key that is gone.
    let sealed =
        json!({"client_id": format!("{MARK}-client"), "client_secret": format!("freshet:1:gone:{MARK}")});
    vec![
        (1, FYND, fynd(1), None),
        (2, VERY, very(2), None),
        (3, MODEL, client(0), None),
        (4, FYND, fynd(4), Some(InvalidCredentials)),
        (5, FYND, fynd(5), Some(RateLimited)),
        (6, FYND, fynd(6), Some(ServerError)),
        (7, FYND, fynd(7), Some(MalformedAnswer)),
        (8, FYND, Value::String(secret(8, "no object")), Some(Misconfigured)),
        (9, FYND, fynd(9), Some(UnstorableToken)),
        (10, FYND, fynd(10), Some(EgressBlocked)),
        (11, MODEL, client(0), Some(InvalidGrant)),
        (12, VERY, very(12), Some(InvalidClient)),
        (13, MODEL, client(0), Some(AnswerLost)),
        (14, VERY, sandbox, Some(Network)),
        (15, MODEL, sealed, Some(UnreadableSecret)),
        (16, GUARDED, json!({"key": secret(16, "key")}), Some(EgressBlocked)),
    ]
}

/// A provider whose name leads to where no provider is.
const GUARDED_DEFINITION: &str = r#"
name = "guarded"
title = "Guarded"
integration_type = "32"
[[inputs]]
key = "key"
[token.request]
method = "GET"
url = "https://169.254.169.254/latest/{input.key}"
query = [["key", "{input.key}"]]
[token.response]
access_token = "/token"
lifetime = { fixed = "1h" }
"#;

/// Answers that repeat what they were asked with, as some do.
fn script(fleet: &TestFleet) {
    let echo = |id: i64| format!("<p>{} and {} are wrong</p>", secret(id, "user"), secret(id, "password"));
    let account = |id: i64| Matcher::any().account(secret(id, "user"));
    let answers = [
        (4, Reply::html(StatusCode::UNAUTHORIZED, echo(4))),
        (5, Reply::html(StatusCode::TOO_MANY_REQUESTS, echo(5))),
        (6, Reply::html(StatusCode::BAD_GATEWAY, echo(6))),
        (7, Reply::html(StatusCode::OK, echo(7))),
        (
            9,
            Reply::json(
                StatusCode::OK,
                json!({"status": "SUCCESS", "accessToken": MARK.repeat(300)}).to_string(),
            ),
        ),
        (10, Reply::html(StatusCode::FOUND, echo(10))),
    ];
    for (id, reply) in answers {
        fleet.marketplaces.script(account(id), [ScriptedAnswer::from(reply)]);
    }
    let refusal = json!({"error": "invalid_client", "error_description": secret(12, "secret")}).to_string();
    let client = Matcher::any().account(secret(12, "client"));
    fleet.marketplaces.script(client, [Reply::json(StatusCode::UNAUTHORIZED, refusal).into()]);
}

#[tokio::test]
async fn no_secret_is_seen_anywhere_whatever_a_refresh_comes_to() -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    let collector = Collector::start().await?;
    let deserted = DesertedAddress::take()?;
    let settings = Settings::new(Rotation::Strict);
    let model =
        ModelProvider::start(Settings { authentication: ClientAuthentication::Basic, ..settings }).await?;
    let secret_of_client = client(0)["client_secret"].as_str().context("no secret")?.to_owned();
    let client_id = format!("{MARK}-client");
    model.set_client_secrets(&client_id, &[&secret_of_client]);
    let definitions = TestFolder::create()?;
    let options = DefinitionOptions {
        integration_type: Some(MODEL.into()),
        ..DefinitionOptions::new("modelled", Grant::RefreshToken(Rotation::Strict))
    };
    definitions.write("modelled.toml", &options.text(&model.token_url()))?;
    definitions.write("guarded.toml", GUARDED_DEFINITION)?;
    let variables = [
        ("FRESHET_TELEMETRY__OTLP_ENDPOINT", collector.endpoint()),
        ("FRESHET_TELEMETRY__FILTER", "trace".into()),
        ("FRESHET_TELEMETRY__FORMAT", "json".into()),
        ("FRESHET_PROVIDER_DIRECTORY", definitions.path().display().to_string()),
        (
            "FRESHET_PROVIDERS__VERY__ENVIRONMENTS__SANDBOX__TOKEN_URL",
            format!("http://{}/token", deserted.address()?),
        ),
        ("FRESHET_RETRY__SHORTEST", "1m".into()),
    ];
    fleet.environment.extend(variables.map(|(name, value)| (name.to_owned(), value)));
    fleet.execute("ALTER TABLE ie_appinstall_connection MODIFY accessToken VARCHAR(1000) NULL", []).await?;
    fleet.execute("ALTER TABLE ie_appinstall_connection MODIFY inputFields LONGTEXT NULL", []).await?;
    add(&fleet, &model, &client_id).await?;
    script(&fleet);
    model.script("11", [Fault::error(400, "invalid_grant")]);
    model.script("13", [Fault::lost()]);

    let mut worker = Binary::new("worker")?.arguments(["run"]).variables(&fleet.environment).start()?;
    let tap = Tap::open(&fleet).await?;
    let mut said = String::new();
    for lane in ["urgent", "early"] {
        let producer =
            Binary::new("producer")?.arguments(["once", "--lane", lane]).variables(&fleet.environment);
        let ended = producer.run().await?.with_code(0)?;
        said.push_str(&ended.stdout);
        said.push_str(&ended.stderr);
    }
    fleet.publish_body(Lane::Early, br#"{"v":1,"connection_id":"no number"}"#).await?;
    eventually("each has come to its end", PATIENCE, async || {
        ensure!(worker.is_running()?, "the worker gave up");
        for (id, _, _, class) in ends() {
            let ours = fleet.stored(id).await?.ours.context("not enrolled")?;
            let is_there = match class {
                None => ours.generation == 1,
                Some(class) => ours.failure_class.as_deref() == Some(class.as_str()),
            };
            ensure!(is_there, "connection {id} is not: {ours:?}");
        }
        Ok(())
    })
    .await?;
    let ended = worker.terminate(PATIENCE).await?.with_code(0)?;
    said.push_str(&ended.stdout);
    said.push_str(&ended.stderr);

    let classes: BTreeSet<_> =
        ends().iter().filter_map(|(.., class)| class.map(FailureClass::as_str)).collect();
    assert_eq!(
        classes,
        FailureClass::ALL.map(FailureClass::as_str).into_iter().collect(),
        "every class is here"
    );

    let mut searched = Searched::for_marks();
    // What was granted bears no mark of ours.
    for id in [1, 2, 3] {
        let token = fleet.stored(id).await?.access_token.context("no token")?;
        assert!(!token.contains(MARK), "connection {id} was not refreshed");
        searched.also_for(&token);
    }
    for account in ["3", "11", "13"] {
        let tokens = model.refresh_token(account).into_iter().chain(model.access_tokens(account));
        tokens.for_each(|token| searched.also_for(&token));
    }
    searched.assert_none_in("logs", said.as_bytes());
    searched.assert_none_in("spans", &collector.bytes());
    let messages = tap.messages().await?;
    assert!(messages.len() >= 2 * ends().len(), "{} messages and events were seen", messages.len());
    for message in &messages {
        searched.assert_none_in("messages and events", message);
    }
    let dead = fleet.take_dead_letters(1).await?;
    searched.assert_none_in("dead letters", format!("{dead:?}").as_bytes());
    for (table, rows) in searched::rows_of_our_tables(&fleet).await? {
        searched.assert_none_in(table, rows.as_bytes());
    }
    // What was searched is what was meant to be.
    searched.assert_some_in(&said, &["\"level\":\"TRACE\"", "refresh failed", "quarantined"]);
    tap.close().await?;
    fleet.dissolve().await
}

async fn add(fleet: &TestFleet, model: &ModelProvider, client_id: &str) -> Result<()> {
    for (id, integration_type, input, _) in ends() {
        // Half of them in each lane.
        let one = NewConnection::fynd(id, if id % 2 == 0 { 300 } else { 1_500 });
        let input_fields = Some(input.to_string());
        fleet.add([NewConnection { integration_type, input_fields, ..one }]).await?;
        let refresh_token = if integration_type == MODEL {
            model.authorise(&id.to_string(), client_id)
        } else {
            format!("{MARK}-old-refresh-{id}")
        };
        let statement = "UPDATE ie_appinstall_connection SET accessToken = ?, refreshToken = ?, authorizationCode = ? WHERE id = ?";
        let old = [format!("{MARK}-old-access-{id}"), refresh_token, format!("{MARK}-old-code-{id}")];
        let values = old.into_iter().map(Into::into).chain([id.into()]);
        fleet.execute(statement, values).await?;
    }
    Ok(())
}

#[tokio::test]
async fn help_and_refusals_to_start_tell_no_secret() -> Result<()> {
    let url = |scheme: &str| format!("{scheme}://user:{MARK}@127.0.0.1:1/name");
    let variables = [
        ("FRESHET_DATABASE__URL", url("mysql")),
        ("FRESHET_RABBITMQ__URL", url("amqp")),
        ("FRESHET_REDIS__URL", url("redis")),
        ("FRESHET_PROVIDERS__FYND__SECRETS__KEY", MARK.to_owned()),
        ("FRESHET_WORKER__CONCURRENCY", MARK.to_owned()),
    ];
    let searched = Searched::for_marks();
    let commands: [(&'static str, &[&str]); 14] = [
        ("worker", &["--help"]),
        ("worker", &["run", "--help"]),
        ("worker", &["run"]),
        ("producer", &["--help"]),
        ("producer", &["run", "--help"]),
        ("producer", &["once", "--lane", "urgent"]),
        ("freshet", &["--help"]),
        ("freshet", &["dev", "--help"]),
        ("freshet", &["migrate", "--help"]),
        ("freshet", &["migrate"]),
        ("freshet", &["providers", "--help"]),
        ("freshet", &["providers", "list"]),
        ("freshet", &["secrets", "--help"]),
        ("freshet", &["secrets", "rotate"]),
    ];
    for (binary, arguments) in commands {
        for last in 3..=variables.len() {
            let some = variables.iter().take(last).cloned();
            let mut command = Binary::new(binary)?.arguments(arguments);
            for (name, value) in some {
                command = command.variable(name, value);
            }
            // A database that nobody serves is waited for.
            if last == 3 && !arguments.contains(&"--help") {
                continue;
            }
            let ended = command.run().await?;
            let said = format!("{}{}", ended.stdout, ended.stderr);
            assert!(!said.is_empty(), "{binary} {arguments:?} says nothing");
            searched.assert_none_in(&format!("{binary} {arguments:?}"), said.as_bytes());
        }
    }
    Ok(())
}
