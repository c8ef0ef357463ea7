//! What becomes of refresh tokens.

use chrono::TimeDelta;
use serde_json::json;

use super::super::{Did, Fault, Refusal, Rotation, Settings, Successor};
use super::raw::{Heard, refresh};
use super::{CLIENT, model, rotating};

const WINDOW: TimeDelta = TimeDelta::seconds(60);

fn lenient(again: Successor) -> Rotation {
    Rotation::Leeway { window: WINDOW, again }
}

#[track_caller]
fn assert_refused(heard: &Heard) {
    assert_eq!((heard.status(), heard.json()), (400, json!({"error": "invalid_grant"})));
}

#[tokio::test]
async fn without_rotation_the_same_token_serves_for_ever() {
    let (model, clock) = rotating(Rotation::None).await;
    let token = model.authorise("shop", CLIENT);
    for _ in 0..3 {
        let heard = refresh(&model, &token).await;
        let access_token = heard.member("access_token");
        assert_eq!(
            heard.json(),
            json!({"access_token": access_token, "token_type": "Bearer", "expires_in": 3600})
        );
        assert!(model.is_valid(&access_token));
        clock.advance(TimeDelta::days(400));
        assert!(!model.is_valid(&access_token));
    }
    assert_eq!(model.refresh_token("shop"), Some(token));
    assert_eq!((model.calls("shop"), model.grants("shop"), model.reuse_detections("shop")), (3, 3, 0));
}

#[tokio::test]
async fn a_strict_token_that_comes_again_ends_its_family() {
    let (model, _) = rotating(Rotation::Strict).await;
    let first = model.authorise("shop", CLIENT);
    let other = model.authorise("other shop", CLIENT);
    let heard = refresh(&model, &first).await;
    let (access_token, second) = (heard.member("access_token"), heard.member("refresh_token"));
    assert_eq!(model.refresh_token("shop").as_ref(), Some(&second));
    let third = refresh(&model, &second).await.member("refresh_token");
    assert_eq!([&first, &second, &third].map(|token| model.serial_of(token)), [Some(1), Some(2), Some(3)]);
    assert!(model.is_valid(&access_token));
    assert_eq!(model.access_tokens("shop").len(), 2);

    assert_refused(&refresh(&model, &second).await);
    assert_eq!(model.reuse_detections("shop"), 1);
    assert!(!model.is_valid(&access_token), "its access tokens ended with it");
    assert!(model.access_tokens("shop").is_empty());
    assert_eq!(model.refresh_token("shop"), None);
    for token in [&third, &second, &first] {
        assert_refused(&refresh(&model, token).await);
    }
    assert_eq!((model.calls("shop"), model.grants("shop"), model.reuse_detections("shop")), (6, 2, 1));
    assert_eq!(refresh(&model, &other).await.status(), 200, "another family lives");

    let again = model.authorise("shop", CLIENT);
    assert_eq!(model.serial_of(&again), Some(4));
    assert_eq!(refresh(&model, &again).await.status(), 200);
    assert_refused(&refresh(&model, &third).await);
    assert_eq!(model.access_tokens("shop").len(), 1, "the new family is none of the old one's business");
}

#[tokio::test]
async fn within_the_leeway_the_same_successor_comes_again() {
    let (model, clock) = rotating(lenient(Successor::Same)).await;
    let first = model.authorise("shop", CLIENT);
    let second = refresh(&model, &first).await.member("refresh_token");
    clock.advance(WINDOW - TimeDelta::milliseconds(1));
    let heard = refresh(&model, &first).await;
    assert_eq!(heard.member("refresh_token"), second);
    assert_eq!(model.access_tokens("shop").len(), 2, "with an access token of its own");
    // Counted from the first use, not from the last.
    clock.advance(TimeDelta::milliseconds(1));
    assert_refused(&refresh(&model, &first).await);
    assert_refused(&refresh(&model, &second).await);
    assert_eq!((model.grants("shop"), model.reuse_detections("shop")), (2, 1));
}

#[tokio::test]
async fn within_the_leeway_a_new_successor_comes_beside_the_first() {
    let (model, clock) = rotating(lenient(Successor::New)).await;
    let first = model.authorise("shop", CLIENT);
    let second = refresh(&model, &first).await.member("refresh_token");
    clock.advance(WINDOW - TimeDelta::milliseconds(1));
    let third = refresh(&model, &first).await.member("refresh_token");
    assert_ne!(second, third);
    assert_eq!(model.refresh_token("shop").as_ref(), Some(&third));
    let fourth = refresh(&model, &second).await.member("refresh_token");
    assert_eq!(refresh(&model, &third).await.status(), 200, "both of them are good");
    assert_eq!(model.serial_of(&fourth), Some(4));
    assert_refused(&refresh(&model, &first).await);
    assert_eq!(model.reuse_detections("shop"), 1);
}

