//! Bad input fields and bad answers, one table of them for both lanes.

use anyhow::{Context, Result};
use chrono::TimeDelta;
use fred::prelude::KeysInterface;
use freshet_cli::simulator::{Matcher, Reply, StatusCode};
use freshet_shared::domain::lane::Lane;
use freshet_tests::fleet::{NewConnection, StoredConnection, TestFleet, fynd_input, now, very_input};
use serde_json::{Value, json};

/// Stands wherever a secret stands.
const SECRET: &str = "s3cret";

struct Case {
    name: &'static str,
    is_very: bool,
    /// `inputFields`; good ones if not given.
    input: Option<Option<String>>,
    /// The provider's answer, where it comes to a call.
    answer: Option<Reply>,
    class: &'static str,
    detail: &'static str,
}

impl Case {
    fn input(name: &'static str, input: Option<&str>, detail: &'static str) -> Self {
        let input = Some(input.map(str::to_owned));
        Self { name, is_very: false, input, answer: None, class: "misconfigured", detail }
    }

    fn answer(name: &'static str, answer: Reply, class: &'static str, detail: &'static str) -> Self {
        Self { name, is_very: false, input: None, answer: Some(answer), class, detail }
    }

    fn very(self) -> Self {
        Self { is_very: true, ..self }
    }
}

