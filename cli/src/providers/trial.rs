//! `freshet providers try`: one real call, explained and thrown away.

use std::fmt::Write;
use std::path::Path;

use anyhow::{Context, anyhow, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::domain::connection::Grant;
use freshet_shared::domain::failure::Failure;
use freshet_shared::domain::input_fields::InputFields;
use freshet_shared::domain::provider::Provider;
use freshet_shared::domain::provider::environment::Spending;
use freshet_shared::domain::provider::request_id::request_id;
use freshet_shared::domain::retry::{Again, Course};
use freshet_shared::domain::secret::Secret;
use freshet_shared::ports::clock::Clock;
use freshet_shared::ports::provider::ProviderCaller;
use freshet_shared::ports::randomness::Randomness;
use humantime::format_duration;

/// What a call needs that is not the provider's.
pub(super) struct Trial {
    /// `inputFields`.
    pub(super) input: InputFields,
    /// The refresh token, where one is given.
    pub(super) refresh_token: Option<Secret>,
    /// Whether a refresh token may be spent that is replaced by its use.
    pub(super) may_spend: bool,
}

/// What came of it.
pub(super) struct TrialReport {
    /// The explanation; nothing in it is secret.
    pub(super) text: String,
    /// Whether a token was granted.
    pub(super) is_granted: bool,
}

/// Reads a file that holds a secret; a line end after it is not part of it.
///
/// # Errors
/// Names the file.
pub(super) fn read_secret(path: &Path) -> anyhow::Result<Secret> {
    let text = zeroize::Zeroizing::new(
        std::fs::read_to_string(path).with_context(|| format!("{} cannot be read", path.display()))?,
    );
    Ok(Secret::new(text.trim_end_matches(['\r', '\n'])))
}

/// Makes the call.
///
/// # Errors
/// If it must not or cannot be made; then nothing was sent.
pub(super) async fn make(
    provider: &Provider,
    trial: &Trial,
    caller: &dyn ProviderCaller,
    clock: &dyn Clock,
    randomness: &dyn Randomness,
) -> anyhow::Result<TrialReport> {
    let spends = provider.rotation().spends();
    ensure!(
        provider.definition.refresh_token.is_none() || trial.refresh_token.is_some(),
        "{} spends a refresh token: give one with --refresh-token-file",
        provider.name()
    );
    ensure!(
        !spends || trial.may_spend,
        "{} replaces a refresh token when it is used, and nothing of the answer is stored: the connection of this refresh \
         token would be lost. Use one of a connection of your own, and say so with --spend",
        provider.name()
    );
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a text cannot fail.
        let _ = writeln!(text, "{name:<15} {value}");
    };
    let mut secret = 0;
    let (result, sent_at) = loop {
        let request_id = provider.wants_request_id().then(|| request_id(|| randomness.next()));
        let spending = Spending {
            refresh_token: trial.refresh_token.as_ref(),
            secret,
            request_id: request_id.as_deref(),
        };
        let request =
            provider.token_request(&trial.input, spending).map_err(|failure| anyhow!("{failure}"))?;
        line("called", &format!("{} {}", request.method.as_str(), request.endpoint));
        let sent_at = clock.now();
        let answer = caller.call(&request).await;
        let took = (clock.now() - sent_at).to_std().unwrap_or_default();
        let result = match answer {
            Ok(answer) => {
                let size = answer.body.len();
                let took = format_duration(std::time::Duration::from_millis(
                    took.as_millis().try_into().unwrap_or(u64::MAX),
                ));
                line("answered", &format!("{} with {size} bytes after {took}", answer.status));
                provider.interpret(&answer, sent_at, clock.now(), None)
            }
            Err(error) => {
                line("answered", "no complete answer came");
                Err(Failure::from(error))
            }
        };
        let secrets_left = provider.secret_choices() - secret - 1;
        match &result {
            Err(failure) if is_for_the_next_secret(provider, failure, secrets_left, clock.now()) => {
                secret += 1;
                line("refused", &format!("{}; the next of the operator's secrets is tried", failure.detail));
            }
            _ => break (result, sent_at),
        }
    };
    let is_granted = result.is_ok();
    match &result {
        Ok(grant) => explain_grant(provider, grant, sent_at, &mut line),
        Err(failure) => explain_failure(failure, &mut line),
    }
    if spends {
        let spent = match &result {
            Ok(_) => "is spent; nothing of the answer was stored",
            Err(_) => "may be spent",
        };
        line(
            "warning",
            &format!("the refresh token that was given {spent}: its merchant may have to authorise again"),
        );
    }
    Ok(TrialReport { text, is_granted })
}

/// As a worker would, but that nothing is repeated whose answer was lost.
fn is_for_the_next_secret(
    provider: &Provider,
    failure: &Failure,
    secrets_left: usize,
    now: DateTime<Utc>,
) -> bool {
    let course = Course { rotation: provider.rotation(), unknown_since: None, secrets_left, repeated: 0 };
    course.again(failure, now) == Some(Again::WithNextSecret)
}

fn explain_grant(
    provider: &Provider,
    grant: &Grant,
    sent_at: DateTime<Utc>,
    line: &mut dyn FnMut(&str, &str),
) {
    let response = &provider.definition.token.response;
    line("class", "granted");
    line(
        "access token",
        &format!("{} characters, from {}", grant.access_token.characters(), response.access_token),
    );
    let source = grant.lifetime_source.and_then(|place| response.lifetime.0.get(place));
    let source =
        source.map_or_else(|| "a guess: no source said it".to_owned(), |lifetime| lifetime.describe());
    match (grant.lifetime, grant.expires_at) {
        (Some(lifetime), Some(expires_at)) => {
            line("lifetime", &format!("{}, until {}; {source}", words(lifetime), time(expires_at)));
        }
        _ => line("lifetime", &format!("nobody says: {source}")),
    }
    let Some(refresh_token) = &provider.definition.refresh_token else { return };
    let place = refresh_token.answer.as_deref().unwrap_or("nowhere");
    match &grant.refresh_token {
        Some(_) => line("refresh token", &format!("a new one came, from {place}")),
        None => line("refresh token", "none came: the old one stays"),
    }
    if let Some(expires_at) = grant.refresh_token_expires_at {
        line("", &format!("it lives {}, until {}", words(expires_at - sent_at), time(expires_at)));
    }
}

fn explain_failure(failure: &Failure, line: &mut dyn FnMut(&str, &str)) {
    line("class", failure.class.as_str());
    line("reason", &failure.detail);
    if let Some(retry_after) = failure.retry_after {
        line("retry after", &format_duration(retry_after).to_string());
    }
}

fn words(span: TimeDelta) -> String {
    let whole = std::time::Duration::from_secs(u64::try_from(span.num_seconds()).unwrap_or(0));
    format_duration(whole).to_string()
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}
