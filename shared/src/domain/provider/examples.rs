//! Every shipped definition against its documentation: the requests and answers of `providers/examples`.
//!
//! An example file holds requests, each made from an operator's settings, a connection's input and what it spends, and
//! answers, each with what has to be read from it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Deserialize;
use zeroize::Zeroizing;

use crate::domain::failure::FailureClass;
use crate::domain::input_fields::InputFields;
use crate::domain::provider::answer::ProviderAnswer;
use crate::domain::provider::catalogue::{CatalogueError, Providers, SHIPPED};
use crate::domain::provider::environment::Spending;
use crate::domain::provider::{Provider, ProviderSettings};
use crate::domain::secret::Secret;

/// One file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Examples {
    requests: Vec<RequestExample>,
    answers: Vec<AnswerExample>,
}

/// What goes in and what has to come out, byte for byte.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RequestExample {
    #[serde(default)]
    settings: ProviderSettings,
    #[serde(default)]
    input: serde_json::Map<String, serde_json::Value>,
    #[serde(default)]
    secrets: BTreeMap<String, String>,
    refresh_token: Option<String>,
    request_id: Option<String>,
    method: String,
    url: String,
    headers: Vec<(String, String)>,
    body: Option<String>,
}

/// An answer with either a class or a grant.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnswerExample {
    sent_at: Option<DateTime<Utc>>,
    status: u16,
    body: String,
    class: Option<FailureClass>,
    access_token: Option<String>,
    lifetime: Option<String>,
    refresh_token: Option<String>,
    refresh_token_lifetime: Option<String>,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("providers")
}

fn shipped() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(file, _)| file.strip_suffix(".toml").unwrap())
}

fn examples(name: &str) -> Examples {
    let path = folder().join("examples").join(format!("{name}.toml"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    toml::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The provider with these settings and secrets.
fn provider(name: &str, settings: &ProviderSettings, secrets: &BTreeMap<String, String>) -> Provider {
    // Secrets are given to providers that are scanned.
    let settings = ProviderSettings {
        integration_type: settings.integration_type.clone().or_else(|| Some("example".into())),
        ..settings.clone()
    };
    let read = |of: &str, key: &str| -> Result<_, CatalogueError> {
        let value = secrets.get(key).filter(|_| of == name);
        Ok(value.map(|value| vec![Secret::new(value.as_str())]))
    };
    let providers = Providers::new(&[], &BTreeMap::from([(name.to_owned(), settings)]))
        .and_then(|providers| providers.with_secrets(read))
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    providers.get(name).unwrap().as_ref().clone()
}

fn lifetime(text: &str) -> Option<TimeDelta> {
    #[derive(Deserialize)]
    struct Holder {
        #[serde(with = "humantime_serde")]
        lifetime: Duration,
    }
    if text == "unknown" {
        return None;
    }
    let holder: Holder = toml::from_str(&format!("lifetime = \"{text}\"")).unwrap();
    Some(TimeDelta::from_std(holder.lifetime).unwrap())
}

#[test]
fn every_definition_of_the_folder_is_shipped_and_has_examples() {
    let files = |folder: PathBuf| -> BTreeSet<String> {
        std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
            .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
            .collect()
    };
    let shipped: BTreeSet<String> = shipped().map(str::to_owned).collect();
    assert_eq!(files(folder()), shipped);
    assert_eq!(files(folder().join("examples")), shipped);
}

#[test]
fn every_request_is_the_documented_one() {
    for name in shipped() {
        let examples = examples(name);
        assert!(!examples.requests.is_empty(), "{name}: no request");
        for (index, example) in examples.requests.into_iter().enumerate() {
            let provider = provider(name, &example.settings, &example.secrets);
            let input = serde_json::Value::Object(example.input).to_string();
            let input =
                InputFields::parse(Some(&Secret::new(input))).unwrap_or_else(|failure| panic!("{failure}"));
            let refresh_token = example.refresh_token.map(Secret::new);
            let request_id = example.request_id.as_deref();
            let spending = Spending { refresh_token: refresh_token.as_ref(), secret: 0, request_id };
            let request = provider
                .token_request(&input, spending)
                .unwrap_or_else(|failure| panic!("{name}, request {index}: {failure}"));
            let headers: Vec<_> = request
                .headers
                .iter()
                .map(|(name, value)| (name.clone(), value.expose().to_owned()))
                .collect();
            let shown = (
                request.method.as_str(),
                request.url.expose(),
                &headers,
                request.body.as_ref().map(|body| body.expose()),
            );
            let expected =
                (example.method.as_str(), example.url.as_str(), &example.headers, example.body.as_deref());
            assert_eq!(shown, expected, "{name}, request {index}");
            assert!(!request.endpoint.contains("secret"), "{name}: {}", request.endpoint);
        }
    }
}

#[test]
fn every_answer_is_read_as_documented() {
    for name in shipped() {
        let answers = examples(name).answers;
        let provider = provider(name, &ProviderSettings::default(), &every_secret(name));
        assert!(answers.iter().any(|answer| answer.class.is_none()), "{name}: no answer with a token");
        assert!(answers.iter().any(|answer| answer.class.is_some()), "{name}: no refusal");
        for (index, example) in answers.into_iter().enumerate() {
            let place = format!("{name}, answer {index}");
            let sent_at = example.sent_at.unwrap_or(DateTime::UNIX_EPOCH);
            let answer = ProviderAnswer {
                status: example.status,
                retry_after: None,
                body: Zeroizing::new(example.body.into_bytes()),
            };
            let grant = match (provider.interpret(&answer, sent_at, sent_at, None), example.class) {
                (Err(failure), Some(class)) => {
                    assert_eq!(failure.class, class, "{place}: {failure}");
                    continue;
                }
                (Ok(grant), None) => grant,
                (Ok(_), Some(class)) => panic!("{place}: granted and not {class}"),
                (Err(failure), None) => panic!("{place}: {failure}"),
            };
            assert_eq!(Some(grant.access_token.expose()), example.access_token.as_deref(), "{place}");
            let expected = lifetime(&example.lifetime.unwrap_or_else(|| panic!("{place}: no lifetime")));
            assert_eq!(grant.lifetime, expected, "{place}");
            assert_eq!(grant.expires_at, expected.map(|lifetime| sent_at + lifetime), "{place}");
            let refresh_token = grant.refresh_token.as_ref().map(|token| token.expose());
            assert_eq!(refresh_token, example.refresh_token.as_deref(), "{place}");
            let expected = example.refresh_token_lifetime.and_then(|text| lifetime(&text));
            assert_eq!(
                grant.refresh_token_expires_at,
                expected.map(|lifetime| sent_at + lifetime),
                "{place}"
            );
        }
    }
}

/// Answers need no secret, but a provider that is scanned does.
fn every_secret(name: &str) -> BTreeMap<String, String> {
    let providers = Providers::new(&[], &BTreeMap::new()).unwrap();
    let secrets = &providers.get(name).unwrap().definition.secrets;
    secrets.iter().map(|secret| (secret.key.clone(), "s3cret".to_owned())).collect()
}
