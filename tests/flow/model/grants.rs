//! Answers that are odd and good: what is taken from them.

use std::time::Duration;

use anyhow::Result;
use chrono::TimeDelta;
use freshet_tests::fleet::now;
use freshet_tests::model_provider::{Fault, Rotation, Successor};
use serde_json::json;

use super::exchange::{ACCOUNT, Exchange, PATIENT};

#[tokio::test]
async fn an_odd_answer_with_a_token_is_a_grant() -> Result<()> {
    let leeway = Rotation::Leeway { window: TimeDelta::seconds(60), again: Successor::Same };
    let hour = TimeDelta::hours(1);
    // What cannot be read is taken to be short: a token that is renewed too soon loses nothing, a refusal would lose the
    // refresh token.
    let cautious = TimeDelta::minutes(10);
    for (name, fault, rotation, lifetime) in [
        ("plain", Fault::none(), Rotation::None, hour),
        ("rotating", Fault::none(), Rotation::Strict, hour),
        ("rotating with a leeway", Fault::none(), leeway, hour),
        ("by the wrong name", Fault::content_type("text/html"), Rotation::Strict, hour),
        ("drop by drop", Fault::drip(Duration::from_micros(200)), Rotation::Strict, hour),
        ("late", Fault::none().after(Duration::from_millis(200)), Rotation::Strict, hour),
        ("large", Fault::huge(200_000), Rotation::Strict, hour),
        ("large and announced", Fault::huge_announced(200_000), Rotation::Strict, hour),
        ("without a refresh token", Fault::keeping_refresh_token(), Rotation::Strict, hour),
        ("a life in a text", Fault::expires_in(json!("1800")), Rotation::None, TimeDelta::minutes(30)),
        (
            "a life with a fraction",
            Fault::expires_in(json!(1800.9)),
            Rotation::None,
            TimeDelta::milliseconds(1_800_900),
        ),
        ("no lifetime", Fault::without("expires_in"), Rotation::Strict, cautious),
        ("no life", Fault::expires_in(json!(0)), Rotation::Strict, cautious),
        ("eternity", Fault::expires_in(json!(1e300)), leeway, cautious),
        ("a word", Fault::expires_in(json!("soon")), Rotation::Strict, cautious),
    ] {
        let begun = now();
        let exchange = Exchange::meet(fault, rotation, PATIENT).await?;
        let grant = exchange.grant(name)?;
        let model = &exchange.model;
        assert!(model.is_valid(grant.access_token.expose()), "{name}");
        assert_eq!(grant.lifetime, Some(lifetime), "{name}");
        let expires_at = grant.expires_at.unwrap_or_default();
        // From before the request, in whole seconds, never too long.
        assert!(
            expires_at > begun + lifetime - TimeDelta::seconds(1) && expires_at <= now() + lifetime,
            "{name}"
        );
        let named = grant.refresh_token.as_ref().map(|token| token.expose().to_owned());
        if rotation == Rotation::None || name == "without a refresh token" {
            assert_eq!(named, None, "{name}: the old one stays");
        } else {
            assert_eq!(named, model.refresh_token(ACCOUNT), "{name}");
        }
        assert_eq!(
            (model.calls(ACCOUNT), model.grants(ACCOUNT), model.reuse_detections(ACCOUNT)),
            (1, 1, 0),
            "{name}"
        );
    }
    Ok(())
}
