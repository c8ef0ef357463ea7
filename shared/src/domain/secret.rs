//! Text that must never be shown.

use serde::{Deserialize, Deserializer};
use zeroize::Zeroizing;

/// A secret: no `Debug`, no `Display`, no `Serialize`; its memory is zeroed when it is dropped.
///
/// The text comes out in one way only, [`Secret::expose`], so that every use can be found.
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
