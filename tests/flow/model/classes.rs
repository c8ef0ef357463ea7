//! Every class of failure that a call can come to, one row a fault.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::{TimeDelta, Utc};
use freshet_shared::domain::failure::FailureClass as Class;
use freshet_tests::binaries::DesertedAddress;
use freshet_tests::fleet::now;
use freshet_tests::model_provider::{Did, Fault, RetryAfter, Rotation};
use serde_json::json;

use super::exchange::{Exchange, IMPATIENT, PATIENT};

struct Case {
    name: &'static str,
    fault: Fault,
    rotation: Rotation,
    class: Class,
    /// Seconds; what a date comes to may be one less.
    retry_after: Option<u64>,
    /// What the failure says.
    detail: &'static str,
    /// Whether the answer is awaited in vain.
    hangs: bool,
}

fn case(name: &'static str, fault: Fault, class: Class, detail: &'static str) -> Case {
    Case { name, fault, rotation: Rotation::Strict, class, retry_after: None, detail, hangs: false }
}

impl Case {
    fn waiting(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    fn hanging(self) -> Self {
        Self { hangs: true, ..self }
    }

    fn without_rotation(self) -> Self {
        Self { rotation: Rotation::None, ..self }
    }
}

/// In a date in HTTP there are whole seconds only.
fn in_200_seconds() -> RetryAfter<'static> {
    RetryAfter::Date(now() + TimeDelta::seconds(200))
}

fn refusals() -> Vec<Case> {
    let limited = "answered 429: we ask again later";
    let failed = "we ask again later";
    vec![
        case("429", Fault::rate_limited(RetryAfter::Absent), Class::RateLimited, limited),
        case("429 seconds", Fault::rate_limited(RetryAfter::Seconds(120)), Class::RateLimited, limited)
            .waiting(120),
        case("429 date", Fault::rate_limited(in_200_seconds()), Class::RateLimited, limited).waiting(200),
        case(
            "429 past",
            Fault::rate_limited(RetryAfter::Date(chrono::DateTime::<Utc>::UNIX_EPOCH)),
            Class::RateLimited,
            limited,
        ),
        case("429 words", Fault::rate_limited(RetryAfter::Text("a while")), Class::RateLimited, limited),
        case("429 nothing", Fault::rate_limited(RetryAfter::Text("")), Class::RateLimited, limited),
        case("429 negative", Fault::rate_limited(RetryAfter::Text("-3")), Class::RateLimited, limited),
        case(
            "429 beyond all numbers",
            Fault::rate_limited(RetryAfter::Text("99999999999999999999999")),
            Class::RateLimited,
            limited,
        )
        .waiting(u32::MAX.into()),
        case("500", Fault::status(500), Class::ServerError, failed),
        case("502", Fault::status(502), Class::ServerError, failed),
        case("503", Fault::status(503).retry_after(RetryAfter::Seconds(5)), Class::ServerError, failed)
            .waiting(5),
        case("504", Fault::status(504), Class::ServerError, failed),
        case("504, acted upon", Fault::status(504).spending(), Class::ServerError, failed),
        case("500 with a code", Fault::error(500, "invalid_grant"), Class::ServerError, failed),
        case("an ended grant", Fault::error(400, "invalid_grant"), Class::InvalidGrant, "authorise again"),
        case("the same by 200", Fault::error(200, "invalid_grant"), Class::InvalidGrant, "authorise again"),
        case("a refused client", Fault::error(401, "invalid_client"), Class::InvalidClient, "id and secret"),
        case(
            "a client without rights",
            Fault::error(400, "unauthorized_client"),
            Class::InvalidClient,
            "id and",
        ),
        case(
            "401 with a page",
            Fault::status(401),
            Class::InvalidCredentials,
            "check what the merchant entered",
        ),
        case(
            "403 of its own",
            Fault::error(403, "c4n4ry"),
            Class::InvalidCredentials,
            "check what the merchant",
        ),
        case(
            "a wrong scope",
            Fault::error(400, "invalid_scope"),
            Class::Misconfigured,
            "check the provider's URL",
        ),
        case("404", Fault::status(404), Class::Misconfigured, "check the provider's URL"),
        case(
            "elsewhere",
            Fault::redirect("https://c4n4ry.example/"),
            Class::EgressBlocked,
            "are not followed",
        ),
    ]
}

