//! Text that must never be shown.

use serde::{Deserialize, Deserializer};
use serde_json::Value;
use zeroize::{Zeroize, Zeroizing};

/// A secret: no `Debug`, no `Display`, no `Serialize`; its memory is zeroed when it is dropped.
///
/// The text comes out in one way only, [`Secret::expose`], so that every use can be found.
///
/// ```compile_fail
/// format!("{:?}", freshet_shared::domain::secret::Secret::new("a"));
/// ```
/// ```compile_fail
/// format!("{}", freshet_shared::domain::secret::Secret::new("a"));
/// ```
/// ```compile_fail
/// serde_json::to_string(&freshet_shared::domain::secret::Secret::new("a"));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text over.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself, for the request, the row or the cache entry that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether there is no text at all.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Length in characters, which may be shown.
    pub fn characters(&self) -> usize {
        self.0.chars().count()
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

/// JSON in which secrets may stand anywhere: no `Debug`, and every text in it is zeroed on drop.
pub struct SecretJson(Value);

impl SecretJson {
    /// Reads it.
    ///
    /// # Errors
    /// Of which only line and column may be shown: the rest of its words quotes the text.
    pub fn parse(bytes: &[u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(bytes).map(Self)
    }

    /// The value itself.
    pub fn expose(&self) -> &Value {
        &self.0
    }
}

impl Drop for SecretJson {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(members) => members.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
