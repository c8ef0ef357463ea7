//! The commands on shipped definitions, with a provider that answers by script.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use clap::Parser;
use freshet_shared::adapters::embedded::clock::{ManualClock, SeededRandomness};
use freshet_shared::adapters::embedded::provider::ScriptedProvider;
use freshet_shared::ports::provider::CallError;

use super::*;
use crate::arguments::{Arguments, Command};

/// A folder for the files of one test; removed when dropped.
struct Folder(PathBuf);

impl Folder {
    fn create() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("freshet-providers-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }

    fn write(&self, file: &str, content: &str) -> PathBuf {
        let path = self.0.join(file);
        std::fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn configuration(file: Option<&Path>) -> Configuration {
    let variables = HashMap::from([("APP_SECRET".to_owned(), "s3cret-of-app".to_owned())]);
    Configuration::load(file, &variables).unwrap_or_else(|error| panic!("{error}"))
}

fn command(words: &[&str]) -> ProvidersCommand {
    let arguments = Arguments::parse_from(["freshet", "providers"].iter().chain(words));
    match arguments.command {
        Some(Command::Providers(arguments)) => arguments.command,
        other => panic!("{other:?}"),
    }
}

fn shown(words: &[&str], configuration: &Configuration) -> anyhow::Result<String> {
    match command(words) {
        ProvidersCommand::Show(arguments) => show_provider(&arguments, configuration),
        other => panic!("{other:?}"),
    }
}

fn assert_lines(text: &str, expected: &[&str]) {
    for line in expected {
        assert!(
            text.lines().any(|shown| shown.trim() == *line || shown == *line),
            "no line `{line}` in\n{text}"
        );
    }
}

#[test]
fn a_request_is_shown_with_names_in_the_places_of_values() {
    let text = shown(&["show", "ebay"], &configuration(None)).unwrap();
    assert_lines(
        &text,
        &[
            "environment       production of production, sandbox",
            "operator's secret client_id (providers.ebay.secrets.client_id)",
            "allowed hosts     api.ebay.com",
            "limits            none known",
            "request           POST https://api.ebay.com/identity/v1/oauth2/token",
            "authorization: Basic base64(‹secret.client_id›:‹secret.client_secret›)",
            "content-type: application/x-www-form-urlencoded",
            "grant_type=refresh_token&refresh_token=‹refresh_token›",
            "lifetime          seconds at /expires_in of the answer",
            "refresh token     stays",
        ],
    );
    let text = shown(&["show", "ebay", "--environment", "sandbox"], &configuration(None)).unwrap();
    assert_lines(&text, &["request           POST https://api.sandbox.ebay.com/identity/v1/oauth2/token"]);
    let error = shown(&["show", "ebay", "--environment", "test"], &configuration(None)).unwrap_err();
    assert!(error.to_string().contains("there are production, sandbox"), "{error}");
    let error = shown(&["show", "ebbay"], &configuration(None)).unwrap_err();
    assert!(error.to_string().contains("`ebbay`; there are: "), "{error}");
}

#[test]
fn an_id_that_is_new_for_each_call_is_shown_as_such() {
    let text = shown(&["show", "walmart"], &configuration(None)).unwrap();
    assert_lines(
        &text,
        &[
            "request id        ‹request.id›: a new random UUID for each call",
            "WM_SVC.NAME: Walmart Marketplace",
            "WM_QOS.CORRELATION_ID: ‹request.id›",
            "authorization: Basic base64(‹input.client_id›:‹input.client_secret›)",
        ],
    );
    let text = shown(&["show", "ebay"], &configuration(None)).unwrap();
    assert!(!text.contains("request id"), "{text}");
}

#[tokio::test]
async fn each_call_carries_an_id_of_its_own() {
    let folder = Folder::create();
    let input = folder.write("input.json", r#"{"client_id":"id","client_secret":"s3cret-input"}"#);
    let caller = ScriptedProvider::default();
    let randomness = SeededRandomness::new(1);
    for _ in 0..2 {
        caller.answer(200, r#"{"access_token":"s3cret-token","expires_in":900}"#);
        let ProvidersCommand::Try(arguments) = command(&["try", "walmart", "--input", path(&input)]) else {
            panic!("another command");
        };
        let clock = ManualClock::new(chrono::DateTime::UNIX_EPOCH);
        let configuration = configuration(None);
        let report = try_provider(&arguments, &configuration, &caller, &clock, &randomness).await.unwrap();
        assert!(report.is_granted, "{}", report.text);
    }
    let ids: Vec<String> = caller
        .requests()
        .iter()
        .flat_map(|request| &request.headers)
        .filter(|(name, _)| name == "WM_QOS.CORRELATION_ID")
        .map(|(_, value)| value.expose().to_owned())
        .collect();
    assert!(ids.len() == 2 && ids[0] != ids[1] && ids.iter().all(|id| id.len() == 36), "{ids:?}");
}

#[test]
fn every_shipped_provider_can_be_shown_and_listed() {
    let configuration = configuration(None);
    let providers = catalogue(&configuration, &configuration.providers).unwrap();
    let list = show::list(providers.iter().map(Arc::as_ref));
    for provider in providers.iter() {
        let environments: Vec<_> = provider.definition.environments.keys().collect();
        for environment in environments {
            let text = shown(&["show", provider.name(), "--environment", environment], &configuration);
            let text = text.unwrap_or_else(|error| panic!("{}: {error}", provider.name()));
            assert!(!text.contains("freshetmask"), "{text}");
            assert!(text.contains("request           "), "{text}");
        }
        let row = list.lines().find(|line| line.split_whitespace().next() == Some(provider.name()));
        assert!(row.is_some_and(|row| row.contains(&provider.definition.title)), "{list}");
    }
    let row = |name: &str| list.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(
        row("fynd").contains("its own") && row("fynd").ends_with("api.fynd.com, api.fyndx1.de"),
        "{list}"
    );
    assert!(row("allegro").contains("replaced, leeway 1m"), "{list}");
    assert!(row("mercado-libre").contains("refresh token       replaced"), "{list}");
    assert!(row("zalando").contains("client credentials"), "{list}");
}

#[test]
fn what_the_operator_has_to_set_is_named_in_the_request() {
    let text = shown(&["show", "oauth2-refresh-token"], &configuration(None)).unwrap();
    assert_lines(
        &text,
        &[
            "request           POST ‹environment.token_url›",
            "authorization: Basic base64(form(‹input.client_id›):form(‹input.client_secret›))",
            "input             client_secret, secret",
            "input             scope, default \"\"",
            "grant_type=refresh_token&refresh_token=‹refresh_token›&scope=‹input.scope›",
            "allowed hosts     providers.oauth2-refresh-token.environments.production.token_url, not set",
            "lifetime          seconds at /expires_in of the answer, else exp of the access token, a JWT, else what an \
             earlier answer said, else unknown: not monitored",
        ],
    );
    let text = shown(&["show", "tiktok-shop"], &configuration(None)).unwrap();
    assert_lines(
        &text,
        &[
            "failure           /code is 36004001 or 36004005 → invalid_grant",
            "success           a 2xx status, and /code is 0",
            "no body",
        ],
    );
    let text = shown(&["show", "shopify-offline"], &configuration(None)).unwrap();
    assert_lines(
        &text,
        &[
            "request           POST https://‹input.shop›.myshopify.com/admin/oauth/access_token",
            "allowed hosts     *.myshopify.com",
        ],
    );
}

/// Makes a call with these arguments against these answers.
async fn tried(
    words: &[&str],
    configuration: &Configuration,
    answers: impl IntoIterator<Item = (u16, &str)>,
) -> (anyhow::Result<TrialReport>, usize) {
    let caller = ScriptedProvider::default();
    for (status, body) in answers {
        caller.answer(status, body);
    }
    let report = tried_with(words, configuration, &caller).await;
    (report, caller.calls().len())
}

async fn tried_with(
    words: &[&str],
    configuration: &Configuration,
    caller: &ScriptedProvider,
) -> anyhow::Result<TrialReport> {
    let ProvidersCommand::Try(arguments) = command(words) else { panic!("{words:?}") };
    let clock = ManualClock::new(chrono::DateTime::UNIX_EPOCH);
    try_provider(&arguments, configuration, caller, &clock, &SeededRandomness::new(1)).await
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn a_grant_is_explained_and_nothing_of_it_shown() {
    let folder = Folder::create();
    let input = folder.write("input.json", r#"{"client_id":"id","client_secret":"s3cret-input"}"#);
    let body = r#"{"access_token":"s3cret-token","expires_in":299}"#;
    let words = ["try", "bol", "--input", path(&input)];
    let (report, calls) = tried(&words, &configuration(None), [(200, body)]).await;
    let report = report.unwrap();
    assert!(report.is_granted && calls == 1);
    assert_lines(
        &report.text,
        &[
            "called          POST https://login.bol.com/token",
            "class           granted",
            "access token    12 characters, from /access_token",
            "lifetime        4m 59s, until 1970-01-01 00:04:59 UTC; seconds at /expires_in of the answer",
        ],
    );
    assert!(report.text.contains("answered        200 with 48 bytes after "), "{}", report.text);
    assert!(!report.text.contains("s3cret") && !report.text.contains("warning"), "{}", report.text);
}

#[tokio::test]
async fn a_refusal_is_explained_by_its_class() {
    let folder = Folder::create();
    let input = folder.write("input.json", r#"{"client_id":"id","client_secret":"s3cret-input"}"#);
    let words = ["try", "bol", "--input", path(&input)];
    let configuration = configuration(None);
    let cases = [
        (
            401,
            r#"{"error":"invalid_client","error_description":"s3cret-input"}"#,
            "class           invalid_client",
        ),
        (404, "s3cret-input", "class           rate_limited"),
        (200, "s3cret-input", "class           malformed_answer"),
    ];
    for (status, body, line) in cases {
        let report = tried(&words, &configuration, [(status, body)]).await.0.unwrap();
        assert!(!report.is_granted);
        assert_lines(&report.text, &[line]);
        assert!(!report.text.contains("s3cret"), "{}", report.text);
    }
    let caller = ScriptedProvider::default();
    caller.fail(CallError::NotConnected { endpoint: "https://login.bol.com/token".into() });
    let report = tried_with(&words, &configuration, &caller).await.unwrap();
    assert_lines(&report.text, &["answered        no complete answer came", "class           network"]);
}

#[tokio::test]
async fn a_refresh_token_that_is_replaced_is_spent_only_on_request() {
    let folder = Folder::create();
    let input = folder.write("input.json", r#"{"client_id":"id","client_secret":"s3cret-app"}"#);
    let token = folder.write("token", "s3cret-old\n");
    let configuration = configuration(None);
    let answer = r#"{"access_token":"s3cret-a","expires_in":21600,"refresh_token":"s3cret-new"}"#;

    let words = ["try", "mercado-libre", "--input", path(&input)];
    let (report, calls) = tried(&words, &configuration, [(200, answer)]).await;
    let error = report.err().unwrap().to_string();
    assert!(error.contains("--refresh-token-file") && calls == 0, "{error}");

    let words = ["try", "mercado-libre", "--input", path(&input), "--refresh-token-file", path(&token)];
    let (report, calls) = tried(&words, &configuration, [(200, answer)]).await;
    let error = report.err().unwrap().to_string();
    assert!(error.contains("--spend") && calls == 0, "{error}");

    let mut words = words.to_vec();
    words.push("--spend");
    let report = tried(&words, &configuration, [(200, answer)]).await.0.unwrap();
    assert!(report.is_granted);
    assert_lines(
        &report.text,
        &[
            "refresh token   a new one came, from /refresh_token",
            "warning         the refresh token that was given is spent; nothing of the answer was stored: its merchant \
             may have to authorise again",
        ],
    );
    assert!(!report.text.contains("s3cret"), "{}", report.text);
    let report = tried(&words, &configuration, [(500, "")]).await.0.unwrap();
    assert!(report.text.contains("may be spent"), "{}", report.text);
}

#[tokio::test]
async fn the_operators_secrets_come_from_the_settings_or_from_the_file() {
    let folder = Folder::create();
    let file = folder.write("freshet.toml", "[providers.wix.secrets]\nclient_secret = \"env:APP_SECRET\"\n");
    let without = folder.write("a.json", r#"{"instance_id":"i"}"#);
    let with = folder.write("b.json", r#"{"instance_id":"i","client_id":"id"}"#);
    let configuration = configuration(Some(&file));
    let body = r#"{"access_token":"a","expires_in":14400}"#;
    let (report, calls) =
        tried(&["try", "wix", "--input", path(&without)], &configuration, [(200, body)]).await;
    let error = format!("{:#}", report.err().unwrap());
    assert!(error.contains("providers.wix.secrets.client_id") && calls == 0, "{error}");
    let (report, _) = tried(&["try", "wix", "--input", path(&with)], &configuration, [(200, body)]).await;
    assert!(report.unwrap().is_granted);
}

#[tokio::test]
async fn the_operators_secrets_are_tried_in_turn() {
    let folder = Folder::create();
    let file = folder.write(
        "freshet.toml",
        "[providers.wix.secrets]\nclient_id = \"env:APP_SECRET\"\nclient_secret = [\"env:APP_SECRET\", \"env:APP_SECRET\"]\n",
    );
    let input = folder.write("a.json", r#"{"instance_id":"i"}"#);
    let words = ["try", "wix", "--input", path(&input)];
    let configuration = configuration(Some(&file));
    let granted = (200, r#"{"access_token":"a","expires_in":14400}"#);
    let (report, calls) = tried(&words, &configuration, [(401, "{}"), granted]).await;
    let report = report.unwrap();
    assert!(report.is_granted && calls == 2, "{}", report.text);
    assert!(report.text.contains("the next of the operator's secrets is tried"), "{}", report.text);
    let (report, calls) = tried(&words, &configuration, [(401, "{}"), (401, "{}"), granted]).await;
    assert!(!report.unwrap().is_granted && calls == 2);
}

#[tokio::test]
async fn an_input_that_cannot_be_used_is_named() {
    let folder = Folder::create();
    let broken = folder.write("broken.json", "{\"client_id\":\"s3cret");
    let configuration = configuration(None);
    for (file, part) in [(path(&broken), "not JSON"), ("/nowhere/input.json", "cannot be read")] {
        let (report, calls) = tried(&["try", "bol", "--input", file], &configuration, []).await;
        let error = format!("{:#}", report.err().unwrap());
        assert!(error.contains(part) && error.contains(file) && !error.contains("s3cret"), "{error}");
        assert_eq!(calls, 0);
    }
}
