//! Which request meets which fault.

use super::super::{Fault, RetryAfter, Rotation};
use super::raw::{refresh, request, send};
use super::{AUTHENTICATION, CLIENT, rotating};

#[tokio::test]
async fn an_accounts_own_script_goes_first_and_what_stands_comes_last() {
    let (model, _) = rotating(Rotation::None).await;
    let (shop, other) = (model.authorise("shop", CLIENT), model.authorise("other", CLIENT));
    let ask = async |token: &str| refresh(&model, token).await.status();
    model.set_standing_fault(Some(Fault::status(500)));
    model.script_next([Fault::status(501), Fault::status(502)]);
    model.script("shop", [Fault::status(503), Fault::none()]);
    model.script("shop", [Fault::rate_limited(RetryAfter::Absent)]);
    assert_eq!(model.unused_faults(), 5);
    assert_eq!((ask(&other).await, ask(&shop).await, ask(&shop).await), (501, 503, 200));
    assert_eq!((ask(&shop).await, ask(&shop).await, ask(&other).await), (429, 502, 500));
    assert_eq!(model.unused_faults(), 0);
    assert_eq!(ask(&shop).await, 500);
    model.set_standing_fault(None);
    assert_eq!((ask(&shop).await, ask(&other).await), (200, 200));
}

#[tokio::test]
async fn a_client_is_an_account_of_its_own() {
    let (model, _) = rotating(Rotation::None).await;
    let token = model.authorise("shop", CLIENT);
    model.script(CLIENT, [Fault::status(503)]);
    assert_eq!(
        refresh(&model, &token).await.status(),
        200,
        "a request with a refresh token is the merchant's"
    );
    let form = format!("grant_type=client_credentials&{AUTHENTICATION}");
    assert_eq!(send(&model, &request(&form, "")).await.status(), 503);
    assert_eq!((model.calls("shop"), model.calls(CLIENT)), (1, 1));
}
