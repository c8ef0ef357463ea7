//! Values that must be seen nowhere, in every form in which they travel.

use anyhow::{Context, Result};
use freshet_tests::fleet::{FYND, NewConnection, TestFleet, VERY};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

/// A fleet of Fynd's and Very's connections, due in both lanes, whose every value is recognisable.
pub(super) async fn add(fleet: &TestFleet) -> Result<Vec<i64>> {
    let connections = [(1, FYND, 300), (2, FYND, 1_200), (3, VERY, -60), (4, VERY, 1_500)];
    for (id, integration_type, expires_in) in connections {
        let one = NewConnection::fynd(id, expires_in);
        fleet
            .add([NewConnection { integration_type, input_fields: Some(input(id).to_string()), ..one }])
            .await?;
        fleet
            .execute(
                "UPDATE ie_appinstall_connection SET accessToken = ?, refreshToken = ?, authorizationCode = ? WHERE id = ?",
                [old(id, "access").into(), old(id, "refresh").into(), old(id, "code").into(), id.into()],
            )
            .await?;
    }
    Ok(connections.map(|(id, ..)| id).to_vec())
}

fn input(id: i64) -> Value {
    if id < 3 {
        json!({"x-integration-id": secret(id, "user"), "x-integration-token": secret(id, "password")})
    } else {
        json!({
            "useSandbox": false, "companyRefId": secret(id, "company"), "apiKey": secret(id, "key"),
            "clientId": secret(id, "client"), "clientSecret": secret(id, "secret")
        })
    }
}

/// Needs encoding in a query and in a form, and differently in each.
fn secret(id: i64, what: &str) -> String {
    format!("canary {what}/{id}+&%=~end")
}

fn old(id: i64, what: &str) -> String {
    format!("canary-old-{what}-{id}")
}

/// All forms of all values of these connections, their new tokens included.
pub(super) async fn forms(fleet: &TestFleet, ids: &[i64]) -> Result<Vec<String>> {
    let mut forms = Vec::new();
    for id in ids {
        for what in ["user", "password", "company", "key", "client", "secret"] {
            let raw = secret(*id, what);
            let encoded = utf8_percent_encode(&raw, NON_ALPHANUMERIC).to_string();
            let unreserved = encoded.replace("%7E", "~");
            let form = encoded.replace("%20", "+");
            forms.extend([form.replace("%7E", "~"), form, unreserved, encoded, raw]);
        }
        forms.extend(["access", "refresh", "code"].map(|what| old(*id, what)));
        forms.push(fleet.stored(*id).await?.access_token.context("no token")?);
    }
    // As a client's log shows a value that it takes for bytes.
    let decimal: Vec<_> =
        forms.iter().map(|form| format!("{:?}", form.as_bytes()).replace(['[', ']'], "")).collect();
    forms.extend(decimal);
    Ok(forms)
}

/// Those of `canaries` that stand in `bytes`.
pub(super) fn found<'a>(canaries: &'a [String], bytes: &[u8]) -> Vec<&'a str> {
    let found = canaries
        .iter()
        .filter(|canary| bytes.windows(canary.len()).any(|window| window == canary.as_bytes()));
    found.map(String::as_str).collect()
}

#[test]
fn a_canary_is_found_in_every_form() {
    let forms = ["canary key/1+&%=~end".to_owned(), "canary+key%2F1%2B%26%25%3D~end".to_owned()];
    let seen = |bytes: &[u8]| found(&forms, bytes).len();
    assert_eq!(seen(b"GET /?p=canary+key%2F1%2B%26%25%3D~end HTTP"), 1);
    assert_eq!(seen(b"\x00canary key/1+&%=~end\x00canary+key%2F1%2B%26%25%3D~end"), 2);
    assert_eq!(seen(b"canary key/2+&%=~end"), 0);
}