fn cases() -> Vec<Case> {
    let sandbox = with(very_input(0), "useSandbox", json!(true));
    let long = with(very_input(0), "clientSecret", json!(SECRET.repeat(43)));
    let host = with(fynd_input(0), "oms_host", json!("https://s3cret.example"));
    let nested = with(fynd_input(0), "x-integration-id", json!({"s3cret": 1}));
    let ok = |body: &str| Reply::json(StatusCode::OK, body.to_owned());
    let huge = format!(r#"{{"status":"SUCCESS","accessToken":"{}"}}"#, SECRET.repeat(50_000));
    let malformed = "malformed_answer";
    vec![
        Case::input("NULL", None, "inputFields is NULL"),
        Case::input("empty text", Some(""), "not JSON (line 1"),
        Case::input("cut off", Some(r#"{"x-integration-id":"s3cret"#), "not JSON (line 1"),
        Case::input("a list", Some(r#"["s3cret"]"#), "not an object"),
        Case::input("a text", Some(r#""s3cret""#), "not an object"),
        Case::input(
            "a missing key",
            Some(r#"{"x-integration-token":"s3cret"}"#),
            "inputFields.x-integration-id is missing",
        ),
        Case::input("a nested value", Some(&nested), "inputFields.x-integration-id is missing"),
        Case::input("a foreign host", Some(&host), "inputFields.oms_host must be one of"),
        Case::input("no sandbox", Some(&sandbox), "providers.very.environments.sandbox.token_url is not set")
            .very(),
        Case::input("too long", Some(&long), "inputFields.clientSecret has 258 characters").very(),
        Case::answer("a page", Reply::html(StatusCode::OK, "<p>s3cret</p>"), malformed, "is not JSON"),
        Case::answer("nothing", ok(""), malformed, "(0 bytes) is not JSON"),
        Case::answer(
            "no success",
            ok(r#"{"status":"FAILED","accessToken":"s3cret"}"#),
            malformed,
            "/status is not \"SUCCESS\"",
        ),
        Case::answer(
            "an empty token",
            ok(r#"{"status":"SUCCESS","accessToken":""}"#),
            malformed,
            "/accessToken is empty",
        ),
        Case::answer(
            "no token",
            ok(r#"{"status":"SUCCESS","token":"s3cret"}"#),
            malformed,
            "no text at /accessToken",
        ),
        Case::answer(
            "a number for a token",
            ok(r#"{"status":"SUCCESS","accessToken":7}"#),
            malformed,
            "no text at /accessToken",
        ),
        Case::answer("too much", ok(&huge), malformed, "larger than 262144 bytes"),
        Case::answer(
            "no lifetime",
            ok(r#"{"access_token":"s3cret","token_type":"Bearer"}"#),
            malformed,
            "/expires_in says no life",
        )
        .very(),
        Case::answer(
            "a refusal",
            Reply::json(StatusCode::UNAUTHORIZED, r#"{"message":"s3cret is wrong"}"#),
            "invalid_credentials",
            "answered 401: check what the merchant entered",
        ),
        Case::answer(
            "a refused client",
            Reply::json(StatusCode::UNAUTHORIZED, r#"{"error":"invalid_client"}"#),
            "invalid_client",
            "check the client's id and secret",
        )
        .very(),
        Case::answer(
            "a wrong place",
            Reply::html(StatusCode::NOT_FOUND, SECRET),
            "misconfigured",
            "answered 404: check the provider's URL",
        ),
        Case::answer(
            "a way elsewhere",
            Reply::new(StatusCode::FOUND, SECRET),
            "egress_blocked",
            "redirects are not followed",
        ),
    ]
}

fn with(mut input: Value, key: &str, value: Value) -> String {
    input[key] = value;
    input.to_string()
}

#[tokio::test]
async fn in_the_early_lane_each_is_named_and_a_correction_heals_it() -> Result<()> {
    each_is_named_and_a_correction_heals_it(Lane::Early, 1_500).await
}

#[tokio::test]
async fn in_the_urgent_lane_each_is_named_and_a_correction_heals_it() -> Result<()> {
    each_is_named_and_a_correction_heals_it(Lane::Urgent, 300).await
}

async fn each_is_named_and_a_correction_heals_it(lane: Lane, expires_in: i64) -> Result<()> {
    let mut fleet = TestFleet::found().await?;
    // So that on a slow machine no attempt comes before it is let come.
    fleet.environment.insert("FRESHET_RETRY__SHORTEST".into(), "1m".into());
    // MariaDB checks a column of type JSON; a platform may have plain text there.
    fleet.execute("ALTER TABLE ie_appinstall_connection MODIFY inputFields LONGTEXT NULL", []).await?;
    let cases: Vec<(i64, Case)> = (1..).zip(cases()).collect();
    let mut before = Vec::new();
    for (id, case) in &cases {
        before.push(add(&fleet, *id, case, expires_in).await?);
    }
    let started = now();
    assert_eq!(fleet.scan(lane).await?.published, cases.len() as u64);
    let reports = fleet.work_off(cases.len()).await?;
    assert!(reports.iter().all(|report| report.outcome.as_str() == "failed"), "{reports:?}");

    let cache = fleet.cache().await?;
    for ((id, case), before) in cases.iter().zip(before) {
        let stored = fleet.stored(*id).await?;
        let token =
            |stored: &StoredConnection| (stored.access_token.clone(), stored.expires_at, stored.generated_on);
        assert_eq!(token(&stored), token(&before), "{}", case.name);
        assert_eq!(cache[&format!("connectionAccessToken_{id}")].value, format!("old-{id}"), "{}", case.name);
        let ours = stored.ours.context("not enrolled")?;
        let state = if case.class == "misconfigured" { "misconfigured" } else { "active" };
        assert_eq!(
            (ours.failure_class.as_deref(), ours.state.as_str(), ours.generation, ours.failures),
            (Some(case.class), state, 0, 1),
            "{}",
            case.name
        );
        assert_eq!(ours.queued_until, None, "{}", case.name);
        let next = ours.next_attempt_at.context("no next attempt")?;
        assert!(next > started && next <= now() + TimeDelta::minutes(15), "{}: {next}", case.name);
        let detail = ours.failure_detail.context("no detail")?;
        assert!(detail.contains(case.detail), "{}: {detail}", case.name);
        assert!(!detail.contains(SECRET) && !detail.contains("old-"), "{}: {detail}", case.name);
    }
    let called = cases.iter().filter(|(_, case)| case.answer.is_some()).count();
    assert_eq!(fleet.token_requests().len(), called, "what cannot be asked for is not asked for");
    let told =
        fleet.number("SELECT COUNT(*) FROM refresh_attempt WHERE failure_detail LIKE '%s3cret%'").await?;
    assert_eq!(told, 0);
    assert_eq!(fleet.number("SELECT COUNT(*) FROM refresh_attempt").await?, cases.len() as i64);

    correct(&fleet, &cases).await?;
    fleet.dissolve().await
}

/// Writes a connection whose old token can be read in the cache, and the answer that waits for it.
async fn add(fleet: &TestFleet, id: i64, case: &Case, expires_in: i64) -> Result<StoredConnection> {
    let mut new = good(id, case);
    new.expires_in = Some(expires_in);
    if let Some(input) = &case.input {
        new.input_fields = input.clone();
    }
    fleet.add([new]).await?;
    if let Some(answer) = &case.answer {
        let account = if case.is_very { format!("client {id}") } else { format!("location&{id}") };
        fleet.marketplaces.script(Matcher::any().account(account), [answer.clone().into()]);
    }
    let key = format!("{}connectionAccessToken_{id}", fleet.keys.prefix());
    let _: () = fleet.keys.client().set(key, format!("old-{id}"), None, None, false).await?;
    fleet.stored(id).await
}

fn good(id: i64, case: &Case) -> NewConnection {
    if case.is_very { NewConnection::very(id, 0) } else { NewConnection::fynd(id, 0) }
}

/// With good input and good answers the next attempt clears everything.
async fn correct(fleet: &TestFleet, cases: &[(i64, Case)]) -> Result<()> {
    for (id, case) in cases {
        // Another one than before in every case: what a provider knew nothing of is not asked for again as it was.
        let good = good(*id, case).input_fields.context("no input")?;
        let corrected = with(serde_json::from_str(&good)?, "corrected", json!(true));
        fleet
            .execute(
                "UPDATE ie_appinstall_connection SET inputFields = ? WHERE id = ?",
                [corrected.into(), (*id).into()],
            )
            .await?;
    }
    assert_eq!(fleet.retry_scan().await?.found, 0, "its time has not come");
    fleet.let_next_attempts_come().await?;
    assert_eq!(fleet.retry_scan().await?.published, cases.len() as u64);
    let reports = fleet.work_off(cases.len()).await?;
    assert!(reports.iter().all(|report| report.outcome.as_str() == "refreshed"), "{reports:?}");
    let cache = fleet.cache().await?;
    for (id, case) in cases {
        let stored = fleet.stored(*id).await?;
        assert_eq!(
            Some(&cache[&format!("connectionAccessToken_{id}")].value),
            stored.access_token.as_ref(),
            "{}",
            case.name
        );
        let ours = stored.ours.context("not enrolled")?;
        assert_eq!((ours.generation, ours.state.as_str(), ours.failures), (1, "active", 0), "{}", case.name);
        assert_eq!((ours.failure_class, ours.failure_detail), (None, None), "{}", case.name);
        assert_eq!((ours.next_attempt_at, ours.queued_until), (None, None), "{}", case.name);
    }
    Ok(())
}
