//! Members of a JSON object, each sealed for itself, so that the column stays valid JSON.
//!
//! What is sealed is a member's JSON text, so that a number opens as a number; what stands in its place is a JSON string.
//! All the rest of the object's text stays as it was written, byte by byte.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use serde::Deserializer;
use serde::de::{MapAccess, Visitor};
use serde_json::value::RawValue;

use super::cipher::open_sealed;
use super::error::SealError;
use super::key_ring::KeyRing;
use super::place::Place;
use super::sealed_text::{self, MARK};
use crate::domain::secret::Secret;

/// Opens every sealed member of the JSON object that stands at this place. A text that is no JSON object comes back as
/// it is.
///
/// # Errors
/// Names the place with the member's key, the key's id, and what to do.
pub fn open_members(keys: Option<&KeyRing>, place: &Place<'_>, text: Secret) -> Result<Secret, SealError> {
    if !text.expose().contains(MARK) {
        return Ok(text);
    }
    let Some(members) = members(&text) else { return Ok(text) };
    let mut replacements = Vec::new();
    for member in &members {
        let place = place.member(&member.key);
        let Some(word) = member.word(&text) else { continue };
        if let Some(sealed) = sealed_text::parse(&place, &word) {
            replacements.push((member.range.clone(), open_sealed(keys, &place, &sealed?)?));
        }
    }
    Ok(replaced(&text, &replacements))
}

/// A member: its key, and where its value stands.
pub(super) struct Member {
    pub(super) key: String,
    pub(super) range: Range<usize>,
}

impl Member {
    /// The value as it is written.
    pub(super) fn raw<'a>(&self, text: &'a Secret) -> &'a str {
        text.expose().get(self.range.clone()).unwrap_or_default()
    }

    /// The value, where it is a string that might be sealed.
    pub(super) fn word<'a>(&self, text: &'a Secret) -> Option<Cow<'a, str>> {
        let raw = self.raw(text);
        if !raw.starts_with('"') || !raw.contains(MARK) {
            return None;
        }
        serde_json::from_str::<&str>(raw)
            .map(Cow::Borrowed)
            .or_else(|_| serde_json::from_str::<String>(raw).map(Cow::Owned))
            .ok()
    }
}

/// The members in the order of the text; `None` where it is no JSON object.
pub(super) fn members(text: &Secret) -> Option<Vec<Member>> {
    let text = text.expose();
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let members = deserializer.deserialize_map(Members { text }).ok()?;
    deserializer.end().ok()?;
    Some(members)
}

/// The text with other values at these ranges, which are in order.
pub(super) fn replaced(text: &Secret, replacements: &[(Range<usize>, Secret)]) -> Secret {
    let text = text.expose();
    let added: usize = replacements.iter().map(|(_, value)| value.expose().len()).sum();
    // Never more than this, so that no copy is left behind by growing.
    let mut new = String::with_capacity(text.len() + added);
    let mut done = 0;
    for (range, value) in replacements {
        new.push_str(text.get(done..range.start).unwrap_or_default());
        new.push_str(value.expose());
        done = range.end;
    }
    new.push_str(text.get(done..).unwrap_or_default());
    Secret::new(new)
}

struct Members<'a> {
    text: &'a str,
}

impl<'a> Visitor<'a> for Members<'a> {
    type Value = Vec<Member>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = map.next_entry::<String, &'a RawValue>()? {
            // The value is a slice of the text.
            let start = value.get().as_ptr() as usize - self.text.as_ptr() as usize;
            members.push(Member { key, range: start..start + value.get().len() });
        }
        Ok(members)
    }
}
