//! Answers of providers, read by every shipped definition. Of an input the first line is status and `Retry-After`, the
//! rest the body.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use anyhow::{Result, ensure};
use chrono::{DateTime, TimeDelta, Utc};
use freshet_shared::domain::provider::answer::ProviderAnswer;
use freshet_shared::domain::provider::catalogue::Providers;

use crate::campaign::{CANARY, Reading, Target, ensure_discreet};

pub(crate) const TARGET: Target = Target {
    name: "answers",
    dictionary: &[
        CANARY,
        "\"c4n4ry-s3cret\"",
        "{\"c4n4ry-s3cret\":\"c4n4ry-s3cret\"}",
        "\"access_token\":",
        "\"accessToken\":",
        "\"refresh_token\":",
        "\"token_type\":\"bearer\"",
        "\"expires_in\":",
        "\"error\":\"invalid_grant\"",
        "\"error\":\"invalid_client\"",
        "\"error\":",
        "\"status\":\"SUCCESS\"",
        "\"code\":",
        "\"data\":{",
        "null",
        "true",
        "[",
        "{\"a\":",
        "\\ud800",
        "\\u0000",
        "200",
        "400",
        "401",
        "429",
        "503",
        "120",
        "Sun, 06 Nov 1994 08:49:37 GMT",
        "Fri, 31 Dec 9999 23:59:59 GMT",
        "eyJhbGciOiJub25lIn0.",
        "e30.",
        "1685964224.614491",
        "2026-01-01T00:00:00Z",
    ],
    seeds: Vec::new,
    read,
};

static PROVIDERS: LazyLock<Option<Providers>> = LazyLock::new(|| Providers::new(&[], &BTreeMap::new()).ok());

fn read(input: &[u8]) -> Result<Reading> {
    let Some(providers) = PROVIDERS.as_ref() else { anyhow::bail!("the shipped definitions cannot be used") };
    let end = input.iter().position(|byte| *byte == b'\n').unwrap_or(input.len());
    let line = String::from_utf8_lossy(&input[..end]);
    let (status, retry_after) = line.split_once(' ').unwrap_or((&line, ""));
    let body = input.get(end + 1..).unwrap_or_default();
    let sent_at: DateTime<Utc> = DateTime::UNIX_EPOCH + TimeDelta::seconds(1_795_262_400);
    let now = sent_at + TimeDelta::milliseconds(250);
    // Some connections had a token before.
    let observed = (body.len() % 2 == 0).then(|| TimeDelta::hours(1));
    let mut granted = Vec::new();
    let mut refusals = Vec::new();
    for provider in providers.iter() {
        let answer = ProviderAnswer {
            // What is no status is a good one, so that the body is looked at.
            status: status.parse().unwrap_or(200),
            retry_after: (!retry_after.is_empty()).then(|| retry_after.to_owned()),
            body: body.to_vec().into(),
        };
        match provider.interpret(&answer, sent_at, now, observed) {
            Ok(grant) => {
                let has_refresh_token = grant.refresh_token.is_some();
                granted.push(format!("{} {:?} {has_refresh_token}", provider.name(), grant.lifetime_source));
                ensure!(!grant.access_token.is_empty(), "{}: a token without text", provider.name());
                for expires_at in [grant.expires_at, grant.refresh_token_expires_at].into_iter().flatten() {
                    let life = expires_at - sent_at;
                    let sane = life >= TimeDelta::zero() && life <= TimeDelta::days(3_650);
                    ensure!(sane, "{}: a life of {life}", provider.name());
                }
                let has_new = grant.refresh_token.is_none_or(|token| !token.is_empty());
                ensure!(has_new, "{}: a refresh token without text", provider.name());
            }
            Err(failure) => {
                let words = format!("{failure} {failure:?}");
                ensure_discreet(&words)?;
                refusals.push(format!("{}: {failure}", provider.name()));
            }
        }
    }
    Ok(if granted.is_empty() {
        Reading::Refused(refusals.join("; "))
    } else {
        Reading::Accepted(granted.join("; "))
    })
}
