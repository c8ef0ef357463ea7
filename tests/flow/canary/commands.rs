//! What the operator's commands print, with secrets in their files and in their environment.

use std::sync::Arc;

use anyhow::Result;
use clap::CommandFactory;
use freshet_cli::simulator::{Matcher, Reply, Settings, Simulator, StatusCode};
use freshet_tests::binaries::{Binary, TestFolder};
use freshet_tests::fleet::now;
use serde_json::json;

use super::searched::Searched;
use super::{MARK, secret, very};

/// Secrets where the operator may write them, each in a key that a start reads.
fn environment() -> [(&'static str, String); 6] {
    let url = |scheme: &str| format!("{scheme}://user:{MARK}@127.0.0.1:1/name");
    [
        ("FRESHET_DATABASE__URL", url("mysql")),
        ("FRESHET_RABBITMQ__URL", url("amqp")),
        ("FRESHET_REDIS__URL", url("redis")),
        ("FRESHET_TELEMETRY__OTLP_ENDPOINT", format!("ftp://user:{MARK}@127.0.0.1:1")),
        // In place of where the secret is, and of a number.
        ("FRESHET_PROVIDERS__FYND__SECRETS__KEY", MARK.to_owned()),
        ("FRESHET_WORKER__CONCURRENCY", MARK.to_owned()),
    ]
}

/// The command and all below it, as words.
fn commands(command: &clap::Command, words: &[String], found: &mut Vec<Vec<String>>) {
    found.push(words.to_vec());
    for below in command.get_subcommands() {
        commands(below, &[words, &[below.get_name().to_owned()]].concat(), found);
    }
}

#[tokio::test]
async fn the_help_of_every_command_tells_no_secret() -> Result<()> {
    let searched = Searched::for_marks();
    for (binary, command) in [
        ("worker", freshet_worker::arguments::Arguments::command()),
        ("producer", freshet_producer::arguments::Arguments::command()),
        ("freshet", freshet_cli::arguments::Arguments::command()),
    ] {
        let mut all = Vec::new();
        commands(&command, &[], &mut all);
        assert!(all.len() > 1, "{binary} has commands");
        for words in all {
            for flag in ["--help", "-h"] {
                let run = Binary::new(binary)?.arguments(&words).arguments([flag]).variables(environment());
                let ended = run.run().await?.with_code(0)?;
                assert!(ended.stdout.contains("Usage"), "{binary} {words:?}: {}", ended.stdout);
                searched.assert_none_in(&format!("{binary} {words:?} {flag}"), ended.stdout.as_bytes());
                searched.assert_none_in(&format!("{binary} {words:?} {flag}"), ended.stderr.as_bytes());
            }
        }
    }
    Ok(())
}

#[tokio::test]
async fn refusals_to_start_tell_no_secret() -> Result<()> {
    let searched = Searched::for_marks();
    let commands: [(&'static str, &[&str]); 6] = [
        ("worker", &["run"]),
        ("producer", &["once", "--lane", "urgent"]),
        ("freshet", &["migrate"]),
        ("freshet", &["providers", "list"]),
        ("freshet", &["providers", "show", "fynd"]),
        ("freshet", &["secrets", "rotate"]),
    ];
    for (binary, arguments) in commands {
        // A database that nobody serves is waited for, so each has one of the keys that are wrong, and then all.
        for last in 4..=environment().len() {
            let some = environment().into_iter().take(last);
            let ended = Binary::new(binary)?.arguments(arguments).variables(some).run().await?;
            let said = format!("{}{}", ended.stdout, ended.stderr);
            assert!(!said.is_empty(), "{binary} {arguments:?} says nothing");
            assert_eq!(ended.code, Some(78), "{binary} {arguments:?}: {said}");
            searched.assert_none_in(&format!("{binary} {arguments:?}"), said.as_bytes());
        }
    }
    Ok(())
}

/// A provider with a secret of the operator's, and one of the merchant's, in every place of a request.
const EVERYWHERE: &str = r#"
name = "everywhere"
title = "Everywhere"
[[inputs]]
key = "key"
secret = true
[[inputs]]
key = "header"
secret = true
[[secrets]]
key = "app"
[token.request]
method = "POST"
url = "{environment.base_url}/{input.key}/token"
query = [["key", "{input.key}"], ["app", "{secret.app}"]]
headers = [["x-key", "{input.header}"]]
basic = { username = "{input.key}", password = "{secret.app}", encoding = "plain" }
form = [["key", "{input.key}"], ["app", "{secret.app}"]]
[token.response]
access_token = "/access_token"
lifetime = { seconds = "/expires_in" }
error = "/error"
"#;

#[tokio::test]
async fn providers_show_check_and_try_tell_no_secret() -> Result<()> {
    let mut settings = Settings::well_behaved(Arc::new(now));
    settings.record = true;
    let marketplaces = Simulator::start(settings).await?;
    let folder = TestFolder::create()?;
    std::fs::create_dir(folder.path().join("definitions"))?;
    folder.write("definitions/everywhere.toml", EVERYWHERE)?;
    let variables = [
        ("FRESHET_TELEMETRY__FILTER", "trace".to_owned()),
        ("FRESHET_TELEMETRY__FORMAT", "json".to_owned()),
        ("FRESHET_EGRESS__ALLOW", "127.0.0.1".to_owned()),
        ("FRESHET_PROVIDER_DIRECTORY", folder.path().join("definitions").display().to_string()),
        ("FRESHET_PROVIDERS__VERY__ENVIRONMENTS__PRODUCTION__TOKEN_URL", marketplaces.kornitx_token_url()),
        (
            "FRESHET_PROVIDERS__EVERYWHERE__ENVIRONMENTS__PRODUCTION__BASE_URL",
            format!("http://{}", marketplaces.platform_host()),
        ),
        ("FRESHET_PROVIDERS__EVERYWHERE__SECRETS__APP", "env:APP".to_owned()),
        ("APP", secret(0, "app")),
    ];
    let input = |name: &str, text: String| anyhow::Ok(folder.write(name, &text)?.display().to_string());
    let very_input = input("very.json", very(1).to_string())?;
    let full =
        input("full.json", json!({"key": secret(1, "key"), "header": format!("{MARK}-header")}).to_string())?;
    let cut = input("cut.json", format!("{{\"key\": \"{MARK}"))?;
    let other = input("other.json", json!({"key": {"deeper": MARK}, "header": [MARK]}).to_string())?;
    let list = input("list.json", json!([MARK, secret(1, "key")]).to_string())?;
    let token = input("token", secret(1, "refresh"))?;
    let answer = |status, body: &str| {
        marketplaces.script(Matcher::any(), [Reply::json(status, body.to_owned()).into()])
    };
    let granted =
        json!({"access_token": secret(1, "granted"), "expires_in": 60, "refresh_token": secret(1, "new")});
    let refusal =
        json!({"error": "invalid_client", "error_description": secret(1, "key"), "app": secret(0, "app")});

    let mut searched = Searched::for_marks();
    let mut run = async |words: &[&str], code: i32| -> Result<()> {
        let command =
            Binary::new("freshet")?.arguments(["providers"]).arguments(words).variables(variables.clone());
        let ended = command.run().await?.with_code(code)?;
        marketplaces
            .ledger()
            .iter()
            .filter_map(|entry| entry.issued())
            .for_each(|token| searched.also_for(token));
        let place = format!("providers {words:?}");
        assert!(ended.stdout.len() + ended.stderr.len() > 0, "{place} says nothing");
        searched.assert_none_in(&place, ended.stdout.as_bytes());
        searched.assert_none_in(&place, ended.stderr.as_bytes());
        Ok(())
    };
    run(&["check"], 0).await?;
    run(&["list"], 0).await?;
    for name in ["everywhere", "very", "fynd", "oauth2-refresh-token"] {
        run(&["show", name], 0).await?;
    }
    run(&["try", "very", "--input", &very_input], 0).await?;
    answer(StatusCode::OK, &granted.to_string());
    run(&["try", "everywhere", "--input", &full], 0).await?;
    for (status, body) in [
        (StatusCode::UNAUTHORIZED, refusal.to_string()),
        (StatusCode::OK, refusal.to_string()),
        (StatusCode::BAD_REQUEST, secret(1, "key")),
        (StatusCode::OK, format!("<p>{}", secret(1, "key"))),
        (StatusCode::FOUND, secret(1, "key")),
        (StatusCode::TOO_MANY_REQUESTS, secret(1, "key")),
        (StatusCode::SERVICE_UNAVAILABLE, secret(1, "key")),
    ] {
        answer(status, &body);
        run(&["try", "everywhere", "--input", &full], 1).await?;
    }
    for wrong in [&cut, &other, &list] {
        run(&["try", "everywhere", "--input", wrong], 1).await?;
    }
    run(&["try", "oauth2-refresh-token", "--input", &full, "--refresh-token-file", &token], 1).await?;
    Ok(())
}
