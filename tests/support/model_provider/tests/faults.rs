//! Every fault as a client sees it that looks at the bytes, and what it leaves behind in the model.

use std::time::{Duration, Instant};

use chrono::DateTime;
use serde_json::json;

use super::super::{Did, Fault, LedgerEntry, ModelProvider, RetryAfter, Rotation, Sent};
use super::raw::{End, Heard, begin, read_to_end, refresh, refreshing};
use super::{CLIENT, rotating};

const SPENT: Did = Did::Granted { access_token: 1, refresh_token: Some(2) };
const PATIENCE: Duration = Duration::from_secs(20);

/// What a strictly rotating model and its caller come to.
async fn meet(fault: Fault) -> (Heard, LedgerEntry, ModelProvider) {
    let (model, _) = rotating(Rotation::Strict).await;
    let token = model.authorise("shop", CLIENT);
    model.script("shop", [fault]);
    let heard = refresh(&model, &token).await;
    model.until_settled(PATIENCE).await.unwrap();
    assert_eq!((model.ledger().len(), model.unused_faults()), (1, 0));
    let entry = model.ledger().remove(0);
    let is_spent = model.refresh_token("shop").as_ref() != Some(&token);
    assert_eq!(is_spent, entry.did == SPENT, "what the ledger says is what has happened");
    (heard, entry, model)
}

