//! Who may ask, and for what.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::super::{ClientAuthentication, Did, GrantType, Refusal, Rotation, Settings};
use super::raw::{request, send};
use super::{CLIENT, model, rotating};

fn basic(credentials: &str) -> String {
    format!("authorization: Basic {}\r\n", STANDARD.encode(credentials))
}

#[tokio::test]
async fn credentials_count_where_they_may_stand() {
    use ClientAuthentication::{Basic, Body, Either};
    let grant = "grant_type=client_credentials";
    let good =
        (basic("a%26b:p+ss%3Aw%25rd%2B"), format!("{grant}&client_id=a%26b&client_secret=p+ss:w%25rd%2B"));
    let unencoded = basic("a&b:p ss:w%rd+");
    let neither = format!("{grant}&client_id=a%26b");
    let none = String::new();
    let bare = grant.to_owned();
    let wrong = format!("{grant}&client_id=a%26b&client_secret=wrong");
    let unknown = format!("{grant}&client_id=b&client_secret=p+ss:w%25rd%2B");
    let twice = format!("{}&client_id=a%26b", good.1);
    for (name, allowed, headers, form, expected) in [
        ("basic", Either, &good.0, &bare, Ok(())),
        ("basic and the id", Either, &good.0, &neither, Ok(())),
        ("basic only", Basic, &good.0, &bare, Ok(())),
        ("body", Either, &none, &good.1, Ok(())),
        ("body only", Body, &none, &good.1, Ok(())),
        ("both", Either, &good.0, &good.1, Err(Refusal::InvalidRequest)),
        ("basic not encoded", Either, &unencoded, &bare, Err(Refusal::InvalidClient)),
        ("basic, not taken", Body, &good.0, &bare, Err(Refusal::InvalidClient)),
        ("body, not taken", Basic, &none, &good.1, Err(Refusal::InvalidClient)),
        ("no secret", Either, &none, &neither, Err(Refusal::InvalidClient)),
        ("nothing", Either, &none, &bare, Err(Refusal::InvalidClient)),
        ("a wrong secret", Either, &none, &wrong, Err(Refusal::InvalidClient)),
        ("an unknown client", Either, &none, &unknown, Err(Refusal::InvalidClient)),
        ("a member twice", Either, &none, &twice, Err(Refusal::InvalidRequest)),
    ] {
        let settings = Settings { authentication: allowed, ..Settings::new(Rotation::None) };
        let (model, _) = model(settings).await;
        model.set_client_secrets("a&b", &["p ss:w%rd+"]);
        let heard = send(&model, &request(form, headers)).await;
        let entry = &model.ledger()[0];
        match expected {
            Ok(()) => {
                assert_eq!(heard.status(), 200, "{name}");
                assert_eq!(entry.did, Did::Granted { access_token: 1, refresh_token: None }, "{name}");
                assert_eq!((entry.account.as_deref(), entry.client_secret), (Some("a&b"), Some(0)), "{name}");
                assert_eq!(model.access_tokens("a&b"), [heard.member("access_token")], "{name}");
            }
            Err(refusal) => {
                assert_eq!(heard.status(), refusal.status(), "{name}");
                assert_eq!(heard.member("error"), refusal.code(), "{name}");
                assert_eq!((entry.did, entry.client_secret), (Did::Refused(refusal), None), "{name}");
            }
        }
        assert_eq!(heard.header("www-authenticate").is_some(), heard.status() == 401, "{name}");
    }
}

#[tokio::test]
async fn several_secrets_count_at_a_time() {
    let (model, _) = rotating(Rotation::None).await;
    let ask = async |secret: &str| {
        let form = format!("grant_type=client_credentials&client_id={CLIENT}&client_secret={secret}");
        send(&model, &request(&form, "")).await.status()
    };
    model.set_client_secrets(CLIENT, &["old", "new"]);
    assert_eq!((ask("old").await, ask("new").await, ask("older").await), (200, 200, 401));
    model.set_client_secrets(CLIENT, &["new"]);
    assert_eq!((ask("old").await, ask("new").await), (401, 200));
    model.set_client_secrets(CLIENT, &[]);
    assert_eq!(ask("new").await, 401);
    let secrets: Vec<_> = model.ledger().iter().map(|entry| entry.client_secret).collect();
    assert_eq!(secrets, [Some(0), Some(1), None, None, Some(0), None]);
}

#[tokio::test]
async fn a_refresh_token_serves_the_client_that_it_was_made_for() {
    let (model, _) = rotating(Rotation::Strict).await;
    model.set_client_secrets("other", &["s"]);
    let token = model.authorise("shop", CLIENT);
    let form = |token: &str| {
        format!("grant_type=refresh_token&refresh_token={token}&client_id=other&client_secret=s")
    };
    let heard = send(&model, &request(&form(&token), "")).await;
    assert_eq!((heard.status(), heard.member("error").as_str()), (400, "invalid_grant"));
    assert_eq!(model.refresh_token("shop").as_ref(), Some(&token), "nothing is spent");
    let heard = send(&model, &request(&form("unheard-of"), "")).await;
    assert_eq!((heard.status(), heard.member("error").as_str()), (400, "invalid_grant"));
    let ledger = model.ledger();
    assert_eq!((ledger[0].account.as_deref(), ledger[0].presented), (Some("shop"), Some(1)));
    assert_eq!((ledger[1].account.as_deref(), ledger[1].presented), (Some("other"), None));
}

#[tokio::test]
async fn what_is_no_request_for_a_token_is_refused() {
    let (model, _) = rotating(Rotation::None).await;
    let with = |form: &str| request(&format!("{form}&{}", super::AUTHENTICATION), "");
    let not_a_form = with("grant_type=client_credentials").replace("x-www-form-urlencoded", "json");
    for (request, status, did) in [
        (with(""), 400, Did::Refused(Refusal::InvalidRequest)),
        (with("grant_type=refresh_token"), 400, Did::Refused(Refusal::InvalidRequest)),
        (with("grant_type=refresh_token&refresh_token="), 400, Did::Refused(Refusal::InvalidRequest)),
        (with("grant_type=password"), 400, Did::Refused(Refusal::UnsupportedGrantType)),
        (not_a_form, 400, Did::Refused(Refusal::InvalidRequest)),
        (with("grant_type=client_credentials").replace("/token", "/other"), 404, Did::NotAsked),
        ("GET /token HTTP/1.1\r\nconnection: close\r\n\r\n".to_owned(), 405, Did::NotAsked),
    ] {
        let heard = send(&model, &request).await;
        assert_eq!((heard.status(), model.ledger().pop().unwrap().did), (status, did), "{}", heard.text());
    }
    let heard = send(&model, "no HTTP at all\r\n\r\n").await;
    assert!(heard.bytes.is_empty());
    let kinds: Vec<_> = model.ledger().iter().map(|entry| entry.grant_type).collect();
    assert_eq!(kinds[..3], [None, Some(GrantType::RefreshToken), Some(GrantType::RefreshToken)]);
    assert_eq!(kinds.len(), 7);
}
