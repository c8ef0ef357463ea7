//! `inputFields`: what the merchant entered, as JSON.

use serde_json::Value;

use super::failure::{Failure, FailureClass};
use super::secret::{Secret, SecretJson};

/// The members of `inputFields`. They hold secrets, so there is no `Debug`, and they are zeroed on drop.
pub struct InputFields(SecretJson);

impl InputFields {
    /// Reads the column.
    ///
    /// # Errors
    /// [`FailureClass::Misconfigured`] where it is NULL, not JSON, or not an object; the text is not quoted.
    pub fn parse(column: Option<&Secret>) -> Result<Self, Failure> {
        let misconfigured = |detail: String| Failure::new(FailureClass::Misconfigured, detail);
        let Some(column) = column else {
            return Err(misconfigured(
                "inputFields is NULL: the merchant has to enter the account's fields".into(),
            ));
        };
        match SecretJson::parse(column.expose().as_bytes()) {
            Ok(fields) if fields.expose().is_object() => Ok(Self(fields)),
            Ok(_) => Err(misconfigured(
                "inputFields is JSON but not an object: store it as {\"key\": value}".into(),
            )),
            Err(error) => Err(misconfigured(format!(
                "inputFields is not JSON (line {}, column {}): correct the row",
                error.line(),
                error.column()
            ))),
        }
    }

    /// A member as text: a string as it is, a number or a truth value in its JSON form. `None` where it is missing,
    /// null, empty, or not a plain value.
    pub fn text(&self, key: &str) -> Option<Secret> {
        match self.0.expose().get(key)? {
            Value::String(text) if !text.is_empty() => Some(Secret::new(text.as_str())),
            Value::Number(number) => Some(Secret::new(number.to_string())),
            Value::Bool(flag) => Some(Secret::new(flag.to_string())),
            Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_members_are_text_and_others_are_missing() {
        let fields = InputFields::parse(Some(&Secret::new(
            r#"{"text":"a","number":850135,"flag":true,"null":null,"empty":"","object":{}}"#,
        )))
        .ok()
        .unwrap();
        let text = |key| fields.text(key).map(|secret| secret.expose().to_owned());
        assert_eq!(text("text").as_deref(), Some("a"));
        assert_eq!(text("number").as_deref(), Some("850135"));
        assert_eq!(text("flag").as_deref(), Some("true"));
        for key in ["null", "empty", "object", "absent"] {
            assert_eq!(text(key), None, "{key}");
        }
    }

    #[test]
    fn what_is_not_an_object_is_misconfigured_and_not_quoted() {
        for (column, part) in [
            (None, "NULL"),
            (Some(""), "not JSON"),
            (Some("{\"password\":\"s3cret"), "not JSON"),
            (Some("\"s3cret\""), "not an object"),
            (Some("[]"), "not an object"),
        ] {
            let secret = column.map(Secret::new);
            let failure = InputFields::parse(secret.as_ref()).err().unwrap();
            assert_eq!(failure.class, FailureClass::Misconfigured);
            assert!(failure.detail.contains(part), "{failure}");
            assert!(!failure.detail.contains("s3cret"), "{failure}");
        }
    }
}