#[tokio::test]
async fn what_stands_before_the_model_spends_nothing() {
    let date = DateTime::from_timestamp(784_111_777, 0).unwrap();
    for (fault, status, header, body) in [
        (Fault::rate_limited(RetryAfter::Absent), 429, ("retry-after", None), "too_many_requests"),
        (Fault::rate_limited(RetryAfter::Seconds(120)), 429, ("retry-after", Some("120")), "too_many"),
        (
            Fault::rate_limited(RetryAfter::Date(date)),
            429,
            ("retry-after", Some("Sun, 06 Nov 1994 08:49:37 GMT")),
            "too_many",
        ),
        (Fault::rate_limited(RetryAfter::Text("soon")), 429, ("retry-after", Some("soon")), "too_many"),
        (Fault::status(500), 500, ("content-type", Some("text/html; charset=utf-8")), "500 Internal"),
        (Fault::status(502), 502, ("retry-after", None), "502 Bad"),
        (Fault::status(503).retry_after(RetryAfter::Seconds(5)), 503, ("retry-after", Some("5")), "503"),
        (Fault::status(504), 504, ("retry-after", None), "504 Gateway"),
        (Fault::status(200), 200, ("content-type", Some("text/html; charset=utf-8")), "<html>"),
        (Fault::error(400, "invalid_grant"), 400, ("www-authenticate", None), r#"{"error":"invalid_grant"}"#),
        (
            Fault::error(401, "invalid_client"),
            401,
            ("www-authenticate", Some("Basic realm=\"model\"")),
            r#"{"error":"invalid_client"}"#,
        ),
        (
            Fault::error(200, "invalid_grant"),
            200,
            ("content-type", Some("application/json")),
            r#"{"error":"invalid_grant"}"#,
        ),
        (
            Fault::redirect("https://elsewhere.example/"),
            302,
            ("location", Some("https://elsewhere.example/")),
            "",
        ),
        (Fault::body("\u{0}"), 200, ("content-type", Some("application/json")), "\u{0}"),
    ] {
        let name = fault.name;
        let (heard, entry, _) = meet(fault).await;
        assert_eq!((heard.status(), heard.end), (status, End::Closed), "{name}");
        assert_eq!(heard.header(header.0).as_deref(), header.1, "{name}");
        assert!(heard.body().contains(body), "{name}: {}", heard.text());
        assert_eq!(heard.header("content-length"), Some(heard.body().len().to_string()), "{name}");
        assert_eq!((entry.did, entry.sent), (Did::NotAsked, Sent::Complete { status }), "{name}");
        assert_eq!((entry.fault, entry.account.as_deref()), (Some(name), Some("shop")));
    }
}

#[tokio::test]
async fn what_changes_the_answer_comes_after_the_model() {
    for (fault, member) in [
        (Fault::expires_in(json!(0)), Some(json!(0))),
        (Fault::expires_in(json!(-5)), Some(json!(-5))),
        (Fault::expires_in(json!(1e300)), Some(json!(1e300))),
        (Fault::expires_in(json!("soon")), Some(json!("soon"))),
        (Fault::expires_in(json!(null)), Some(json!(null))),
        (Fault::without("expires_in"), None),
    ] {
        let (heard, entry, model) = meet(fault).await;
        assert_eq!(heard.json().get("expires_in"), member.as_ref());
        assert!(model.is_valid(&heard.member("access_token")));
        assert_eq!((entry.did, entry.sent), (SPENT, Sent::Complete { status: 200 }));
    }
    let (heard, entry, _) = meet(Fault::content_type("text/html")).await;
    assert_eq!(heard.header("content-type").as_deref(), Some("text/html"));
    assert!(heard.json()["access_token"].is_string());
    assert_eq!((entry.did, entry.sent), (SPENT, Sent::Complete { status: 200 }));

    let (heard, entry, model) = meet(Fault::cut_json()).await;
    let answer = heard.body();
    assert_eq!(heard.header("content-length"), Some(answer.len().to_string()));
    assert!(
        answer.starts_with("{\"access_token\":\"")
            && serde_json::from_str::<serde_json::Value>(&answer).is_err()
    );
    assert_eq!((entry.did, entry.sent), (SPENT, Sent::Complete { status: 200 }));
    assert_eq!(model.access_tokens("shop").len(), 1);
}

#[tokio::test]
async fn a_connection_may_end_anywhere() {
    for (fault, end, sent, is_begun) in [
        (Fault::lost(), End::Closed, Sent::Nothing, false),
        (Fault::reset(), End::Reset, Sent::Nothing, false),
        (Fault::short_body(), End::Closed, Sent::Partial { status: 200 }, true),
        (Fault::reset_within_body(), End::Reset, Sent::Partial { status: 200 }, true),
    ] {
        let name = fault.name;
        for (fault, did) in [(fault.clone(), SPENT), (fault.unspent(), Did::NotAsked)] {
            let sent = match (sent, did) {
                (Sent::Partial { .. }, Did::NotAsked) => Sent::Partial { status: 503 },
                _ => sent,
            };
            let (heard, entry, _) = meet(fault).await;
            assert_eq!((heard.end, entry.did, entry.sent), (end, did, sent), "{name}");
            assert_eq!(!heard.bytes.is_empty(), is_begun, "{name}");
            if is_begun {
                let announced: usize = heard.header("content-length").unwrap().parse().unwrap();
                assert_eq!(heard.body().len(), announced / 2, "{name}");
            }
        }
    }
}

#[tokio::test]
async fn a_server_in_front_may_fail_after_the_model_has_spent() {
    let (heard, entry, _) = meet(Fault::status(504).spending()).await;
    assert_eq!((heard.status(), entry.did, entry.sent), (504, SPENT, Sent::Complete { status: 504 }));
    assert!(!heard.text().contains("access-"));
}

#[tokio::test]
async fn what_hangs_hangs_until_somebody_leaves() {
    for (fault, sent, is_begun) in [
        (Fault::hang(), Sent::Nothing, false),
        (Fault::hang_within_body(), Sent::Partial { status: 200 }, true),
    ] {
        let name = fault.name;
        let (model, _) = rotating(Rotation::Strict).await;
        let token = model.authorise("shop", CLIENT);
        model.script("shop", [fault.clone(), fault]);
        let caller = begin(&model, &refreshing(&token)).await;
        model.until_called(1, PATIENCE).await.unwrap();
        let entry = &model.ledger()[0];
        assert_eq!((entry.did, entry.sent), (SPENT, Sent::Pending), "{name}");
        drop(caller);
        model.until_settled(PATIENCE).await.unwrap();
        assert_eq!(model.ledger()[0].sent, sent, "{name}");

        let second = model.refresh_token("shop").unwrap();
        let caller = begin(&model, &refreshing(&second)).await;
        model.until_called(2, PATIENCE).await.unwrap();
        drop(model);
        let heard = tokio::time::timeout(PATIENCE, read_to_end(caller)).await.unwrap();
        assert_eq!(!heard.bytes.is_empty(), is_begun, "{name}");
        if is_begun {
            assert!(heard.text().starts_with("HTTP/1.1 200 OK\r\n"), "{name}");
        }
    }
}

#[tokio::test]
async fn slow_answers_come_whole() {
    let pause = Duration::from_micros(100);
    let begun = Instant::now();
    let (heard, entry, model) = meet(Fault::drip(pause)).await;
    assert!(begun.elapsed() >= pause * u32::try_from(heard.bytes.len()).unwrap());
    assert!(model.is_valid(&heard.member("access_token")));
    assert_eq!((entry.did, entry.sent), (SPENT, Sent::Complete { status: 200 }));

    let latency = Duration::from_millis(50);
    let begun = Instant::now();
    let (heard, entry, _) = meet(Fault::status(503).after(latency)).await;
    assert!(begun.elapsed() >= latency);
    assert_eq!((heard.status(), entry.did), (503, Did::NotAsked));
}

#[tokio::test]
async fn huge_answers_are_as_large_as_they_were_ordered_and_json() {
    const PADDING: u64 = 3_000_000;
    let (heard, entry, model) = meet(Fault::huge_announced(PADDING)).await;
    assert_eq!(heard.header("content-length"), Some(heard.body().len().to_string()));
    assert_eq!(heard.member("padding").len() as u64, PADDING);
    assert!(model.is_valid(&heard.member("access_token")));
    assert_eq!((entry.did, entry.sent), (SPENT, Sent::Complete { status: 200 }));

    let (heard, entry, model) = meet(Fault::huge(PADDING)).await;
    assert_eq!(
        (heard.header("content-length"), heard.header("transfer-encoding").as_deref()),
        (None, Some("chunked"))
    );
    let body = dechunk(&heard.body());
    let json: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert_eq!(json["padding"].as_str().map(str::len), usize::try_from(PADDING).ok());
    assert!(model.is_valid(json["access_token"].as_str().unwrap()));
    assert_eq!((entry.did, entry.sent), (SPENT, Sent::Complete { status: 200 }));

    // Who stops reading is noticed.
    let (model, _) = rotating(Rotation::Strict).await;
    let token = model.authorise("shop", CLIENT);
    model.script_next([Fault::huge(u64::MAX)]);
    let caller = begin(&model, &refreshing(&token)).await;
    model.until_called(1, PATIENCE).await.unwrap();
    drop(caller);
    model.until_settled(PATIENCE).await.unwrap();
    assert_eq!(model.ledger()[0].sent, Sent::Partial { status: 200 });
}

fn dechunk(mut rest: &str) -> String {
    let mut body = String::new();
    loop {
        let (length, chunk) = rest.split_once("\r\n").unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        body.push_str(&chunk[..length]);
        rest = chunk[length..].strip_prefix("\r\n").unwrap();
        if length == 0 {
            assert!(rest.is_empty(), "nothing comes after the last chunk");
            return body;
        }
    }
}
