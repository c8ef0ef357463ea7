//! A merchant's sales channel on a marketplace: a row of `channels`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The four members of a channel that other systems read, in the form in which the cache holds them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// `channels.id`.
    pub id: i64,
    /// `channels.account_id`; a number or a text, as the platform keeps it.
    pub account_id: Value,
    /// `channels.channel_id`; a number or a text, as the platform keeps it.
    pub channel_id: Value,
    /// `channels.additionalDetails`.
    #[serde(rename = "additionalDetails")]
    pub additional_details: Value,
}

/// The value of `connectionDetail_{connectionId}`: a JSON array of the rows in id order.
pub fn details(channels: &[Channel]) -> String {
    // Plain JSON values always have a JSON form.
    serde_json::to_string(channels).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn details_are_an_array_with_the_contracts_members() {
        let channel = Channel {
            id: 5,
            account_id: json!(7),
            channel_id: json!("main"),
            additional_details: json!({"b": 1, "a": null}),
        };
        assert_eq!(
            details(&[channel]),
            r#"[{"id":5,"account_id":7,"channel_id":"main","additionalDetails":{"a":null,"b":1}}]"#
        );
        assert_eq!(details(&[]), "[]");
    }
}