fn answers() -> Vec<Case> {
    let malformed = Class::MalformedAnswer;
    let no_life = "the answer's /expires_in says no life of the token";
    vec![
        case("200 with another code", Fault::error(200, "c4n4ry"), malformed, "no text at /access_token"),
        case("a page", Fault::status(200), malformed, "is not JSON (line 1"),
        case("nothing", Fault::body(""), malformed, "(0 bytes) is not JSON"),
        case("null", Fault::body("null"), malformed, "no text at /access_token"),
        case("a list", Fault::body("[\"c4n4ry\"]"), malformed, "no text at /access_token"),
        case("bytes", Fault::body([0xff, 0xfe, 0]), malformed, "is not JSON"),
        case("an empty token", Fault::body(r#"{"access_token":""}"#), malformed, "/access_token is empty"),
        case("no token", Fault::without("access_token"), malformed, "no text at /access_token"),
        case("cut JSON", Fault::cut_json(), malformed, "is not JSON"),
        case("huge", Fault::huge(64_000_000), malformed, "larger than 262144 bytes"),
        case("huge and announced", Fault::huge_announced(64_000_000), malformed, "larger than 262144 bytes"),
        case("no lifetime", Fault::without("expires_in"), malformed, no_life).without_rotation(),
        case("no life", Fault::expires_in(json!(0)), malformed, no_life).without_rotation(),
        case("a negative life", Fault::expires_in(json!(-5)), malformed, no_life).without_rotation(),
        case("eternity", Fault::expires_in(json!(1e300)), malformed, no_life).without_rotation(),
        case("a word", Fault::expires_in(json!("c4n4ry")), malformed, no_life).without_rotation(),
    ]
}

fn losses() -> Vec<Case> {
    let lost = Class::AnswerLost;
    let (before, within) = ("ended before the answer came", "ended within the answer");
    let slow = "the time for the call was over";
    vec![
        case("lost", Fault::lost(), lost, before),
        case("lost, not acted upon", Fault::lost().unspent(), lost, before),
        case("reset", Fault::reset(), lost, before),
        case("half a body", Fault::short_body(), lost, within),
        case("reset within the body", Fault::reset_within_body(), lost, within),
        case("silence", Fault::hang(), lost, slow).hanging(),
        case("silence within the body", Fault::hang_within_body(), lost, slow).hanging(),
        case("drops", Fault::drip(Duration::from_millis(100)), lost, slow).hanging(),
        case("too late", Fault::none().after(PATIENT), lost, slow).hanging(),
    ]
}

#[tokio::test]
async fn every_fault_is_its_class_and_tells_no_secret() -> Result<()> {
    let mut classes = HashSet::new();
    for case in refusals().into_iter().chain(answers()).chain(losses()) {
        let name = case.name;
        let timeout = if case.hangs { IMPATIENT } else { PATIENT };
        let exchange = Exchange::meet(case.fault, case.rotation, timeout).await?;
        let failure = exchange.failure(name)?;
        assert_eq!(failure.class, case.class, "{name}: {failure}");
        assert!(failure.detail.contains(case.detail), "{name}: {failure}");
        assert!(!failure.detail.contains("c4n4ry"), "{name}: {failure}");
        let seconds = failure.retry_after.map(|wait| wait.as_secs_f64());
        match case.retry_after {
            None => assert_eq!(seconds, None, "{name}"),
            Some(expected) => {
                let seconds = seconds.with_context(|| format!("{name}: no waiting time"))?;
                // Only a date comes nearer while the call is under way.
                let slack = if expected == 200 { 30.0 } else { 0.0 };
                let expected = f64::from(u32::try_from(expected)?);
                assert!((expected - slack..=expected).contains(&seconds), "{name}: {seconds}");
            }
        }
        let entry = exchange.entry.as_ref().with_context(|| format!("{name}: nothing was sent"))?;
        if matches!(entry.did, Did::Granted { .. }) {
            assert!(failure.may_have_spent, "{name}: the model acted, and the failure must not deny it");
        }
        assert_eq!(exchange.model.unused_faults(), 0, "{name}");
        classes.insert(failure.class);
    }

    // What is found without the model.
    let nobody = DesertedAddress::take()?;
    let there = nobody.address()?.to_string();
    let exchange = Exchange::with(Fault::none(), Rotation::Strict, PATIENT, |definition| {
        let (before, after) = definition.split_once("127.0.0.1:").unwrap_or_default();
        let after = after.trim_start_matches(|digit: char| digit.is_ascii_digit());
        format!("{before}{there}{after}")
    })
    .await?;
    let failure = exchange.failure("nobody")?;
    assert_eq!((failure.class, failure.may_have_spent), (Class::Network, false), "{failure}");
    assert!(exchange.entry.is_none());
    classes.insert(failure.class);

    let of_ours = [Class::UnreadableSecret, Class::UnstorableToken, Class::Panicked];
    let missing: Vec<_> =
        Class::ALL.iter().filter(|class| !classes.contains(class) && !of_ours.contains(class)).collect();
    assert!(missing.is_empty(), "no row comes to {missing:?}");
    Ok(())
}
