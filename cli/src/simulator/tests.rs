//! The server over the wire: answers, refusals, scripts, ledger, stop.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::DateTime;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{wire::*, *};

type Tested = Result<(), Box<dyn std::error::Error>>;

const FYND: &str = "/hogwarts/api/v1/Eshopbox/shipment/authToken";
const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";
const REFRESH: &str = "/api/fynd/refresh/connection";
const SCOPE: &str = "scope=api-sl-2-3.order-shipment.create+api-sl-2-3.order-cancellation.create\
                     +api-sl-2-3.order-return.create";

pub(super) fn settings() -> Settings {
    Settings::well_behaved(Arc::new(|| {
        DateTime::from_timestamp_micros(1_685_964_224_614_491).unwrap_or_default()
    }))
}

async fn recording() -> io::Result<Simulator> {
    Simulator::start(Settings { record: true, ..settings() }).await
}

fn fynd(username: &str) -> String {
    format!("{FYND}?username={username}&password=p")
}

/// Waits until the ledger holds so many requests.
async fn arrived(simulator: &Simulator, requests: usize) -> io::Result<()> {
    let begun = Instant::now();
    while simulator.ledger().len() < requests {
        if begun.elapsed() > Duration::from_secs(10) {
            let seen = simulator.ledger().len();
            return Err(io::Error::other(format!("{seen} of {requests} requests arrived")));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}

#[tokio::test]
async fn fynd_answers_with_a_new_token_each_time() -> Tested {
    let simulator = Simulator::start(settings()).await?;
    assert_eq!(simulator.fynd_base_url(), format!("http://{}/hogwarts", simulator.platform_host()));
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let heard = get(&simulator, &fynd("shop")).await?;
        assert_eq!(heard.status, 200);
        assert_eq!(heard.header("content-type"), Some(JSON));
        let answer: Value = serde_json::from_str(&heard.body)?;
        let token = answer["accessToken"].as_str().unwrap_or_default().to_owned();
        assert_eq!(answer, json!({"status": "SUCCESS", "accessToken": token}));
        assert_eq!(token.len(), 36);
        tokens.push(token);
    }
    assert_ne!(tokens[0], tokens[1]);
    assert_eq!(simulator.counts(), Counts { requests: 2, issued: 2, ..Counts::default() });
    assert!(simulator.ledger().is_empty(), "nothing is kept unless asked for");
    Ok(())
}

#[tokio::test]
async fn fynd_refuses() -> Tested {
    let credentials = Credentials::none().with(Provider::Fynd, "shop", "a+b&c");
    let simulator = Simulator::start(Settings { credentials, ..settings() }).await?;
    for (target, status, message) in [
        (FYND.to_owned(), 400, "username is required"),
        (format!("{FYND}?username=&password=p"), 400, "username is required"),
        (format!("{FYND}?username=shop"), 400, "password is required"),
        (format!("{FYND}?username=shop&username=shop&password=p"), 400, "a parameter is repeated"),
        (format!("{FYND}?username=shop&password=p"), 401, "Invalid credentials"),
        // Not escaped, the plus is a space.
        (format!("{FYND}?username=shop&password=a+b%26c"), 401, "Invalid credentials"),
    ] {
        let heard = get(&simulator, &target).await?;
        assert_eq!(heard.status, status, "{target}");
        assert_eq!(heard.body, format!(r#"{{"status":"FAILED","message":"{message}"}}"#));
    }
    assert_eq!(post(&simulator, &fynd("shop"), FORM, "").await?.status, 405);
    assert_eq!(get(&simulator, "/hogwarts").await?.status, 404);
    assert_eq!(get(&simulator, &format!("{FYND}?username=shop&password=a%2Bb%26c")).await?.status, 200);
    assert_eq!(simulator.counts(), Counts { requests: 9, issued: 1, refused: 8, ..Counts::default() });
    Ok(())
}

#[tokio::test]
async fn kornitx_answers_with_a_jwt() -> Tested {
    let simulator = recording().await?;
    assert_eq!(simulator.kornitx_token_url(), format!("http://{}/token", simulator.platform_host()));
    let body = format!("client_id=c&client_secret=s&grant_type=client_credentials&{SCOPE}");
    let heard = post(&simulator, "/token", FORM, &body).await?;
    assert_eq!(heard.status, 200);
    assert_eq!(heard.header("cache-control"), Some("no-store"));
    let answer: Value = serde_json::from_str(&heard.body)?;
    let token = answer["access_token"].as_str().unwrap_or_default().to_owned();
    assert_eq!(answer, json!({"token_type": "Bearer", "expires_in": 3600, "access_token": token}));
    assert_eq!(token.split('.').count(), 3);
    let entry = &simulator.ledger()[0];
    assert_eq!(entry.provider, Some(Provider::KornitX));
    assert_eq!(entry.account.as_deref(), Some("c"));
    assert_eq!(entry.issued(), Some(token.as_str()));
    assert_eq!(entry.body, body);
    Ok(())
}

#[tokio::test]
async fn kornitx_refuses_as_the_rfc_has_it() -> Tested {
    let credentials = Credentials::none().with(Provider::KornitX, "c", "s");
    let simulator = Simulator::start(Settings { credentials, ..settings() }).await?;
    let grant = "grant_type=client_credentials";
    for (body, status, error) in [
        (String::new(), 400, "invalid_request"),
        (format!("client_id=c&client_secret=s&{SCOPE}"), 400, "invalid_request"),
        (format!("client_id=c&client_id=c&client_secret=s&{grant}&{SCOPE}"), 400, "invalid_request"),
        (format!("{grant}&{SCOPE}"), 401, "invalid_client"),
        (format!("client_id=c&client_secret=x&{grant}&{SCOPE}"), 401, "invalid_client"),
        (format!("client_id=c&client_secret=s&grant_type=password&{SCOPE}"), 400, "unsupported_grant_type"),
        (format!("client_id=c&client_secret=s&{grant}"), 400, "invalid_scope"),
        (format!("client_id=c&client_secret=s&{grant}&{SCOPE}+more"), 400, "invalid_scope"),
    ] {
        let heard = post(&simulator, "/token", FORM, &body).await?;
        assert_eq!((heard.status, heard.body), (status, format!(r#"{{"error":"{error}"}}"#)), "{body}");
    }
    let good = format!("client_id=c&client_secret=s&{grant}&{SCOPE}");
    assert_eq!(post(&simulator, "/token", JSON, &good).await?.status, 400);
    assert_eq!(get(&simulator, "/token").await?.status, 405);
    let charset = format!("{FORM}; charset=utf-8");
    assert_eq!(post(&simulator, "/token", &charset, &good).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn the_platform_marks_the_details() -> Tested {
    let simulator = recording().await?;
    let row = json!({
        "connectionId": 9_007_199_254_740_993_i64, "id": 1, "account_id": "a", "channel_id": null,
        "additionalDetails": {"kept": [1, 2]},
    });
    let heard = post(&simulator, REFRESH, JSON, &row.to_string()).await?;
    let mut expected = row.clone();
    expected["additionalDetails"]["refreshed"] = json!(1);
    assert_eq!((heard.status, serde_json::from_str::<Value>(&heard.body)?), (200, expected));

    let mut bare = row.clone();
    bare["additionalDetails"] = Value::Null;
    let heard = post(&simulator, REFRESH, JSON, &bare.to_string()).await?;
    let answer: Value = serde_json::from_str(&heard.body)?;
    assert_eq!(answer["additionalDetails"], json!({"refreshed": 2}));

    let entry = &simulator.ledger()[0];
    assert_eq!(entry.provider, Some(Provider::Platform));
    assert_eq!(entry.account.as_deref(), Some("9007199254740993"));
    assert_eq!(post(&simulator, REFRESH, JSON, "[]").await?.status, 400);
    assert_eq!(post(&simulator, REFRESH, JSON, r#"{"connectionId":1}"#).await?.status, 400);
    Ok(())
}

#[tokio::test]
async fn the_ledger_keeps_requests_as_sent() -> Tested {
    let simulator = recording().await?;
    let target =
        "/hogwarts/api/v1/Esh%6Fpbox/shipment/authToken?username=a%26b+c%2Bd%2bé&password=%3D%%7e&&x";
    let request = format!(
        "GET {target} HTTP/1.1\r\nHost: simulator\r\nX-One:  padded \r\nConnection: close\r\nX-One: two\r\n\r\n"
    );
    let heard = exchange(&simulator, &request).await?;
    let ledger = simulator.ledger();
    let [entry] = ledger.as_slice() else {
        return Err("one request, one entry".into());
    };
    assert_eq!(heard.status, 200);
    assert_eq!(entry.target, target);
    assert_eq!(entry.method, "GET");
    assert_eq!(entry.account.as_deref(), Some("a&b c+d+é"));
    assert_eq!(entry.headers.get_all("x-one").iter().collect::<Vec<_>>(), ["padded", "two"]);
    assert!(entry.body.is_empty());
    assert!(heard.body.contains(entry.issued().unwrap_or("?")));
    let shown = format!("{entry:?}");
    assert!(shown.contains("200 with a token") && !shown.contains("password"), "{shown}");
    Ok(())
}

#[tokio::test]
async fn a_script_is_played_in_order_and_ends() -> Tested {
    let simulator = recording().await?;
    let slow = Duration::from_millis(50);
    simulator.script(
        Matcher::provider(Provider::Fynd).account("a&b"),
        [
            Reply::json(StatusCode::TOO_MANY_REQUESTS, "{}").with(header::RETRY_AFTER, 7_u64).into(),
            ScriptedAnswer::Reset,
            ScriptedAnswer::delay(slow),
            Reply::new(StatusCode::OK, &b"not json \x00"[..]).with(header::CONTENT_LENGTH, 99_u64).into(),
        ],
    );
    assert_eq!(get(&simulator, &fynd("other")).await?.status, 200);
    assert_eq!(simulator.unused_scripted_answers(), 4);

    let first = get(&simulator, &fynd("a%26b")).await?;
    assert_eq!((first.status, first.header("retry-after"), first.body.as_str()), (429, Some("7"), "{}"));
    let second = get(&simulator, &fynd("a%26b")).await.map(|heard| heard.status);
    assert_eq!(second.map_err(|error| error.kind()), Err(io::ErrorKind::ConnectionReset));
    let begun = Instant::now();
    assert_eq!(get(&simulator, &fynd("a%26b")).await?.status, 200);
    assert!(begun.elapsed() >= slow);
    let fourth = get(&simulator, &fynd("a%26b")).await?;
    assert_eq!((fourth.status, fourth.body.as_str()), (200, "not json \x00"));
    assert_eq!(fourth.header("content-length"), Some("10"));
    assert!(get(&simulator, &fynd("a%26b")).await?.body.contains("SUCCESS"));

    let answers: Vec<_> = simulator.ledger().iter().map(|entry| format!("{:?}", entry.answer)).collect();
    assert_eq!(answers, ["200 with a token", "429", "Reset", "200 with a token", "200", "200 with a token"]);
    assert_eq!(simulator.unused_scripted_answers(), 0);
    assert_eq!(
        simulator.counts(),
        Counts { requests: 6, issued: 3, rate_limited: 1, server_errors: 0, refused: 0 }
    );
    Ok(())
}

#[tokio::test]
async fn faults_strike_the_marketplaces_only() -> Tested {
    let retry_after = Some(Duration::from_millis(1_500));
    let limited = Simulator::start(Settings { rate_limited_share: 1.0, retry_after, ..settings() }).await?;
    let heard = get(&limited, &fynd("shop")).await?;
    assert_eq!((heard.status, heard.header("retry-after")), (429, Some("2")));
    let row = r#"{"connectionId":1,"id":1,"account_id":1,"channel_id":1,"additionalDetails":{}}"#;
    assert_eq!(post(&limited, REFRESH, JSON, row).await?.status, 200);

    let broken = Simulator::start(Settings { server_error_share: 1.0, ..settings() }).await?;
    let heard = post(&broken, "/token", FORM, "").await?;
    assert_eq!((heard.status, heard.header("content-type")), (500, Some("text/html; charset=utf-8")));
    assert!(heard.body.starts_with("<html>"));
    assert_eq!(broken.counts(), Counts { requests: 1, server_errors: 1, ..Counts::default() });
    Ok(())
}

#[tokio::test]
async fn a_connection_serves_many_requests() -> Tested {
    let simulator = Simulator::start(settings()).await?;
    let mut stream = TcpStream::connect(simulator.platform_host()).await?;
    let mut buffer = [0_u8; 1024];
    for _ in 0..100 {
        stream.write_all(format!("GET {} HTTP/1.1\r\nhost: s\r\n\r\n", fynd("shop")).as_bytes()).await?;
        let length = stream.read(&mut buffer).await?;
        assert!(buffer[..length].starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
    assert_eq!(simulator.counts().issued, 100);
    Ok(())
}

#[tokio::test]
async fn stop_ends_idle_delayed_half_sent_and_unread() -> Tested {
    let simulator = recording().await?;
    let address = simulator.platform_host();
    simulator.script(Matcher::any(), [ScriptedAnswer::delay(Duration::from_hours(1))]);
    let mut idle = TcpStream::connect(&address).await?;
    let mut delayed = TcpStream::connect(&address).await?;
    let mut half = TcpStream::connect(&address).await?;
    // More than the socket buffers take, and nobody reads it.
    simulator.script(Matcher::any().account("big"), [Reply::new(StatusCode::OK, vec![0; 64 << 20]).into()]);
    let mut unread = TcpStream::connect(&address).await?;
    unread.write_all(format!("GET {} HTTP/1.1\r\nhost: s\r\n\r\n", fynd("big")).as_bytes()).await?;
    arrived(&simulator, 1).await?;
    delayed.write_all(format!("GET {} HTTP/1.1\r\nhost: s\r\n\r\n", fynd("shop")).as_bytes()).await?;
    half.write_all(b"GET /half HTTP/1.1\r\nho").await?;
    arrived(&simulator, 2).await?;
    assert_eq!(simulator.ledger()[1].answer, LedgerAnswer::Pending);

    tokio::time::timeout(Duration::from_secs(5), simulator.stop()).await?;
    assert!(TcpStream::connect(&address).await.is_err(), "nobody listens any more");
    for stream in [&mut idle, &mut delayed, &mut half] {
        let mut rest = Vec::new();
        // Ended or reset, but nothing was answered.
        let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut rest)).await?;
        assert!(rest.is_empty(), "{}", String::from_utf8_lossy(&rest));
    }
    Ok(())
}

#[tokio::test]
async fn dropping_stops() -> Tested {
    let simulator = Simulator::start(settings()).await?;
    let address = simulator.platform_host();
    let mut open = TcpStream::connect(&address).await?;
    drop(simulator);
    let _ = tokio::time::timeout(Duration::from_secs(5), open.read_to_end(&mut Vec::new())).await?;
    let begun = Instant::now();
    while TcpStream::connect(&address).await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(5), "still listening");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}