#[tokio::test]
async fn the_leeway_ends_when_a_successor_is_used() {
    for again in [Successor::Same, Successor::New] {
        let (model, clock) = rotating(lenient(again)).await;
        let first = model.authorise("shop", CLIENT);
        let second = refresh(&model, &first).await.member("refresh_token");
        clock.advance(TimeDelta::seconds(1));
        let third = refresh(&model, &second).await.member("refresh_token");
        assert_eq!(refresh(&model, &second).await.status(), 200, "the token before the newest");
        assert_refused(&refresh(&model, &first).await);
        assert_eq!(model.reuse_detections("shop"), 1, "{again:?}");
        assert_refused(&refresh(&model, &third).await);
    }
}

#[tokio::test]
async fn a_refresh_token_dies_of_age_and_of_idleness() {
    let settings = Settings {
        refresh_token_lifetime: Some(TimeDelta::days(60)),
        inactivity: Some(TimeDelta::days(30)),
        ..Settings::new(Rotation::None)
    };
    let (model_without_rotation, clock) = model(settings.clone()).await;
    let token = model_without_rotation.authorise("shop", CLIENT);
    for _ in 0..2 {
        clock.advance(TimeDelta::days(29));
        assert_eq!(refresh(&model_without_rotation, &token).await.status(), 200);
    }
    clock.advance(TimeDelta::days(2));
    assert_eq!(model_without_rotation.refresh_token("shop"), None, "sixty days are over");
    assert_refused(&refresh(&model_without_rotation, &token).await);
    let idle = model_without_rotation.authorise("shop", CLIENT);
    clock.advance(TimeDelta::days(30));
    assert_refused(&refresh(&model_without_rotation, &idle).await);
    assert_eq!(model_without_rotation.reuse_detections("shop"), 0);

    let (rotating, clock) = model(Settings { rotation: Rotation::Strict, ..settings }).await;
    let mut token = rotating.authorise("shop", CLIENT);
    for _ in 0..5 {
        clock.advance(TimeDelta::days(29));
        let heard = refresh(&rotating, &token).await;
        assert_eq!(heard.json()["refresh_token_expires_in"], json!(5_184_000));
        token = heard.member("refresh_token");
    }
}

#[tokio::test]
async fn a_provider_may_keep_a_token_that_would_rotate() {
    let (model, _) = rotating(Rotation::Strict).await;
    let token = model.authorise("shop", CLIENT);
    model.script("shop", [Fault::keeping_refresh_token(), Fault::without("refresh_token")]);
    let heard = refresh(&model, &token).await;
    assert_eq!((heard.status(), heard.json().get("refresh_token")), (200, None));
    assert_eq!(model.refresh_token("shop").as_ref(), Some(&token));
    // Of this one the caller learns as little, but its token is gone.
    let heard = refresh(&model, &token).await;
    assert_eq!((heard.status(), heard.json().get("refresh_token")), (200, None));
    assert_ne!(model.refresh_token("shop").as_ref(), Some(&token));
    assert_eq!(
        model.ledger().iter().map(|entry| entry.did).collect::<Vec<_>>(),
        [
            Did::Granted { access_token: 1, refresh_token: None },
            Did::Granted { access_token: 2, refresh_token: Some(2) }
        ]
    );
}

#[tokio::test]
async fn a_merchant_may_take_the_authorisation_back() {
    let (model, _) = rotating(Rotation::None).await;
    let token = model.authorise("shop", CLIENT);
    let access_token = refresh(&model, &token).await.member("access_token");
    model.revoke("shop");
    assert!(!model.is_valid(&access_token));
    assert_refused(&refresh(&model, &token).await);
    assert_eq!(model.ledger()[1].did, Did::Refused(Refusal::InvalidGrant));
    assert_eq!(model.reuse_detections("shop"), 0);
}

#[tokio::test]
async fn a_new_access_token_may_end_those_before_it() {
    let settings = Settings { one_access_token: true, ..Settings::new(Rotation::None) };
    let (model, _) = model(settings).await;
    let tokens = [model.authorise("shop", CLIENT), model.authorise("other shop", CLIENT)];
    let mut access_tokens = Vec::new();
    for token in [&tokens[0], &tokens[1], &tokens[0]] {
        access_tokens.push(refresh(&model, token).await.member("access_token"));
    }
    assert_eq!(
        access_tokens.iter().map(|token| model.is_valid(token)).collect::<Vec<_>>(),
        [false, true, true]
    );
    assert_eq!(model.access_tokens("shop"), [access_tokens[2].clone()]);
}
